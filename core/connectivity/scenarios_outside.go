package connectivity

import (
	"net/netip"
	"slices"
)

// outsideToNodePort comes from outside of the cluster to the node ports of every node.
func outsideToNodePort(w World) (out []Action, why string) {
	switch {
	case !w.NodePorts:
		return nil, "the agents serve no node ports"
	case w.NoOutside != "":
		return nil, w.NoOutside
	}
	services, backends := w.echoServices()
	for i, s := range services {
		for _, n := range w.Nodes {
			for _, addr := range n.Addresses {
				if !slices.ContainsFunc(backends[i], func(p Pod) bool { return reaches(p, addr) }) {
					continue
				}
				for _, kind := range []Kind{HTTP, UDP} {
					port := s.http().NodePort
					if kind == UDP {
						port = s.udp().NodePort
					}
					if port == 0 {
						continue
					}
					out = append(out, Action{
						From: FromOutside, FromRole: RoleOutside, To: "service " + s.Name.String() + " at node " + n.Name, ToRole: backends[i][0].Role,
						Port: PortHTTP, Probe: Probe{Kind: kind, Addr: addr, Port: port}, Answerers: names(backends[i]),
						Nodes: append([]string{n.Name}, nodesOf(backends[i]...)...),
					})
				}
			}
		}
	}
	return out, "there is no such node port"
}

// fromCIDRToPod comes from outside to the node ports of the pods' own nodes: nobody translates the sender's address
// on that way.
func fromCIDRToPod(w World) (out []Action, why string) {
	list, why := outsideToNodePort(w)
	for _, a := range list {
		from, ok := pick(w.FromOutside, a.Probe.Addr.Is6())
		if !ok {
			why = "it is not known by which address nodes see this machine"
			continue
		}
		if len(a.Nodes) > 0 && !slices.ContainsFunc(a.Nodes, func(n string) bool { return n != a.Nodes[0] }) {
			a.Sources = []netip.Addr{from}
			out = append(out, a)
		}
	}
	return out, why
}

// otherNamespace goes between the test's namespace and the pod in the other one, in either direction.
func otherNamespace(there bool) func(World) ([]Action, string) {
	return func(w World) (out []Action, why string) {
		for _, other := range w.byRole(RoleCCNPClient) {
			if !there {
				for _, to := range w.byRole("echo*") {
					out = append(out, direct(other, to, HTTP, PortHTTP)...)
				}
				continue
			}
			for _, from := range w.byRole("client*") {
				out = append(out, direct(from, other, HTTP, PortHTTP)...)
				out = append(out, direct(from, other, ICMP, 0)...)
			}
		}
		return out, "there is no pod in another namespace"
	}
}
