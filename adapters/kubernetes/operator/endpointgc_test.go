package operator

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weirnet/weir/core/manifest"
)

var ciliumIdentities = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumidentities"}

// endpoint is a CiliumEndpoint; owner is its pod, if it names one.
func endpoint(name, addr, node string, owner *corev1.Pod) map[string]any {
	meta := map[string]any{"name": name}
	if node != "" {
		meta["annotations"] = map[string]any{manifest.NodeAnnotation: node}
	}
	if owner != nil {
		meta["ownerReferences"] = []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": string(owner.UID)}}
	}
	return map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": meta,
		"status": map[string]any{"id": int64(7), "state": "ready", "identity": map[string]any{"id": int64(4000)},
			"networking": map[string]any{"addressing": []any{map[string]any{"ipv4": addr}}, "node": "192.0.2.1"}}}
}

func identityDoc(number string) map[string]any {
	return map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumIdentity", "metadata": map[string]any{"name": number},
		"security-labels": map[string]any{"k8s:app": "nobody", "k8s:io.kubernetes.pod.namespace": "default"}}
}

func (r *rig) phase(ns, name, phase string) {
	r.t.Helper()
	r.patch(corePods, ns, name, fmt.Sprintf(`{"status":{"phase":%q}}`, phase), "status")
}

// Endpoints whose pod is gone, is another one or has ended go, and those of nodes that are gone for a while; the
// others stay.
func TestEndpointGC(t *testing.T) {
	r := newRig(t)
	r.node("n1")
	here := func(name, addr, node string, owner *corev1.Pod) {
		r.create(ciliumEndpoints, "default", endpoint(name, addr, node, owner))
	}
	alive := r.pod("default", "alive", "n1", nil)
	here("alive", "10.0.0.1", "n1", alive)
	r.pod("default", "unowned", "n1", nil)
	here("unowned", "10.0.0.2", "", nil)
	here("no-pod", "10.0.0.3", "n1", nil)
	again := r.pod("default", "again", "n1", nil)
	r.delete(corePods, "default", "again")
	r.pod("default", "again", "n1", nil)
	here("again", "10.0.0.4", "n1", again)
	done := r.pod("default", "done", "n1", nil)
	r.phase("default", "done", "Succeeded")
	here("done", "10.0.0.5", "n1", done)
	lost := r.pod("default", "lost", "n0", nil)
	here("lost", "10.0.0.6", "n0", lost)

	begin := time.Now()
	r.operator("cilium-endpoint-gc-interval=2s")
	for _, name := range []string{"no-pod", "again", "done"} {
		r.eventually(func() string { return want(r.get(ciliumEndpoints, "default", name) == nil, true) })
	}
	r.eventually(func() string { return want(r.get(ciliumEndpoints, "default", "lost") == nil, true) })
	if time.Since(begin) < 2*time.Second {
		t.Error("the endpoint of a node that may come back went at once")
	}
	r.never(2*time.Second, func() string {
		for _, name := range []string{"alive", "unowned"} {
			if r.get(ciliumEndpoints, "default", name) == nil {
				return name + " was removed"
			}
		}
		return ""
	})
}

// The word of a list alone removes nothing: pods are asked for by name before.
func TestEndpointGCDoesNotTrustLists(t *testing.T) {
	r := newRig(t)
	op := r.named("a", "cilium-endpoint-gc-interval=1h")
	r.eventually(r.leads(op))
	p := r.pod("default", "alive", "n1", nil)
	e := r.create(ciliumEndpoints, "default", endpoint("alive", "10.0.0.1", "", p))
	api, err := newClients(op.rest, op.election.mayWrite)
	if err != nil {
		t.Fatal(err)
	}
	g := &endpointGC{op: op, clients: api, log: op.log, absent: map[string]time.Time{}}
	meta := identity(e)
	meta.OwnerReferences = e.GetOwnerReferences()
	nothing := g.judge(r.ctx, &meta, nil, map[string]time.Time{}, time.Now()) // a list without any pod
	if nothing != nil || r.get(ciliumEndpoints, "default", "alive") == nil {
		t.Fatalf("removed the endpoint of a living pod: %v", nothing)
	}
	// And what changed since the list was read is not removed either.
	r.delete(corePods, "default", "alive")
	r.patch(ciliumEndpoints, "default", "alive", `{"status":{"id":8}}`)
	if err := g.judge(r.ctx, &meta, nil, map[string]time.Time{}, time.Now()); err != nil || r.get(ciliumEndpoints, "default", "alive") == nil {
		t.Fatalf("removed an endpoint that was written meanwhile: %v", err)
	}
}

// Identities without endpoints are retired, those with one are not.
func TestIdentityGC(t *testing.T) {
	r := newRig(t)
	r.create(ciliumIdentities, "", identityDoc("4711"))
	used := identityDoc("4000")
	used["security-labels"].(map[string]any)["k8s:app"] = "used"
	r.create(ciliumIdentities, "", used)
	p := r.pod("default", "a", "n1", nil)
	r.create(ciliumEndpoints, "default", endpoint("a", "10.0.0.1", "", p))
	r.operator("identity-gc-interval=1s", "identity-heartbeat-timeout=1s")
	retired := func(name string) bool {
		i := r.get(ciliumIdentities, "", name)
		return i == nil || i.GetAnnotations()["weir.io/retired-since"] != ""
	}
	r.eventually(func() string { return want(retired("4711"), true) })
	if retired("4000") {
		t.Error("an identity in use was retired")
	}
}
