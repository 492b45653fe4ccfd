package operator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weirnet/weir/core/cluster"
)

var goodSpec = map[string]any{"endpointSelector": map[string]any{}, "ingress": []any{map[string]any{"fromEndpoints": []any{map[string]any{}}}}}

func policyDoc(kind, name string, spec map[string]any) map[string]any {
	return map[string]any{"apiVersion": "cilium.io/v2", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec}
}

func condition(u *unstructured.Unstructured) map[string]any {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range list {
		if m := c.(map[string]any); m["type"] == conditionValid {
			return m
		}
	}
	return nil
}

// valid waits for a status, and a message that holds some words.
func (r *rig) valid(gvr schema.GroupVersionResource, ns, name, status string, words ...string) string {
	r.t.Helper()
	c := condition(r.get(gvr, ns, name))
	if c == nil {
		return "no condition"
	}
	for _, w := range words {
		if !strings.Contains(c["message"].(string), w) {
			return fmt.Sprintf("message %q lacks %q", c["message"], w)
		}
	}
	return want(c["status"].(string), status)
}

func TestPolicyStatus(t *testing.T) {
	r := newRig(t)
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "good", goodSpec))
	r.create(ciliumClusterPolicies, "", policyDoc("CiliumClusterwideNetworkPolicy", "good", goodSpec))
	// What the schema can't know: IP version of an ICMP type's name and the like are not in it.
	bad := map[string]any{"endpointSelector": map[string]any{}, "egress": []any{
		map[string]any{"toCIDRSet": []any{map[string]any{"cidr": "10.0.0.0/24", "except": []any{"10.1.0.0/24"}}}},
		map[string]any{"toCIDRSet": []any{map[string]any{"cidr": "10.0.0.0/24", "except": []any{"10.2.0.0/24"}}}},
	}}
	warn := map[string]any{"endpointSelector": map[string]any{}, "ingress": []any{}, "egress": []any{map[string]any{"toEntities": []any{"world"}}}}
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "warn", warn))
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "bad", bad))
	partly := map[string]any{"endpointSelector": map[string]any{}, "egress": []any{map[string]any{"toFQDNs": []any{map[string]any{"matchName": "example.com"}}}}}
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "partly", partly))
	op := r.operator()
	r.eventually(func() string {
		return r.valid(ciliumPolicies, "default", "partly", "True", "Policy validation succeeded; warning: spec.egress[0].toFQDNs: grants nothing until weir enforces rules by DNS name")
	})
	r.eventually(func() string {
		return r.valid(ciliumPolicies, "default", "good", "True", "Policy validation succeeded")
	})
	r.eventually(func() string { return r.valid(ciliumClusterPolicies, "", "good", "True") })
	r.eventually(func() string { return r.valid(ciliumPolicies, "default", "warn", "True", "; warning: spec.ingress: ") })
	r.eventually(func() string {
		return r.valid(ciliumPolicies, "default", "bad", "False", "spec.egress[0].toCIDRSet[0].except[0]", "spec.egress[1].toCIDRSet[0].except[0]")
	})
	require.Equal(t, reasonValid, condition(r.get(ciliumPolicies, "default", "good"))["reason"])
	require.Equal(t, reasonWarnings, condition(r.get(ciliumPolicies, "default", "warn"))["reason"])
	require.Equal(t, reasonInvalid, condition(r.get(ciliumPolicies, "default", "bad"))["reason"])

	// A change is judged, others' conditions stay, and nothing is written twice.
	r.patch(ciliumPolicies, "default", "bad", `{"status":{"conditions":[{"type":"Theirs","status":"True"}]}}`, "status")
	r.eventually(func() string { return r.valid(ciliumPolicies, "default", "bad", "False") })
	r.patch(ciliumPolicies, "default", "bad", `{"spec":{"egress":[{"toEntities":["world"]}]}}`)
	r.eventually(func() string { return r.valid(ciliumPolicies, "default", "bad", "True") })
	list, _, _ := unstructured.NestedSlice(r.get(ciliumPolicies, "default", "bad").Object, "status", "conditions")
	require.Len(t, list, 2)
	r.stop(op)
	before := r.get(ciliumPolicies, "default", "bad").GetResourceVersion()
	r.operator()
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "later", goodSpec))
	r.eventually(func() string { return r.valid(ciliumPolicies, "default", "later", "True") })
	require.Equal(t, before, r.get(ciliumPolicies, "default", "bad").GetResourceVersion())
}

