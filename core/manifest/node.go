package manifest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/cluster"
)

// addr reads an IP address, unmapped and without a zone.
func (v value) addr() (netip.Addr, bool) {
	s, ok := v.text()
	if !ok || s == "" {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		v.bad("%q is not an IP address", clip(s))
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// addrs reads a list of addresses and leaves out those that stand twice.
func addrs(items []value) []netip.Addr {
	var out []netip.Addr
	for _, item := range items {
		if a, ok := item.addr(); ok {
			out = addAddr(out, a)
		}
	}
	return out
}

func addAddr(list []netip.Addr, a netip.Addr) []netip.Addr {
	for _, x := range list {
		if x == a {
			return list
		}
	}
	return append(list, a)
}

// podCIDRs reads the prefixes that a node's pods get addresses from. The engine takes one a family.
func podCIDRs(items []value) []netip.Prefix {
	var out []netip.Prefix
	has := map[bool]bool{}
	for _, item := range items {
		p, ok := item.prefix()
		if !ok {
			continue
		}
		if has[p.Addr().Is4()] {
			item.warn("%s is not used: only the first pod CIDR of each family is", p)
			continue
		}
		has[p.Addr().Is4()] = true
		out = append(out, p)
	}
	return out
}

// typedAddrs reads addresses by their type, in the order of the types given.
func typedAddrs(items []value, field string, types ...string) []netip.Addr {
	byType := map[string][]netip.Addr{}
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		t, _ := o.get("type").text()
		for _, want := range types {
			if t != want {
				continue
			}
			if a, ok := o.get(field).addr(); ok {
				byType[t] = addAddr(byType[t], a)
			}
		}
	}
	var out []netip.Addr
	for _, t := range types {
		for _, a := range byType[t] {
			out = addAddr(out, a)
		}
	}
	return out
}

func readNode(_ *report, md metadata, top object) body {
	n := cluster.Node{Name: md.name, Labels: md.labels}
	if spec, ok := top.get("spec").object(); ok {
		items, _ := spec.get("podCIDRs").list()
		if len(items) == 0 && !spec.get("podCIDR").absent() {
			items = []value{spec.get("podCIDR")}
		}
		n.PodCIDRs = podCIDRs(items)
	}
	if status, ok := top.get("status").object(); ok {
		items, _ := status.get("addresses").list()
		n.Addresses = typedAddrs(items, "address", "InternalIP", "ExternalIP")
	}
	return nodeBody{n}
}

// readCiliumNode reads what a node's agent says of its node.
func readCiliumNode(_ *report, md metadata, top object) body {
	n := cluster.Node{Name: md.name, Labels: md.labels}
	spec, ok := top.get("spec").object()
	if !ok {
		return agentNodeBody{n}
	}
	items, _ := spec.get("addresses").list()
	n.Addresses = typedAddrs(items, "ip", "InternalIP", "ExternalIP")
	n.Routers = typedAddrs(items, "ip", "CiliumInternalIP")
	if ipam, ok := spec.get("ipam").object(); ok {
		cidrs, _ := ipam.get("podCIDRs").list()
		n.PodCIDRs = podCIDRs(cidrs)
	}
	return agentNodeBody{n}
}

func readNamespace(_ *report, md metadata, _ object) body {
	const nameLabel = "kubernetes.io/metadata.name"
	ls := make(map[string]string, len(md.labels)+1)
	for k, v := range md.labels {
		ls[k] = v
	}
	ls[nameLabel] = md.name
	return namespaceBody{cluster.Namespace{Name: md.name, Labels: ls}}
}

// reservedPodLabel says whether a label of a pod would pass for one that weir derives from the
// cluster. Who may create a pod must not thereby choose its namespace's labels.
func reservedPodLabel(key string) bool {
	return key == "io.kubernetes.pod.namespace" || strings.HasPrefix(key, "io.cilium.k8s.")
}

func podLabels(r *report, m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for _, k := range sortedKeys(m) {
		if reservedPodLabel(k) {
			r.warn(fmt.Sprintf("metadata.labels[%q]", k), "left out: labels of this name come from the cluster, not from the pod")
			continue
		}
		out[k] = m[k]
	}
	return out
}
