package engine

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// endpoint is a pod of this node.
type endpoint struct {
	Attach
	pod      cluster.Name
	labels   labels.Set
	ports    []policy.NamedPort
	wanted   string // key of the labels it should have; labels follow when their identity is known
	identity identity.ID
	restored bool

	published       bool // what follows is in Published
	ingress, egress bool // policies isolate it
}

func (e *Engine) attach(a Attach) {
	if old, ok := e.local[a.ID]; ok && (old.pod != a.Pod || !slices.Equal(old.IPs, a.IPs)) {
		e.detach(a.ID)
	}
	ep := e.local[a.ID]
	if ep == nil {
		ep = &endpoint{pod: a.Pod}
		e.local[a.ID] = ep
	}
	ep.Attach, ep.restored = a, a.Restored
	e.localByPod[a.Pod] = a.ID
	for _, ip := range a.IPs {
		e.addresses.local[ip] = a.ID
	}
	if !e.resolve(ep) && ep.identity != identity.Unknown {
		e.emitEndpoint(ep)
	}
	e.serveHostPorts(a.Pod)
}

func (e *Engine) detach(id datapath.EndpointID) {
	ep, ok := e.local[id]
	if !ok {
		return
	}
	delete(e.local, id)
	if e.localByPod[ep.pod] == id {
		delete(e.localByPod, ep.pod)
	}
	e.serveHostPorts(ep.pod)
	for _, ip := range ep.IPs {
		delete(e.ownWritten, ip)
		e.remove(Endpoints, ip)
	}
	e.compiler.DeleteSubject(id)
	e.flushPolicy()
	for _, ip := range ep.IPs {
		if e.addresses.local[ip] == id {
			delete(e.addresses.local, ip)
		}
		e.emitAddress(ip)
	}
	// A pod of the same name may have come before this one went: what it uses and published stays.
	next, succeeded := e.local[e.localByPod[ep.pod]]
	if !succeeded || next.identity != ep.identity {
		e.releaseIdentity(ep.identity, user{ep.pod, true})
	}
	if !succeeded {
		e.remove(Published, ep.pod)
	}
}

// upsertPod keeps the pods that run on this node, or may.
func (e *Engine) upsertPod(p cluster.Pod) {
	if p.Node != "" && p.Node != e.node {
		delete(e.pods, p.Name)
		e.serveHostPorts(p.Name)
		return
	}
	e.pods[p.Name] = p
	if id, ok := e.localByPod[p.Name]; ok {
		e.resolve(e.local[id])
	}
	e.serveHostPorts(p.Name)
}

func (e *Engine) relabelNamespace(ns string) {
	for _, id := range sortedKeys(e.local) {
		if ep := e.local[id]; ep.pod.Namespace == ns {
			e.resolve(ep)
		}
	}
}

// resolve finds the endpoint's labels and identity, asks for one if there is none, and brings the
// kernel up to date when something changed, which it reports. Before the initial lists are complete
// labels may be missing, so nothing is asked for then.
func (e *Engine) resolve(ep *endpoint) bool {
	pod, ok := e.pods[ep.pod]
	if !ok || !e.synced {
		return false
	}
	ls := e.podLabels(pod)
	ep.wanted = ls.Key()
	id, ok := e.identities.byKey[ls.Key()]
	if !ok {
		e.ask(ls)
		return false // the old identity, if any, stays until the new one is there
	}
	if id == ep.identity && ls.Key() == ep.labels.Key() && slices.Equal(ep.ports, pod.Ports) {
		return false
	}
	old := ep.identity
	ep.identity, ep.labels, ep.ports = id, ls, slices.Clone(pod.Ports)
	e.useIdentity(id, user{ep.pod, true}, ep.ports)
	e.compiler.UpsertSubject(ep.ID, ls, namedOnly(ep.ports))
	if old != id && old != identity.Unknown {
		defer e.releaseIdentity(old, user{ep.pod, true})
	}
	if !e.live {
		e.serveHostPorts(ep.pod)
		return true
	}
	for _, ip := range ep.IPs {
		e.emitAddress(ip)
	}
	if flipped := e.flushPolicy(); !flipped[ep.ID] && old != id && old != identity.Unknown {
		// Same policy, other identity: what was decided about its flows may not hold any more.
		e.put(EndpointPolicy, ep.ID, datapath.EndpointPolicy{Policy: e.compiler.PolicyOf(ep.ID), Epoch: e.nextEpoch()})
	}
	e.emitEndpoint(ep)
	e.serveHostPorts(ep.pod)
	return true
}

// emitEndpoint makes the endpoint reachable and known. Its policy was put in force before.
func (e *Engine) emitEndpoint(ep *endpoint) {
	if !e.live {
		return
	}
	for _, ip := range ep.IPs {
		e.put(Endpoints, ip, datapath.Endpoint{
			ID: ep.ID, Identity: ep.identity, Ifindex: ep.Ifindex, MAC: ep.MAC, NodeMAC: ep.NodeMAC,
		})
	}
	e.publishEndpoint(ep)
}

// publishEndpoint tells the cluster of an endpoint.
func (e *Engine) publishEndpoint(ep *endpoint) {
	self := e.nodes[e.node]
	ep.published = true
	ep.ingress, ep.egress = e.compiler.Enforced(ep.ID)
	pub := cluster.Endpoint{
		Name: ep.pod, ID: uint16(ep.ID), Identity: ep.identity, IPs: slices.Clone(ep.IPs),
		Node: e.node, Ports: slices.Clone(ep.ports), UID: ep.UID, ContainerID: ep.ContainerID,
		EnforceIngress: ep.ingress, EnforceEgress: ep.egress,
	}
	if pub.UID == "" {
		pub.UID = e.pods[ep.pod].UID
	}
	if len(self.Addresses) > 0 {
		pub.NodeIP = self.Addresses[0]
	}
	e.put(Published, ep.pod, pub)
}

func namedOnly(ports []policy.NamedPort) []policy.NamedPort {
	var out []policy.NamedPort
	for _, p := range ports {
		if p.Name != "" {
			out = append(out, p)
		}
	}
	return out
}

// LocalIPs are the addresses of an endpoint.
func (e *Engine) LocalIPs(id datapath.EndpointID) []netip.Addr {
	if ep, ok := e.local[id]; ok {
		return ep.IPs
	}
	return nil
}
