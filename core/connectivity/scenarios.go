package connectivity

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/cluster"
)

// scenario makes actions of one kind out of a world. Without any it says why.
type scenario struct {
	name string
	plan func(World) ([]Action, string)
}

// scenarios are all there are.
func scenarios() []scenario {
	return []scenario{
		{"pod-to-pod", podToPod(HTTP, PortHTTP)},
		{"pod-to-pod-udp", podToPod(UDP, PortHTTP)},
		{"pod-to-pod-ports", podToPod(HTTP, PortHTTP, PortAlternative, PortBeyond)},
		{"pod-to-pod-icmp", podToPod(ICMP, 0)},
		{"pod-to-pod-no-frag", podToPodWhole},
		{"client-to-client", clientToClient(ICMP, 0)},
		{"client-to-client-http", clientToClient(HTTP, PortHTTP)},
		{"pod-to-service", podToService(HTTP)},
		{"pod-to-service-udp", podToService(UDP)},
		{"pod-to-headless-service", podToHeadless},
		{"pod-to-local-nodeport", podToNodePort(true)},
		{"pod-to-remote-nodeport", podToNodePort(false)},
		{"outside-to-nodeport", outsideToNodePort},
		{"from-cidr-to-pod", fromCIDRToPod},
		{"other-namespace-to-pod", otherNamespace(false)},
		{"pod-to-other-namespace", otherNamespace(true)},
		{"pod-to-hostport", podToHostPort},
		{"pod-to-external-ip", podToAssigned(ExternalIPService, func(s Service) []netip.Addr { return s.ExternalIPs })},
		{"pod-to-loadbalancer", podToAssigned(LoadBalancerService, func(s Service) []netip.Addr { return s.Ingress })},
		{"pod-to-itself-via-service", hairpin},
		{"pod-to-host", podToHost},
		{"host-to-pod", hostToPod},
		{"host-to-service", hostToService},
		{"pod-to-api-server", podToAPIServer},
		{"dns", lookups},
		{"pod-to-world", podToOutside(RoleOutside, func(w World) []netip.AddrPort { return w.Outside })},
		{"pod-to-world-2", podToOutside(RoleOther, func(w World) []netip.AddrPort { return w.Other })},
	}
}

func findScenario(name string) (scenario, bool) {
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		return scenario{}, false
	}
	return all[i], true
}

// Scenarios lists the names of all scenarios.
func Scenarios() []string {
	var out []string
	for _, s := range scenarios() {
		out = append(out, s.name)
	}
	return out
}

var families = []bool{false, true} // IPv6 or not

func podToPod(kind Kind, ports ...uint16) func(World) ([]Action, string) {
	return func(w World) (out []Action, _ string) {
		for _, from := range w.byRole("client*") {
			for _, to := range w.byRole("echo*") {
				for _, port := range ports {
					out = append(out, direct(from, to, kind, port)...)
				}
			}
		}
		return out, ""
	}
}

// podToPodWhole sends packets that only just fit.
func podToPodWhole(w World) ([]Action, string) {
	out, why := podToPod(ICMP, 0)(w)
	for i := range out {
		out[i].Probe.Full = true
	}
	return out, why
}

func clientToClient(kind Kind, port uint16) func(World) ([]Action, string) {
	return func(w World) (out []Action, _ string) {
		clients := w.byRole("client*")
		for _, from := range clients {
			for _, to := range clients {
				if from.Name != to.Name {
					out = append(out, direct(from, to, kind, port)...)
				}
			}
		}
		return out, ""
	}
}

// direct goes to a pod's own addresses, on every family that both pods have.
func direct(from, to Pod, kind Kind, port uint16) (out []Action) {
	for _, v6 := range families {
		own, ok1 := from.addr(v6)
		addr, ok2 := to.addr(v6)
		if !ok1 || !ok2 {
			continue
		}
		a := Action{
			From: from.Name, FromRole: from.Role, To: to.Name.String(), ToRole: to.Role, Port: port,
			Probe: Probe{Kind: kind, Addr: addr, Port: port}, Nodes: nodesOf(from, to),
		}
		if from.HostNetwork {
			a.FromRole = nodeRole(from.Node, to.Node)
		}
		if kind != ICMP {
			a.Answerers = []string{to.Name.Name}
		}
		if kind == HTTP && !from.HostNetwork {
			a.Sources = []netip.Addr{own}
		}
		out = append(out, a)
	}
	return out
}

func nodesOf(pods ...Pod) (out []string) {
	for _, p := range pods {
		if !slices.Contains(out, p.Node) {
			out = append(out, p.Node)
		}
	}
	return out
}

// nodeRole is what a node is to a pod.
func nodeRole(node, ofPod string) string {
	if node == ofPod {
		return RoleHost
	}
	return RoleRemoteNode
}

