package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func parseAll(t require.TestingT, text string) []*object {
	objects, findings := parse(manifests(text))
	require.Empty(t, findings)
	return objects
}

// describe gives nodes as text: name, addresses, prefixes.
func describe(nodes []*nodeState) string {
	var lines []string
	for _, n := range nodes {
		lines = append(lines, fmt.Sprint(n.Name, n.Addresses, n.PodCIDRs))
	}
	return strings.Join(lines, "\n")
}

func TestPlanNodes(t *testing.T) {
	for _, tc := range []struct {
		name, nodes, pods string
		n                 int
		want, findings    string
	}{
		{name: "made up", n: 2, want: `
node1[172.30.0.11 fd00:172:30::11] [10.244.1.0/24 fd00:10:244:1::/64]
node2[172.30.0.12 fd00:172:30::12] [10.244.2.0/24 fd00:10:244:2::/64]`},
		{name: "given ones keep what they say", n: 2, nodes: `
{kind: Node, metadata: {name: a}, spec: {podCIDR: 10.9.0.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.1.5}, {type: ExternalIP, address: 8.8.8.8}]}}`,
			want: `
a[192.168.1.5 fd00:172:30::11] [10.9.0.0/24]
node1[172.30.0.12 fd00:172:30::12] [10.244.2.0/24 fd00:10:244:2::/64]`},
		{name: "made up ones stay clear", n: 2, nodes: `
{kind: Node, metadata: {name: node2}, spec: {podCIDRs: [10.244.0.0/16, "fd00:10:244:2::/64"]}, status: {addresses: [{type: InternalIP, address: 172.30.0.12}]}}`,
			pods: `{kind: Pod, metadata: {name: p}, status: {podIP: 10.244.1.1}}`,
			want: `
node2[172.30.0.12 fd00:172:30::11] [10.244.0.0/16 fd00:10:244:2::/64]
node1[172.30.0.13 fd00:172:30::12] [fd00:10:244:3::/64]`},
		{name: "more than asked for", n: 1, nodes: `
{kind: Node, metadata: {name: a}}
---
{kind: Node, metadata: {name: b}}`, want: `
a[172.30.0.11 fd00:172:30::11] [10.244.1.0/24 fd00:10:244:1::/64]
b[172.30.0.12 fd00:172:30::12] [10.244.2.0/24 fd00:10:244:2::/64]`},
		{name: "pods ask for names and prefixes", n: 3, pods: `
{kind: Pod, metadata: {name: p}, spec: {nodeName: worker}, status: {podIPs: [{ip: 10.1.2.3}, {ip: "fd01::3"}]}}
---
{kind: Pod, metadata: {name: q}, status: {podIP: 10.1.2.4}}
---
{kind: Pod, metadata: {name: r}, status: {podIP: 10.1.3.4}}
---
{kind: Pod, metadata: {name: s}, spec: {hostNetwork: true}, status: {podIP: 1.2.3.4}}
---
{kind: Pod, metadata: {name: t}, status: {podIP: 1.2.3.4, phase: Succeeded}}`, want: `
node1[172.30.0.11 fd00:172:30::11] [10.1.3.0/24 fd00:10:244:1::/64]
node2[172.30.0.12 fd00:172:30::12] [10.244.2.0/24 fd00:10:244:2::/64]
worker[172.30.0.13 fd00:172:30::13] [10.1.2.0/24 fd01::/64]`},
		{name: "bad ones", n: 1, nodes: `
{kind: Node, metadata: {name: a}, spec: {podCIDRs: [10.9.0.0/33]}}
---
{kind: Node, metadata: {name: b}, status: {addresses: [{type: InternalIP, address: 1.2.3}]}}
---
{kind: Node, metadata: {name: c}, spec: {podCIDRs: [10.9.0.0/24]}}
---
{kind: Node, metadata: {name: d}, spec: {podCIDRs: [10.9.0.128/25]}}`, want: `
c[172.30.0.11 fd00:172:30::11] [10.9.0.0/24]`, findings: `
test.yaml: Node a: spec.podCIDRs[0]: "10.9.0.0/33" is not a prefix like 10.244.1.0/24
test.yaml: Node b: status.addresses[0].address: "1.2.3" is not an IP address
test.yaml: Node d: 10.9.0.128/25 is also that of node c`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nodes, objects, findings := planNodes(tc.n, parseAll(t, tc.nodes), parseAll(t, tc.pods))
			require.Equal(t, strings.TrimSpace(tc.want), describe(nodes))
			var lines []string
			for _, f := range findings {
				lines = append(lines, f.String())
			}
			require.Equal(t, strings.TrimSpace(tc.findings), strings.Join(lines, "\n"))
			// The objects say the same as the nodes.
			require.Len(t, objects, len(nodes))
			for i, o := range objects {
				back, bad := readNode(o)
				require.Empty(t, bad)
				require.Equal(t, describe(nodes[i:i+1]), describe([]*nodeState{back}))
			}
		})
	}
}

// Whatever the manifests say, no two nodes share an address or a prefix.
func TestPlanNodesNeverClash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text []string
		for i := range rapid.IntRange(0, 6).Draw(t, "given") {
			text = append(text, fmt.Sprintf(
				`{kind: Node, metadata: {name: %s}, spec: {podCIDRs: [%s]}, status: {addresses: [{type: InternalIP, address: 172.30.0.%d}]}}`,
				rapid.SampledFrom([]string{"a", "b", "node1", "node2", fmt.Sprint("x", i)}).Draw(t, "name"),
				rapid.SampledFrom([]string{"", "10.244.1.0/24", "10.244.2.0/24", "10.244.0.0/22", "10.5.0.0/24"}).Draw(t, "cidr"),
				rapid.IntRange(2, 15).Draw(t, "address")))
		}
		objects, _ := parse(manifests(strings.Join(text, "\n---\n")))
		n := rapid.IntRange(1, MaxNodes).Draw(t, "n")
		nodes, _, _ := planNodes(n, objects, nil)
		require.GreaterOrEqual(t, len(nodes), n)
		for i, a := range nodes {
			require.Len(t, a.Addresses, 2)
			require.NotEmpty(t, a.PodCIDRs)
			for _, b := range nodes[:i] {
				require.Empty(t, clash(a, b))
				require.NotEqual(t, a.Name, b.Name)
			}
		}
	})
}

func TestPlace(t *testing.T) {
	nodes, _, _ := planNodes(3, nil, nil)
	load := map[string]int{"node1": 1, "node2": 0, "node3": 0}
	require.Equal(t, "node2", place(nodes, load, nil).Name)
	require.Equal(t, "node3", place(nodes, load, []netip.Addr{netip.MustParseAddr("10.244.3.9")}).Name)
	require.Equal(t, "node2", place(nodes, load, []netip.Addr{netip.MustParseAddr("9.9.9.9")}).Name)
}
