package kubernetes

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports/porttest"
)

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// define installs a definition that takes everything, and waits until it is in effect.
func (a *api) define(group, version, plural, kind string) (path string) {
	a.t.Helper()
	a.do("POST", definitions, "application/json", []byte(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
		"metadata":{"name":"`+plural+"."+group+`","annotations":{"api-approved.kubernetes.io":"unapproved, a test"}},
		"spec":{"group":"`+group+`","scope":"Cluster","names":{"plural":"`+plural+`","kind":"`+kind+`"},
		"versions":[{"name":"`+version+`","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`))
	path = "/apis/" + group + "/" + version + "/" + plural
	a.served(path, true)
	return path
}

// served waits until a path is served, or no more.
func (a *api) served(path string, want bool) {
	a.t.Helper()
	eventually(a.t, "what "+path+" answers", func() bool {
		_, code, err := a.try("GET", path, "", nil)
		return err == nil && (code == http.StatusOK) == want && (want || code == http.StatusNotFound)
	})
}

// The definitions of the policies for administrators are the users' to install, or not: without them there are no such
// policies, with them there are those that there are, and when a definition goes its policies go.
func TestOptionalDefinitions(t *testing.T) {
	a := server(t)
	const group = "policy.networking.k8s.io"
	s := a.open(Options{Node: "n1"})
	s.longestPause = time.Second
	w := porttest.WatchSource(t, s)
	w.Eventually(t, "Synced", synced)
	require.Empty(t, s.Findings())
	const rules = `"subject":{"namespaces":{}},"ingress":[{"action":"Deny","from":[{"namespaces":{}}]}]`
	kinds := []struct {
		kind, version, plural, name, spec string
		tier                              policy.Tier
		priority                          int
	}{
		{manifest.KindClusterNetworkPolicy, "v1alpha2", "clusternetworkpolicies", "p", `"tier":"Admin","priority":3,` + rules, policy.TierAdmin, 3},
		{manifest.KindAdminNetworkPolicy, "v1alpha1", "adminnetworkpolicies", "p", `"priority":4,` + rules, policy.TierAdmin, 4},
		{manifest.KindBaselineAdminNetworkPolicy, "v1alpha1", "baselineadminnetworkpolicies", "default", rules, policy.TierBaseline, 1001},
	}
	for _, k := range kinds {
		name := k.plural + "." + group
		t.Cleanup(func() { a.try("DELETE", definitions+"/"+name, "", nil) })
		path := a.define(group, k.version, k.plural, k.kind)
		a.do("POST", path, "application/json", []byte(`{"apiVersion":"`+group+"/"+k.version+`","kind":"`+k.kind+`","metadata":{"name":"`+k.name+`"},"spec":{`+k.spec+`}}`))
	}
	for _, k := range kinds { // all of them at once
		there := func(want bool) func(porttest.Known) bool {
			return func(known porttest.Known) bool { _, ok := known.Policies[k.kind+" "+k.name]; return ok == want }
		}
		spec := w.Eventually(t, "the policy", there(true)).Policies[k.kind+" "+k.name].Specs[0]
		assert.Equal(t, k.tier, spec.Tier)
		assert.Equal(t, k.priority, spec.Priority)
		a.do("DELETE", definitions+"/"+k.plural+"."+group, "", nil)
		w.Eventually(t, "no policy", there(false))
	}
	require.Empty(t, s.Findings())
}

// groupPeers are the prefixes that the policy shop/g lets in; "none" if there is no such policy.
func groupPeers(k porttest.Known) string {
	p, ok := k.Policies[manifest.KindCiliumNetworkPolicy+" shop/g"]
	if !ok {
		return "none"
	}
	var out []string
	for _, peer := range p.Specs[0].Rules[0].Peers {
		out = append(out, peer.CIDR.String())
	}
	return strings.Join(out, " ")
}

func admits(want string) func(porttest.Known) bool {
	return func(k porttest.Known) bool { return groupPeers(k) == want }
}

func groupOf(name, cidrs string) string {
	return "\n---\napiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: " + name + ", labels: {of: " + name + "}}\nspec: {externalCIDRs: [" + cidrs + "]}\n"
}

const policyOfGroups = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: g, namespace: shop}
spec: {endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: partners}, {cidrGroupSelector: {matchLabels: {of: offices}}}]}]}
`

func TestCIDRGroups(t *testing.T) {
	a := server(t)
	a.apply(policyOfGroups + groupOf("offices", "10.0.0.0/8"))
	s := a.open(Options{Node: "n1"})
	w := porttest.WatchSource(t, s)
	assert.Equal(t, "10.0.0.0/8", groupPeers(w.Eventually(t, "Synced", synced)), "groups are known with the policies")
	require.Len(t, s.Findings(), 1)
	assert.Equal(t, "CiliumNetworkPolicy shop/g: spec.ingress[0].fromCIDRSet[0].cidrGroupRef: CiliumCIDRGroup partners does not exist or is not valid; it stands for no address", s.Findings()[0].String())
	assert.True(t, s.Findings()[0].Warning)
	a.apply(groupOf("partners", "192.0.2.0/24"))
	w.Eventually(t, "both groups", admits("192.0.2.0/24 10.0.0.0/8"))
	assert.Empty(t, s.Findings())
	a.apply(groupOf("partners", `"2001:db8::/32"`))
	w.Eventually(t, "the group changed", admits("2001:db8::/32 10.0.0.0/8"))
	a.remove(manifest.KindCiliumCIDRGroup, "", "offices")
	w.Eventually(t, "one group", admits("2001:db8::/32"))
	a.remove(manifest.KindCiliumCIDRGroup, "", "partners")
	w.Eventually(t, "no group", admits(""))
	assert.Len(t, s.Findings(), 2)
	a.remove(manifest.KindCiliumNetworkPolicy, "shop", "g")
	w.Eventually(t, "no policy", admits("none"))
	assert.Empty(t, s.Findings())
}

// The definition of groups may be missing. With one that lets mistakes through, what is wrong with a group leaves its
// last good version in force, also over a restart.
func TestCIDRGroupsWithoutAndWithALooseDefinition(t *testing.T) {
	a, dir := server(t), t.TempDir()
	const name = "ciliumcidrgroups.cilium.io"
	path := pathOf(manifest.KindCiliumCIDRGroup, "", "")
	a.do("DELETE", definitions+"/"+name, "", nil)
	t.Cleanup(func() {
		a.try("DELETE", definitions+"/"+name, "", nil)
		a.served(path, false)
		require.NoError(t, crds.Install(context.Background(), a.cluster.Config, slog.New(slog.NewTextHandler(io.Discard, nil))))
		a.served(path, true)
	})
	a.served(path, false)
	a.apply(policyOfGroups)
	start := func() (*Store, *porttest.SourceWatch) {
		s := a.open(Options{Node: "n1", StateDir: dir})
		s.longestPause = time.Second
		w := porttest.WatchSource(t, s)
		w.Eventually(t, "Synced", synced)
		return s, w
	}
	s, w := start()
	assert.Equal(t, "", groupPeers(porttest.Digest(w.Events())), "no definition, no groups")
	assert.Len(t, s.Findings(), 2, "of the group that is missing, and of the labels")
	a.define("cilium.io", "v2", "ciliumcidrgroups", manifest.KindCiliumCIDRGroup)
	a.apply(groupOf("partners", "192.0.2.0/24") + groupOf("offices", ""))
	w.Eventually(t, "the group", admits("192.0.2.0/24"))
	a.apply(groupOf("partners", "10.0.0.0/8, 192.0.2.0"))
	said := func(s *Store) (out []string) {
		for _, f := range s.Findings() {
			out = append(out, f.String())
		}
		return out
	}
	refused := []string{
		`CiliumCIDRGroup partners: spec.externalCIDRs[1]: "192.0.2.0" is not a CIDR; want address/length like "10.0.0.0/8", "192.0.2.1/32" or "2001:db8::/32"`,
		"CiliumCIDRGroup partners: refused; its last good version stays in force",
	}
	eventually(t, "the mistake", func() bool { return slices.Equal(said(s), refused) })
	assert.Equal(t, "192.0.2.0/24", groupPeers(porttest.Digest(w.Events())))
	w.Stop(t)
	s, w = start()
	assert.Equal(t, "192.0.2.0/24", groupPeers(porttest.Digest(w.Events())), "after a restart")
	assert.Equal(t, refused, said(s))
	a.do("DELETE", definitions+"/"+name, "", nil)
	w.Eventually(t, "groups gone with their definition", admits(""))
}
