package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
)

// The underlay. The outside host has the first address of each prefix, node i the (10+i)th.
var (
	underlay4 = netip.MustParsePrefix("172.30.0.0/24")
	underlay6 = netip.MustParsePrefix("fd00:172:30::/64")
)

// outside are the addresses of the host outside the cluster.
var outside = []netip.Addr{underlay4.Addr().Next(), underlay6.Addr().Next()}

func nodeAddresses(i int) []netip.Addr {
	four, six := underlay4.Addr().As4(), underlay6.Addr().As16()
	four[3] = byte(10 + i)
	// Written like the IPv4 one: the digits of 10+i stand in the text of the address.
	n := 10 + i
	six[14], six[15] = byte(n/100), byte(n/10%10<<4|n%10)
	return []netip.Addr{netip.AddrFrom4(four), netip.AddrFrom16(six)}
}

func nodePodCIDRs(i int) []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24),
		netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i)),
	}
}

// nodeManifest is what the lab reads of a Node.
type nodeManifest struct {
	Spec struct {
		PodCIDR  string   `json:"podCIDR"`
		PodCIDRs []string `json:"podCIDRs"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

// planNodes decides about the nodes of a lab: those of the manifests, in their order, those that pods ask
// for by name, and made up ones until there are n. The objects of manifests are completed in place by
// the addresses and pod prefixes that were chosen for them; for the other nodes objects are made.
func planNodes(n int, given, pods []*object) ([]*nodeState, []*object, []cluster.Finding) {
	var findings []cluster.Finding
	var nodes []*nodeState
	var objects []*object
	for _, o := range given {
		node, f := readNode(o)
		findings = append(findings, f...)
		if node == nil {
			continue
		}
		for _, other := range nodes {
			if what := clash(node, other); what != "" {
				findings = append(findings, o.finding("", "%s is also that of node %s", what, other.Name))
				node = nil
				break
			}
		}
		if node != nil {
			nodes, objects = append(nodes, node), append(objects, o)
		}
	}
	wishes := readWishes(pods)
	for _, name := range madeUpNames(n, nodes, wishes) {
		nodes, objects = append(nodes, &nodeState{Name: name}), append(objects, newNodeObject(name))
	}
	for _, node := range nodes {
		adopt(node, nodes, wishes[node.Name])
	}
	for _, node := range nodes { // pods that name no node
		adopt(node, nodes, wishes[""])
	}
	// The numbers that made up addresses and prefixes are counted by, so that they stay clear of the
	// given ones.
	var placed []*nodeState
	var described []*object
	for i, node := range nodes {
		fill(node, nodes, i+1)
		if len(node.PodCIDRs) == 0 || len(node.Addresses) == 0 {
			findings = append(findings, objects[i].finding("", "the other nodes leave it no address or no pod prefix"))
			continue
		}
		complete(objects[i], node)
		placed, described = append(placed, node), append(described, objects[i])
	}
	return placed, described, findings
}

// madeUpNames are the names of the nodes that no manifest describes: those that pods ask for, as long as
// there are no manifests of nodes or too few of them, and node1, node2, … as far as needed.
func madeUpNames(n int, nodes []*nodeState, wishes map[string][]netip.Addr) []string {
	var out []string
	has := func(name string) bool {
		return slices.Contains(out, name) || slices.ContainsFunc(nodes, func(x *nodeState) bool { return x.Name == name })
	}
	for _, name := range slices.Sorted(maps.Keys(wishes)) {
		if safeName(name) && !has(name) && (len(nodes) == 0 || len(nodes)+len(out) < n) {
			out = append(out, name)
		}
	}
	for i := 1; len(nodes)+len(out) < n; i++ {
		if name := fmt.Sprintf("node%d", i); !has(name) {
			out = append(out, name)
		}
	}
	// node2 before node10.
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return out
}

// readWishes lists the addresses that pods want, by the node they name; those on their node's own network
// want none.
func readWishes(pods []*object) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, o := range pods {
		var m podManifest
		if o.decode(&m) != nil || m.finished() {
			continue
		}
		list := out[m.Spec.NodeName]
		if list == nil {
			list = []netip.Addr{}
		}
		if !m.Spec.HostNetwork {
			list = append(list, m.wanted()...)
		}
		out[m.Spec.NodeName] = list
	}
	return out
}

// adopt gives a node without pod prefixes those that wanted addresses are in: for each family the
// first that no node has yet, a /24 or a /64.
func adopt(node *nodeState, all []*nodeState, wanted []netip.Addr) {
	if len(node.PodCIDRs) > 0 {
		return
	}
	var cidrs []netip.Prefix
	for _, bits := range []int{24, 64} {
		for _, ip := range wanted {
			if ip.Is4() != (bits == 24) {
				continue
			}
			p, _ := ip.Prefix(bits)
			if free(&nodeState{PodCIDRs: []netip.Prefix{p}}, node, all) {
				cidrs = append(cidrs, p)
				break
			}
		}
	}
	node.PodCIDRs = cidrs
}

// free says whether nobody but the node itself has what the candidate would have.
func free(candidate, node *nodeState, all []*nodeState) bool {
	return !slices.ContainsFunc(all, func(o *nodeState) bool { return o != node && clash(candidate, o) != "" })
}

func readNode(o *object) (*nodeState, []cluster.Finding) {
	var m nodeManifest
	if err := o.decode(&m); err != nil {
		return nil, []cluster.Finding{o.finding("", "cannot be read as a Node: %v", err)}
	}
	var findings []cluster.Finding
	node := &nodeState{Name: o.name}
	cidrs := m.Spec.PodCIDRs
	if len(cidrs) == 0 && m.Spec.PodCIDR != "" {
		cidrs = []string{m.Spec.PodCIDR}
	}
	for i, s := range cidrs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			findings = append(findings, o.finding(fmt.Sprintf("spec.podCIDRs[%d]", i), "%q is not a prefix like 10.244.1.0/24", s))
			continue
		}
		node.PodCIDRs = append(node.PodCIDRs, p.Masked())
	}
	for i, a := range m.Status.Addresses {
		if a.Type != "InternalIP" {
			continue
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			findings = append(findings, o.finding(fmt.Sprintf("status.addresses[%d].address", i), "%q is not an IP address", a.Address))
			continue
		}
		if ip.Zone() != "" {
			findings = append(findings, o.finding(fmt.Sprintf("status.addresses[%d].address", i), "%q has a zone; a node's address is one that others can reach", a.Address))
			continue
		}
		ip = ip.Unmap()
		if slices.Contains(outside, ip) {
			findings = append(findings, o.finding(fmt.Sprintf("status.addresses[%d].address", i), "%s is the lab's outside host", ip))
			continue
		}
		if !hasFamily(node.Addresses, ip) {
			node.Addresses = append(node.Addresses, ip)
		}
	}
	if len(findings) > 0 {
		return nil, findings
	}
	node.given = len(node.PodCIDRs) > 0
	return node, nil
}

// clash names what two nodes must not share.
func clash(a, b *nodeState) string {
	for _, x := range a.Addresses {
		if slices.Contains(b.Addresses, x) {
			return x.String()
		}
	}
	for _, x := range a.PodCIDRs {
		for _, y := range b.PodCIDRs {
			if x.Overlaps(y) {
				return x.String()
			}
		}
	}
	return ""
}

// fill gives a made up node what it still has none of: an address and a pod prefix of each family. A
// Node manifest with prefixes of one family wants that family only, and gets no more.
func fill(node *nodeState, all []*nodeState, i int) {
	for f := range 2 {
		if hasFamily(node.Addresses, nodeAddresses(i)[f]) {
			continue
		}
		for j := i; j <= 200; j++ {
			a := nodeAddresses(j)[f]
			if free(&nodeState{Addresses: []netip.Addr{a}}, node, all) {
				node.Addresses = append(node.Addresses, a)
				break
			}
		}
	}
	slices.SortStableFunc(node.Addresses, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	if node.given {
		return
	}
	for f := range 2 {
		if slices.ContainsFunc(node.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is4() == (f == 0) }) {
			continue
		}
		for j := i; j <= 250; j++ {
			p := nodePodCIDRs(j)[f]
			if free(&nodeState{PodCIDRs: []netip.Prefix{p}}, node, all) {
				node.PodCIDRs = append(node.PodCIDRs, p)
				break
			}
		}
	}
	slices.SortStableFunc(node.PodCIDRs, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
}

func hasFamily(list []netip.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(b netip.Addr) bool { return a.Is4() == b.Is4() })
}

func newNodeObject(name string) *object {
	o := &object{file: "made by the lab", kind: "Node", name: name, tree: map[string]any{}}
	o.set("v1", "apiVersion")
	o.set("Node", "kind")
	o.set(name, "metadata", "name")
	o.set(map[string]any{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}, "metadata", "labels")
	return o
}

// complete writes a node's addresses and prefixes into its object.
func complete(o *object, node *nodeState) {
	var cidrs, addrs []any
	for _, p := range node.PodCIDRs {
		cidrs = append(cidrs, p.String())
	}
	o.set(cidrs[0], "spec", "podCIDR")
	o.set(cidrs, "spec", "podCIDRs")
	if old, ok := o.get("status", "addresses").([]any); ok {
		for _, a := range old {
			if m, ok := a.(map[string]any); ok && m["type"] != "InternalIP" && m["type"] != "Hostname" {
				addrs = append(addrs, a)
			}
		}
	}
	for _, a := range node.Addresses {
		addrs = append(addrs, map[string]any{"type": "InternalIP", "address": a.String()})
	}
	addrs = append(addrs, map[string]any{"type": "Hostname", "address": node.Name})
	o.set(addrs, "status", "addresses")
}

// place chooses the node of a pod that names none: where one of its wanted addresses belongs, else the
// node with the fewest pods, the first in order among equals. Pods are placed in order of their names,
// so that the same manifests give the same places.
func place(nodes []*nodeState, load map[string]int, wanted []netip.Addr) *nodeState {
	for _, ip := range wanted {
		for _, n := range nodes {
			if slices.ContainsFunc(n.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(ip) }) {
				return n
			}
		}
	}
	return slices.MinFunc(nodes, func(a, b *nodeState) int { return load[a.Name] - load[b.Name] })
}

func nodeNames(nodes []*nodeState) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, ", ")
}
