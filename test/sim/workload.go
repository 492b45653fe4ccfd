package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

var apps = []string{"web", "db", "api", "job"}

func randomLabels(rng *rand.Rand) map[string]string {
	ls := map[string]string{"app": one(rng, apps...)}
	if rng.IntN(3) == 0 {
		ls["tier"] = one(rng, "front", "back")
	}
	if rng.IntN(3) == 0 {
		ls["version"] = fmt.Sprint(rng.IntN(40)) // often one that nobody else has
	}
	if rng.IntN(4) == 0 {
		ls["pod-template-hash"] = fmt.Sprint(rng.IntN(100))
	}
	return ls
}

func randomPorts(rng *rand.Rand) []policy.NamedPort {
	var out []policy.NamedPort
	if rng.IntN(2) == 0 {
		out = append(out, policy.NamedPort{Name: "http", Proto: datapath.ProtoTCP, Port: one[uint16](rng, 80, 8080)})
	}
	if rng.IntN(3) == 0 {
		out = append(out, policy.NamedPort{Name: "dns", Proto: datapath.ProtoUDP, Port: 53})
	}
	if rng.IntN(3) == 0 {
		out = append(out, policy.NamedPort{Proto: datapath.ProtoTCP, Port: 443})
	}
	return out
}

func (s *Sim) createPod(rng *rand.Rand) {
	name := cluster.Name{Namespace: one(rng, namespaceNames...), Name: fmt.Sprintf("p%d", rng.IntN(2+len(s.nodes)))}
	p := cluster.Pod{Name: name, Labels: randomLabels(rng), Ports: randomPorts(rng)}
	on, ok := pick(rng.Uint64(), s.nodes, func(n *node) string { return n.name })
	if _, there := s.api.objects["pod "+name.String()]; there || !ok || s.crowded(on) {
		return
	}
	s.serial++
	p.Node, p.UID = on.name, fmt.Sprint("uid-", s.serial)
	if _, there := s.api.objects["namespace "+name.Namespace]; !there {
		s.putNamespace(rng, name.Namespace)
	}
	s.api.tell(cluster.PodUpsert{Pod: p})
}

// crowded says whether a node may have no address for one more pod.
func (s *Sim) crowded(n *node) bool {
	pods := 0
	for _, p := range s.podList() {
		if p.Node == n.name {
			pods++
		}
	}
	return pods >= 4
}

func (s *Sim) putNamespace(rng *rand.Rand, name string) {
	ls := map[string]string{"kubernetes.io/metadata.name": name}
	if rng.IntN(3) > 0 {
		ls["team"] = one(rng, "red", "blue")
	}
	s.api.tell(cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: name, Labels: ls}})
}

// deletePod asks a pod to end; its kubelet does so. force: the object goes at once, whatever its node
// still does.
func (s *Sim) deletePod(r uint64, force bool) {
	p, ok := pick(r, s.podList(), func(p cluster.Pod) string { return p.Name.String() })
	if !ok {
		return
	}
	s.endPod(p, force)
}

func (s *Sim) endPod(p cluster.Pod, force bool) {
	if force || s.node(p.Node) == nil || s.containerOf(p) == nil {
		s.api.tell(cluster.PodDelete{Name: p.Name})
		return
	}
	p.Terminating, p.Ready = true, false
	s.api.tell(cluster.PodUpsert{Pod: p})
}

func (s *Sim) relabelPod(rng *rand.Rand) {
	talks := rng.IntN(2) == 0
	s.relabelOne(rng, func(p cluster.Pod) bool {
		return !talks || slices.ContainsFunc(s.conns, func(c *conn) bool {
			return c.from.c != nil && c.from.c.pod == p.Name || c.to.c != nil && c.to.c.pod == p.Name
		})
	})
}

