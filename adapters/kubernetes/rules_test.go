package kubernetes

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports/porttest"
)

// bound makes a service account that may do what the rules say and no more.
func (a *api) bound(name string, rules []Rule) *rest.Config {
	a.t.Helper()
	config := a.cluster.ServiceAccount(a.t, "kube-system", name)
	var list []any
	for _, r := range rules {
		list = append(list, map[string]any{"apiGroups": []string{r.Group}, "resources": []string{r.Resource}, "verbs": r.Verbs})
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	for path, o := range map[string]any{
		"clusterroles": map[string]any{"kind": "ClusterRole", "rules": list},
		"clusterrolebindings": map[string]any{
			"kind":     "ClusterRoleBinding",
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
			"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": "kube-system", "name": name}},
		},
	} {
		m := o.(map[string]any)
		m["apiVersion"], m["metadata"] = "rbac.authorization.k8s.io/v1", map[string]any{"name": name}
		body, err := json.Marshal(m)
		require.NoError(a.t, err)
		a.do("PATCH", rbac+path+"/"+name+"?fieldManager=test&force=true", "application/apply-patch+yaml", body)
	}
	return config
}

// verbs lists what rules allow, as wire.seen does.
func verbs(rules []Rule) (out []string) {
	for _, r := range rules {
		for _, v := range r.Verbs {
			out = append(out, v+" "+r.Resource)
		}
	}
	slices.Sort(out)
	return out
}

// An agent works with exactly its rules, and uses each.
func TestAgentHasLeastPrivilege(t *testing.T) {
	a, c := server(t), newClock()
	a.apply(everything())
	o := Options{Node: "n1", Now: c.time}
	config, wire := wired(a.bound("agent", Rules(o)))
	o.Config = config
	s := a.open(o)
	eventually(t, "the role is known", func() bool { _, err := s.Allocate(t.Context(), app(9)); return err == nil })
	ctx := t.Context()
	require.NoError(t, s.PublishNode(ctx, theNode())) // reads the Node, which the watch did not tell of
	w := porttest.WatchSource(t, s)
	assertKinds(t, w.Eventually(t, "Synced", synced))
	assert.Empty(t, s.Findings())
	e := theEndpoint(a.get(manifest.KindPod, "shop", "web").text("metadata", "uid"))
	var err error
	e.Identity, err = s.Allocate(ctx, app(1))
	require.NoError(t, err)
	c.advance(time.Hour)
	_, err = s.Allocate(ctx, app(1)) // marks
	require.NoError(t, err)
	s.narrow(1) // takes over what rested
	collector := a.open(Options{Operator: true, Now: c.time})
	collector.narrow(1)
	_, err = s.Allocate(ctx, app(2))
	require.NoError(t, err)
	c.advance(time.Hour)
	_, err = collector.Collect(ctx, time.Minute)
	require.NoError(t, err)
	c.advance(time.Hour)
	_, err = s.Allocate(ctx, app(3))
	require.NoError(t, err)
	require.NoError(t, s.PublishEndpoint(ctx, e))
	require.NoError(t, s.WithdrawEndpoint(ctx, e.Name, "n1"))
	r := NewReporter(s, nil)
	k := subject{pod: cluster.Name{Namespace: "shop", Name: "web"}, reason: ReasonPolicyDenied}
	now := time.Now()
	r.now = func() time.Time { return now }
	r.count(k, "one", now)
	r.write(ctx)
	r.count(k, "two", now)
	now = now.Add(2 * EventInterval)
	r.write(ctx)
	require.Equal(t, 2, r.counts[k].written)

	// What is applied has to be allowed to be made as well.
	used := append(slices.Clone(wire.seen), "create ciliumnodes", "create ciliumendpoints")
	// Lists are streamed here; servers that don't are asked for pages.
	for _, k := range kinds(o) {
		used = append(used, "list "+k.resource)
	}
	slices.Sort(used)
	assert.Equal(t, verbs(Rules(o)), slices.Compact(used))
}

func assertKinds(t *testing.T, k porttest.Known) {
	t.Helper()
	assert.Len(t, k.Pods, 1)
	assert.Len(t, k.Policies, 3)
	assert.NotEmpty(t, k.Endpoints)
}

// An operator collects with exactly its rules, and uses each.
func TestOperatorHasLeastPrivilege(t *testing.T) {
	a, c := server(t), newClock()
	agent := a.open(Options{Now: c.time})
	o := Options{Operator: true, Now: c.time, Manager: ManagerOperator}
	config, wire := wired(a.bound("operator", Rules(o)))
	o.Config = config
	s := a.open(o)
	_, err := agent.Allocate(t.Context(), app(1))
	require.NoError(t, err)
	eventually(t, "the role is known", func() bool { _, err := s.Collect(t.Context(), time.Minute); return err == nil })
	for range 3 {
		c.advance(time.Hour)
		_, err := s.Collect(t.Context(), time.Minute)
		require.NoError(t, err)
	}
	assert.Empty(t, stored(t, agent))
	assert.Equal(t, verbs(Rules(o)), wire.seen)
}

func TestRulesNameNoResourceTwice(t *testing.T) {
	for _, o := range []Options{{}, {EndpointSlices: true}, {Operator: true}} {
		seen := map[string]bool{}
		for _, r := range Rules(o) {
			name := strings.Join([]string{r.Group, r.Resource}, "/")
			assert.False(t, seen[name], name)
			seen[name] = true
			assert.NotContains(t, r.Verbs, "*")
		}
	}
}
