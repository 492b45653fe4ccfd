package devices

import (
	"fmt"
	"net/netip"
	"slices"
)

// Home is where the node's own main addresses are. What tunnels, routes to other nodes and translates clients is built on
// them when the agent starts, and can't follow them.
type Home struct {
	// Addresses are the main ones, one a family, the one that other nodes tunnel to first.
	Addresses []netip.Addr
	// device has the first of them; 0: none had it.
	device uint32
}

// Settle notes where the main ones of a node's addresses are.
func Settle(node []netip.Addr, links []Link) Home {
	h := Home{Addresses: mainOnes(node)}
	if len(h.Addresses) > 0 {
		h.device, _ = holder(links, h.Addresses[0])
	}
	return h
}

// mainOnes are the first of each family.
func mainOnes(node []netip.Addr) (out []netip.Addr) {
	for _, a := range node {
		if !slices.ContainsFunc(out, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			out = append(out, a)
		}
	}
	return out
}

// holder is the device that has an address; 0: none.
func holder(links []Link, a netip.Addr) (index uint32, name string) {
	for _, l := range links {
		if slices.Contains(l.Addresses, a) {
			return l.Index, l.Name
		}
	}
	return 0, ""
}

// Moved says what is not as it was: that the cluster knows the node by other main addresses, that the first is on no
// device any more, or on another one. Nothing: all is as it was.
func (h Home) Moved(node []netip.Addr, links []Link) []string {
	var out []string
	told := mainOnes(node)
	for i, was := range h.Addresses {
		same := func(a netip.Addr) bool { return a.Is4() == was.Is4() }
		if is := slices.IndexFunc(told, same); is >= 0 && told[is] != was {
			out = append(out, fmt.Sprintf("the node's address is %s now, and no longer %s, which tunnels, routes to other nodes and translated "+
				"clients of services keep until the agent is restarted", told[is], was))
		}
		if i > 0 || h.device == 0 {
			continue
		}
		switch index, name := holder(links, was); {
		case index == 0:
			out = append(out, fmt.Sprintf("no device has the node's address %s any more: other nodes do not reach this one until it is back, "+
				"or the node has another and the agent is restarted", was))
		case index != h.device:
			out = append(out, fmt.Sprintf("the node's address %s is on another device now, %s: packets to other nodes may still take the one of before "+
				"until the agent is restarted", was, name))
		}
	}
	return out
}