func (s *Sim) relabelOne(rng *rand.Rand, which func(cluster.Pod) bool) {
	list := slices.DeleteFunc(s.podList(), func(p cluster.Pod) bool { return !which(p) })
	if p, ok := pick(rng.Uint64(), list, func(p cluster.Pod) string { return p.Name.String() }); ok {
		p.Labels = randomLabels(rng)
		if rng.IntN(2) == 0 {
			p.Labels["version"] = fmt.Sprint("new-", s.step) // its identity has to be made
		}
		s.api.tell(cluster.PodUpsert{Pod: p})
	}
}

func (s *Sim) deleteNamespace(rng *rand.Rand) {
	name := one(rng, namespaceNames...)
	for _, p := range s.podList() {
		if p.Name.Namespace == name {
			return // it goes when it is empty
		}
	}
	for _, k := range slices.Clone(s.api.keys) {
		if e, ok := s.api.objects[k].(cluster.PolicyUpsert); ok && e.Policy.Ref.Namespace == name {
			s.api.tell(cluster.PolicyDelete{Ref: e.Policy.Ref})
		}
	}
	s.api.tell(cluster.NamespaceDelete{Name: name})
}

func (s *Sim) putPolicy(rng *rand.Rand) {
	ref := policy.Ref{Kind: one(rng, "NetworkPolicy", "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"), Name: fmt.Sprintf("r%d", rng.IntN(3))}
	if ref.Kind != "CiliumClusterwideNetworkPolicy" {
		ref.Namespace = one(rng, namespaceNames...)
	}
	s.api.tell(cluster.PolicyUpsert{Policy: randomPolicy(rng, ref)})
}

func (s *Sim) deletePolicy(r uint64) {
	var refs []policy.Ref
	each(s.api, func(e cluster.PolicyUpsert) { refs = append(refs, e.Policy.Ref) })
	if ref, ok := pick(r, refs, policy.Ref.String); ok {
		s.api.tell(cluster.PolicyDelete{Ref: ref})
	}
}

func (s *Sim) putService(rng *rand.Rand) {
	i := rng.IntN(4)
	v := lb.Service{Name: lb.Name{Namespace: "shop", Name: fmt.Sprintf("s%d", i)}, Algorithm: one(rng, lb.Random, lb.Maglev)}
	if rng.IntN(4) == 0 {
		v.Affinity = time.Duration(1+rng.IntN(3)) * time.Minute
	}
	for range 1 + rng.IntN(2) {
		f := lb.Frontend{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + i)}), Port: one[uint16](rng, 80, 443), Proto: datapath.ProtoTCP, PortName: "http", Type: lb.ClusterIP}
		switch rng.IntN(4) {
		case 0:
			f.Addr = netip.MustParseAddr(fmt.Sprintf("fd00:96::%d", 1+i))
		case 1:
			f.Proto, f.Port, f.PortName = datapath.ProtoUDP, 53, "dns"
		case 2:
			f.Addr = netip.AddrFrom4([4]byte{10, 96, 0, 9}) // two services may want the same
		}
		v.Frontends = append(v.Frontends, f)
	}
	if rng.IntN(2) == 0 {
		port := lb.Frontend{Addr: netip.IPv4Unspecified(), Port: uint16(30080 + rng.IntN(2)), Proto: datapath.ProtoTCP, PortName: "http", Type: lb.NodePort}
		v.Frontends = append(v.Frontends, port)
		v.ExternalLocal = rng.IntN(2) == 0
	}
	s.api.tell(cluster.ServiceUpsert{Service: v})
}