// echoServices are the services of the echo pods with their pods.
func (w World) echoServices() (services []Service, backends [][]Pod) {
	for _, role := range []string{RoleEchoSameNode, RoleEchoOtherNode} {
		s, ok := w.service(w.Namespace, role)
		if pods := w.byRole(role); ok && len(pods) > 0 {
			services, backends = append(services, s), append(backends, pods)
		}
	}
	return services, backends
}

// through goes to an address of a service.
func through(from Pod, s Service, addr netip.Addr, port uint16, backends []Pod) Action {
	a := Action{
		From: from.Name, FromRole: from.Role, To: "service " + s.Name.String(), ToRole: backends[0].Role, Port: PortHTTP,
		Probe: Probe{Kind: HTTP, Addr: addr, Port: port}, Answerers: names(backends),
		Nodes: nodesOf(append([]Pod{from}, backends...)...),
	}
	if from.HostNetwork {
		a.FromRole = nodeRole(from.Node, backends[0].Node)
	}
	return a
}

func names(pods []Pod) (out []string) {
	for _, p := range pods {
		out = append(out, p.Name.Name)
	}
	return out
}

// reaches says whether a pod can send to an address's family.
func reaches(p Pod, a netip.Addr) bool {
	_, ok := p.addr(a.Is6())
	return ok
}

func podToService(kind Kind) func(World) ([]Action, string) {
	return func(w World) (out []Action, why string) {
		services, backends := w.echoServices()
		for _, from := range w.byRole("client*") {
			for i, s := range services {
				for _, addr := range s.ClusterIPs {
					if reaches(from, addr) {
						a := through(from, s, addr, s.http().Port, backends[i])
						a.Probe.Kind = kind
						out = append(out, a)
					}
				}
			}
		}
		return out, "the echo services have no cluster addresses"
	}
}

// http is the port that leads to PortHTTP, udp that of datagrams.
func (s Service) http() ServicePort { return s.port(portNameHTTP) }
func (s Service) udp() ServicePort  { return s.port(portNameUDP) }

func (s Service) port(name string) ServicePort {
	for _, p := range s.Ports {
		if p.Name == name {
			return p
		}
	}
	return ServicePort{Port: PortHTTP}
}

func podToHeadless(w World) (out []Action, why string) {
	if w.NoDNS != "" {
		return nil, w.NoDNS
	}
	echo := w.byRole("echo*")
	for _, from := range w.byRole("client*") {
		for _, v6 := range families {
			var addrs []netip.Addr
			for _, p := range echo {
				if a, ok := p.addr(v6); ok {
					addrs = append(addrs, a)
				}
			}
			if _, ok := from.addr(v6); !ok || len(addrs) == 0 {
				continue
			}
			out = append(out, Action{
				From: from.Name, FromRole: from.Role, To: "service " + w.Namespace + "/" + HeadlessService, ToRole: RoleHeadless, Port: PortHTTP,
				Probe:     Probe{Kind: HTTP, Name: serviceName(w.Namespace, HeadlessService), Port: PortHTTP, IPv6: v6},
				Answerers: names(echo), Addrs: addrs, Nodes: nodesOf(append([]Pod{from}, echo...)...),
			})
		}
	}
	return out, ""
}

// serviceName is a service's name as pods look it up. The dot at its end spares them the search list.
func serviceName(namespace, name string) string {
	return name + "." + namespace + ".svc.cluster.local."
}

// podToNodePort goes to the node ports of the client's own node or of the others.
func podToNodePort(local bool) func(World) ([]Action, string) {
	return func(w World) (out []Action, why string) {
		if !w.NodePorts {
			return nil, "the agents serve no node ports"
		}
		services, backends := w.echoServices()
		for _, from := range w.byRole("client*") {
			for i, s := range services {
				port := s.http().NodePort
				for _, n := range w.Nodes {
					if port == 0 || (n.Name == from.Node) != local {
						continue
					}
					for _, addr := range n.Addresses {
						if reaches(from, addr) {
							a := through(from, s, addr, port, backends[i])
							a.To += " at node " + n.Name
							out = append(out, a)
						}
					}
				}
			}
		}
		return out, "there is no such node port"
	}
}

// podToHostPort goes to the echo pods by the ports of their nodes.
func podToHostPort(w World) (out []Action, why string) {
	if !w.HostPorts {
		return nil, "the agents serve no host ports"
	}
	for _, from := range w.byRole("client*") {
		for _, to := range w.byRole("echo*") {
			for _, n := range w.Nodes {
				for _, addr := range n.Addresses {
					if n.Name != to.Node || !reaches(from, addr) || !reaches(to, addr) {
						continue
					}
					out = append(out, Action{
						From: from.Name, FromRole: from.Role, To: to.Name.String() + " at node " + n.Name, ToRole: to.Role, Port: PortHTTP,
						Probe: Probe{Kind: HTTP, Addr: addr, Port: PortHost}, Answerers: []string{to.Name.Name}, Nodes: nodesOf(from, to),
					})
				}
			}
		}
	}
	return out, "there are no echo pods"
}

