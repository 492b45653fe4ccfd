package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// The condition that tells a policy's author what became of it, and its reasons.
const (
	conditionValid = "Valid"
	reasonValid    = "Accepted"
	reasonWarnings = "AcceptedWithWarnings"
	reasonInvalid  = "Refused"
)

// maxMessage bounds a condition's message, in bytes: who reads it reads no more.
const maxMessage = 8 << 10

// policyObject is what matters of a policy: not its rules but what is to be said of them, and what is said.
type policyObject struct {
	metav1.ObjectMeta
	valid      bool
	findings   []cluster.Finding
	groups     []manifest.GroupUse // where it stands for CIDR groups
	conditions []any               // as they stand in its status
}

// groupObject is a CIDR group: here its existence and its labels matter.
type groupObject struct{ metav1.ObjectMeta }

func convertGroup(o runtime.Object) (*groupObject, error) {
	m, ok := o.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("%T has no name", o)
	}
	g := &groupObject{identity(m)}
	g.Labels = m.GetLabels()
	return g, nil
}

func convertPolicy(o runtime.Object) (*policyObject, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("want a policy, got %T", o)
	}
	p := &policyObject{ObjectMeta: identity(u)}
	p.conditions, _, _ = unstructured.NestedSlice(u.Object, "status", "conditions")
	doc := map[string]any{"apiVersion": u.Object["apiVersion"], "kind": u.Object["kind"]}
	for _, part := range []string{"metadata", "spec", "specs"} {
		if v, ok := u.Object[part]; ok {
			doc[part] = v
		}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	object, findings := manifest.Decode("", body)
	p.valid, p.findings, p.groups = object.Valid(), findings, object.GroupUses()
	return p, nil
}

// policyDuty keeps the condition Valid of one kind of policies.
type policyDuty struct {
	log      *slog.Logger
	clients  *clients
	resource schema.GroupVersionResource
	policies *view[*policyObject]
	groups   *view[*groupObject]
	queue    *queue
}

func newPolicyDuty(op *Operator, c *clients, resource schema.GroupVersionResource, policies *view[*policyObject], groups *view[*groupObject]) (*policyDuty, error) {
	d := &policyDuty{log: op.log.With("duty", "policies"), clients: c, resource: resource, policies: policies, groups: groups, queue: newQueue(resource.Resource, op.metrics)}
	if err := policies.changed(func(p *policyObject) { d.queue.Add(keyOf(p)) }); err != nil {
		return nil, err
	}
	return d, groups.changed(func(g *groupObject) {
		for _, p := range policies.list() {
			if slices.ContainsFunc(p.groups, func(u manifest.GroupUse) bool { return u.Means(g.Name, g.Labels) }) {
				d.queue.Add(keyOf(p))
			}
		}
	})
}

func keyOf(o metav1.Object) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

func (d *policyDuty) run(ctx context.Context) { d.queue.work(ctx, d.log, d.reconcile) }

func (d *policyDuty) reconcile(ctx context.Context, key string) error {
	p, ok := d.policies.get(key)
	if !ok {
		return nil
	}
	findings := p.findings
	if len(p.groups) > 0 {
		groups := d.groups.list()
		for _, u := range p.groups {
			if !slices.ContainsFunc(groups, func(g *groupObject) bool { return u.Means(g.Name, g.Labels) }) {
				findings = append(slices.Clip(findings), u.Missing())
			}
		}
	}
	status, reason, message := verdict(p.valid, findings)
	conditions, changed := setCondition(p.conditions, status, reason, message, time.Now())
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": version(p), "status": map[string]any{"conditions": conditions}})
	if err != nil {
		return err
	}
	_, err = d.clients.dynamic.Resource(d.resource).Namespace(p.Namespace).
		Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: manager}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("write status of %s %s: %w", d.resource.Resource, key, err)
	}
	return nil
}

// verdict puts into words what is to be said of a policy: faults first, then warnings.
func verdict(valid bool, findings []cluster.Finding) (status, reason, message string) {
	var faults, warnings []string
	for _, f := range findings {
		f.File, f.Object = "", "" // the condition stands on the object
		if f.Warning {
			warnings = append(warnings, "warning: "+f.String())
		} else {
			faults = append(faults, f.String())
		}
	}
	switch {
	case !valid:
		return "False", reasonInvalid, sentences(append(faults, warnings...))
	case len(warnings) > 0:
		return "True", reasonWarnings, sentences(append([]string{"Policy validation succeeded"}, warnings...))
	}
	return "True", reasonValid, "Policy validation succeeded"
}

// sentences joins as many as there is room for, and says how many there are besides.
func sentences(list []string) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 && b.Len()+len(s) > maxMessage {
			fmt.Fprintf(&b, "; and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(s)
	}
	return b.String()
}

// setCondition returns conditions in which Valid is as it should be, and whether that is new. Others' conditions
// stay. The time is that of the last change of the status.
func setCondition(have []any, status, reason, message string, now time.Time) (conditions []any, changed bool) {
	want := map[string]any{"type": conditionValid, "status": status, "reason": reason, "message": message,
		"lastTransitionTime": now.UTC().Format(time.RFC3339)}
	at := slices.IndexFunc(have, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == conditionValid
	})
	if at < 0 {
		return append(slices.Clip(have), want), true
	}
	old := have[at].(map[string]any)
	if old["status"] == status {
		if old["reason"] == reason && old["message"] == message {
			return have, false
		}
		if since, ok := old["lastTransitionTime"].(string); ok && since != "" {
			want["lastTransitionTime"] = since
		}
	}
	conditions = slices.Clone(have)
	conditions[at] = want
	return conditions, true
}
