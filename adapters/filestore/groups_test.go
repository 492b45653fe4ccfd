package filestore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/ports/porttest"
)

func groupYAML(cidrs string) string {
	return "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: partners}\nspec: {externalCIDRs: [" + cidrs + "]}\n"
}

const policyOfGroups = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: g, namespace: shop}
spec: {endpointSelector: {}, egress: [{toCIDRSet: [{cidrGroupRef: partners}]}]}
`

// peersOf are the prefixes that the policy of policyOfGroups lets out to.
func peersOf(k porttest.Known) string {
	p, ok := k.Policies["CiliumNetworkPolicy shop/g"]
	if !ok {
		return "no policy"
	}
	var out []string
	for _, peer := range p.Specs[0].Rules[0].Peers {
		out = append(out, peer.CIDR.String())
	}
	return strings.Join(out, " ")
}

// Policies follow the groups that stand in other files, and last good versions of groups count as those of policies.
func TestCIDRGroups(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	put(t, dir, map[string]string{"policy.yaml": policyOfGroups})
	s := open(t, Options{Dir: dir, StateDir: state})
	w := watched(t, s)
	assert.Equal(t, "", peersOf(porttest.Digest(w.Events())))
	require.Len(t, s.Findings(), 1)
	assert.True(t, s.Findings()[0].Warning)
	assert.Equal(t, filepath.Join(dir, "policy.yaml")+": CiliumNetworkPolicy shop/g: spec.egress[0].toCIDRSet[0].cidrGroupRef: CiliumCIDRGroup partners does not exist or is not valid; it stands for no address", messages(s))

	is := func(want string) func(porttest.Known) bool {
		return func(k porttest.Known) bool { return peersOf(k) == want }
	}
	put(t, dir, map[string]string{"group.yaml": groupYAML("192.0.2.0/24")})
	w.Eventually(t, "the group", is("192.0.2.0/24"))
	assert.Empty(t, s.Findings())
	put(t, dir, map[string]string{"group.yaml": groupYAML("192.0.2.0/24, 10.0.0.0/8")})
	w.Eventually(t, "the group changed", is("10.0.0.0/8 192.0.2.0/24"))
	w.Stop(t)

	put(t, dir, map[string]string{"group.yaml": groupYAML("192.0.2.0/33")})
	s = open(t, Options{Dir: dir, StateDir: state})
	w = watched(t, s)
	assert.Equal(t, "10.0.0.0/8 192.0.2.0/24", peersOf(porttest.Digest(w.Events())))
	assert.Contains(t, messages(s), `group.yaml: CiliumCIDRGroup partners: spec.externalCIDRs[0]: "192.0.2.0/33" is not a CIDR`)
	assert.Contains(t, messages(s), "CiliumCIDRGroup partners: refused; its last good version stays in force")
	require.NoError(t, os.Remove(filepath.Join(dir, "group.yaml")))
	w.Eventually(t, "no group", is(""))
	assert.Contains(t, messages(s), "CiliumCIDRGroup partners does not exist")
}