func TestMissingCIDRGroupIsAWarning(t *testing.T) {
	r := newRig(t)
	spec := map[string]any{"endpointSelector": map[string]any{}, "ingress": []any{map[string]any{"fromCIDRSet": []any{map[string]any{"cidrGroupRef": "partners"},
		map[string]any{"cidrGroupSelector": map[string]any{"matchLabels": map[string]any{"kind": "office"}}}}}}}
	r.create(ciliumPolicies, "default", policyDoc("CiliumNetworkPolicy", "p", spec))
	r.operator()
	message := func() string {
		c := condition(r.get(ciliumPolicies, "default", "p"))
		if c == nil {
			return ""
		}
		return c["message"].(string)
	}
	const missing = "warning: spec.ingress[0].fromCIDRSet[0].cidrGroupRef: CiliumCIDRGroup partners does not exist"
	const none = "warning: spec.ingress[0].fromCIDRSet[1].cidrGroupSelector: selects no CiliumCIDRGroup"
	says := func(ref, labels bool) {
		r.eventually(func() string {
			return want(fmt.Sprint(strings.Contains(message(), missing), strings.Contains(message(), none)), fmt.Sprint(ref, labels))
		})
	}
	says(true, true)
	require.Equal(t, "True", condition(r.get(ciliumPolicies, "default", "p"))["status"])
	require.Equal(t, reasonWarnings, condition(r.get(ciliumPolicies, "default", "p"))["reason"])
	r.create(ciliumCIDRGroups, "", map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumCIDRGroup", "metadata": map[string]any{"name": "partners"},
		"spec": map[string]any{"externalCIDRs": []any{"192.0.2.0/24"}}})
	says(false, true)
	r.patch(ciliumCIDRGroups, "", "partners", `{"metadata":{"labels":{"kind":"office"}}}`)
	says(false, false)
	r.patch(ciliumCIDRGroups, "", "partners", `{"metadata":{"labels":{"kind":"home"}}}`)
	says(false, true)
	r.delete(ciliumCIDRGroups, "", "partners")
	says(true, true)
}

func TestVerdict(t *testing.T) {
	many := make([]cluster.Finding, 1000)
	for i := range many {
		many[i] = cluster.Finding{Object: "CiliumNetworkPolicy a/b", Field: fmt.Sprintf("spec.ingress[%d]", i), Message: "is wrong"}
	}
	_, _, message := verdict(false, many)
	require.Less(t, len(message), maxMessage+100)
	require.Contains(t, message, "spec.ingress[0]: is wrong; spec.ingress[1]: is wrong")
	require.Regexp(t, `; and \d+ more$`, message)
	require.NotContains(t, message, "a/b", "the object stands above it")
	_, _, message = verdict(false, []cluster.Finding{{Message: "w", Warning: true}, {Message: "f"}})
	require.Equal(t, "f; warning: w", message)
	status, reason, message := verdict(true, []cluster.Finding{{Field: "spec.egress[0].toFQDNs", Message: "grants nothing", Warning: true}})
	require.Equal(t, []string{"True", reasonWarnings, "Policy validation succeeded; warning: spec.egress[0].toFQDNs: grants nothing"}, []string{status, reason, message})
	status, reason, _ = verdict(true, nil)
	require.Equal(t, []string{"True", reasonValid}, []string{status, reason})
}

func TestSetCondition(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, changed := setCondition(nil, "True", "R", "m", now)
	require.True(t, changed)
	_, changed = setCondition(first, "True", "R", "m", now.Add(time.Hour))
	require.False(t, changed)
	second, changed := setCondition(first, "True", "R", "other", now.Add(time.Hour))
	require.True(t, changed)
	require.Equal(t, "2026-01-01T00:00:00Z", second[0].(map[string]any)["lastTransitionTime"], "the status is the same")
	third, _ := setCondition(second, "False", "R", "other", now.Add(time.Hour))
	require.Equal(t, "2026-01-01T01:00:00Z", third[0].(map[string]any)["lastTransitionTime"])
	require.Equal(t, "True", first[0].(map[string]any)["status"], "what was given is not changed")
}