// podToAssigned goes to addresses that a service was given beside its cluster addresses.
func podToAssigned(name string, list func(Service) []netip.Addr) func(World) ([]Action, string) {
	return func(w World) (out []Action, why string) {
		s, _ := w.service(w.Namespace, name)
		echo := w.byRole("echo*")
		for _, from := range w.byRole("client*") {
			for _, addr := range list(s) {
				if reaches(from, addr) && len(echo) > 0 {
					out = append(out, through(from, s, addr, s.http().Port, echo))
				}
			}
		}
		return out, "the cluster refused the service " + name + ", or its addresses"
	}
}

// hairpin lets the echo pods reach themselves by their own service.
func hairpin(w World) (out []Action, why string) {
	services, backends := w.echoServices()
	for i, s := range services {
		for _, from := range backends[i] {
			for _, addr := range s.ClusterIPs {
				if reaches(from, addr) {
					out = append(out, through(from, s, addr, s.http().Port, backends[i]))
				}
			}
		}
	}
	return out, "the echo services have no cluster addresses"
}

func podToHost(w World) (out []Action, why string) {
	for _, from := range w.byRole("client*") {
		for _, n := range w.Nodes {
			for _, addr := range n.Addresses {
				if reaches(from, addr) {
					out = append(out, Action{
						From: from.Name, FromRole: from.Role, To: "node " + n.Name, ToRole: nodeRole(n.Name, from.Node),
						Probe: Probe{Kind: ICMP, Addr: addr}, Nodes: []string{from.Node},
					})
				}
			}
		}
	}
	return out, "the nodes have no addresses"
}

func hostToPod(w World) (out []Action, why string) {
	for _, from := range w.byRole(RoleHostNetns) {
		for _, to := range w.byRole("echo*") {
			out = append(out, direct(from, to, HTTP, PortHTTP)...)
		}
	}
	return out, "there is no pod on a node's own network"
}

func hostToService(w World) (out []Action, why string) {
	services, backends := w.echoServices()
	for _, from := range w.byRole(RoleHostNetns) {
		for i, s := range services {
			for _, addr := range s.ClusterIPs {
				if reaches(from, addr) && reaches(backends[i][0], addr) { // nodes may have a family that pods lack
					out = append(out, through(from, s, addr, s.http().Port, backends[i]))
				}
			}
		}
	}
	return out, "there is no pod on a node's own network"
}

func podToAPIServer(w World) (out []Action, why string) {
	s, ok := w.service("default", "kubernetes")
	if !ok || len(s.Ports) == 0 {
		return nil, "there is no service default/kubernetes"
	}
	for _, from := range w.byRole("client*") {
		for _, addr := range s.ClusterIPs {
			if reaches(from, addr) {
				out = append(out, Action{
					From: from.Name, FromRole: from.Role, To: "service default/kubernetes", ToRole: RoleAPIServer, Port: s.Ports[0].Port,
					Probe: Probe{Kind: TCP, Addr: addr, Port: s.Ports[0].Port}, Nodes: []string{from.Node},
				})
			}
		}
	}
	return out, "the service default/kubernetes has no address of the pods' families"
}

func lookups(w World) (out []Action, why string) {
	if w.NoDNS != "" {
		return nil, w.NoDNS
	}
	services, _ := w.echoServices()
	if s, ok := w.service("default", "kubernetes"); ok {
		services = append(services, s)
	}
	for _, from := range w.byRole("client*") {
		for _, s := range services {
			for _, v6 := range families {
				if addr, ok := pick(s.ClusterIPs, v6); ok {
					out = append(out, lookup(from, s.Name, addr))
				}
			}
		}
	}
	return out, "there are no services to look up"
}

func lookup(from Pod, s cluster.Name, addr netip.Addr) Action {
	name := serviceName(s.Namespace, s.Name)
	return Action{
		From: from.Name, FromRole: from.Role, To: strings.TrimSuffix(name, "."), ToRole: RoleDNS, Port: 53,
		Probe: Probe{Kind: DNS, Name: name, IPv6: addr.Is6()}, Addrs: []netip.Addr{addr}, Nodes: []string{from.Node},
	}
}

func podToOutside(role string, targets func(World) []netip.AddrPort) func(World) ([]Action, string) {
	return func(w World) (out []Action, why string) {
		for _, from := range w.byRole("client*") {
			for _, t := range targets(w) {
				if !reaches(from, t.Addr()) {
					continue
				}
				p := Probe{Kind: TCP, Addr: t.Addr(), Port: t.Port()}
				if t.Port() == 0 {
					p.Kind = ICMP
				}
				out = append(out, Action{
					From: from.Name, FromRole: from.Role, To: role, ToRole: role, Port: t.Port(), Probe: p, Nodes: []string{from.Node},
					APIServer: slices.Contains(w.APIServers, t.Addr()),
				})
			}
		}
		return out, "no address outside the cluster is known; --external-ip and --external-other-ip name some"
	}
}