func (s *Sim) putSlice(rng *rand.Rand) {
	sl := lb.Slice{Service: lb.Name{Namespace: "shop", Name: fmt.Sprintf("s%d", rng.IntN(4))}, Name: one(rng, "a", "b")}
	for _, c := range s.containers {
		if !c.inFabric() || rng.IntN(3) == 0 {
			continue
		}
		for _, a := range c.res.Addresses {
			b := lb.Backend{Addr: a, Port: one[uint16](rng, 80, 8080), Proto: datapath.ProtoTCP, PortName: "http", Node: c.node.name, Weight: 1}
			if rng.IntN(4) == 0 {
				b.Port, b.Proto, b.PortName = 53, datapath.ProtoUDP, "dns"
			}
			if rng.IntN(6) == 0 {
				b.State = lb.Terminating
			}
			if rng.IntN(10) == 0 {
				b.Weight = 0
			}
			sl.Backends = append(sl.Backends, b)
		}
	}
	s.api.tell(cluster.BackendsUpsert{Slice: sl})
}

func (s *Sim) deleteService(r uint64) {
	var names []lb.Name
	each(s.api, func(e cluster.ServiceUpsert) { names = append(names, e.Service.Name) })
	if n, ok := pick(r, names, lb.Name.String); ok {
		s.api.tell(cluster.ServiceDelete{Name: n})
	}
}

func (s *Sim) deleteSlice(r uint64) {
	var all []lb.Slice
	each(s.api, func(e cluster.BackendsUpsert) { all = append(all, e.Slice) })
	if sl, ok := pick(r, all, func(s lb.Slice) string { return s.Service.String() + s.Name }); ok {
		s.api.tell(cluster.BackendsDelete{Service: sl.Service, Slice: sl.Name})
	}
}

const maxNodes = 20

// joinNode adds the machine with the lowest free number; it may be one that was there before.
func (s *Sim) joinNode() {
	i := 1
	for s.node(fmt.Sprintf("n%d", i)) != nil {
		i++
	}
	if i > maxNodes {
		return
	}
	n := &node{s: s, name: fmt.Sprintf("n%d", i), index: i, view: newView(), doom: -1}
	n.store.n, n.watch.a = n, s.api
	n.object = cluster.Node{
		Name:      n.name,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 18, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00:172::%d", i))},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/29", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:244:%d::/120", i))},
	}
	s.nodes = append(s.nodes, n)
	slices.SortFunc(s.nodes, func(a, b *node) int { return a.index - b.index })
	s.trace("node %s joins", n.name)
	n.boot()
	s.api.tell(cluster.NodeUpsert{Node: n.object})
	n.start()
}

// leaveNode takes a machine away for good; the cluster deletes what belonged to it.
func (s *Sim) leaveNode(r uint64) {
	if len(s.nodes) <= 2 {
		return
	}
	n, _ := pick(r, s.nodes, func(n *node) string { return n.name })
	s.trace("node %s leaves", n.name)
	n.kill()
	s.fabric.RemoveNode(n.name)
	s.nodes = slices.DeleteFunc(s.nodes, func(m *node) bool { return m == n })
	for _, c := range slices.Clone(s.containers) {
		if c.node == n {
			s.drop(c)
		}
	}
	for _, p := range s.podList() {
		if p.Node == n.name {
			s.api.tell(cluster.PodDelete{Name: p.Name})
		}
	}
	s.api.tell(cluster.NodeDelete{Name: n.name})
}

// rebootNode empties a machine's kernel; its disk stays.
func (s *Sim) rebootNode(r uint64) {
	n, ok := pick(r, s.nodes, func(n *node) string { return n.name })
	if !ok {
		return
	}
	s.trace("node %s reboots", n.name)
	n.kill()
	for _, c := range s.containers {
		if c.node == n {
			c.failed = true
			if c.phase == running {
				c.phase = inForce
			}
		}
	}
	n.boot()
	n.view.now++
	n.start()
}

// collectGarbage is the cluster's: an endpoint without its pod goes.
func (s *Sim) collectGarbage() {
	var gone []cluster.Name
	each(s.api, func(e cluster.EndpointUpsert) {
		if _, there := s.api.objects["pod "+e.Endpoint.Name.String()]; !there {
			gone = append(gone, e.Endpoint.Name)
		}
	})
	for _, name := range gone {
		s.api.tell(cluster.EndpointDelete{Name: name})
	}
}
