package flow

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// AddressInfo is what is known about an address.
type AddressInfo struct {
	Identity  identity.ID
	Namespace string // empty when it is no pod's
	Pod       string
	Labels    []string
}

// Lookup answers what a datapath event does not say itself. Every method says ok = false for what
// is not known.
type Lookup interface {
	Address(netip.Addr) (info AddressInfo, ok bool)
	Identity(identity.ID) (labels []string, ok bool)
	Rule(datapath.Cookie) (v policy.Verdict, ok bool)
	Frontend(addr netip.AddrPort, proto uint8) (s Service, ok bool)
}

// Builder turns datapath events into flows. It has one caller at a time.
type Builder struct {
	node   string
	base   [16]byte // of the UUIDs
	lookup Lookup
	built  uint64
}

// NewBuilder makes a builder for a node. The salt (a start time, a random number) keeps the ids of
// flows apart from those of an earlier builder on the same node.
func NewBuilder(node string, salt uint64, lookup Lookup) *Builder {
	b := &Builder{node: node, lookup: lookup}
	h := fnv.New128a()
	h.Write([]byte(node))
	h.Write(binary.BigEndian.AppendUint64(nil, salt))
	h.Sum(b.base[:0])
	b.base[6] = b.base[6]&0x0f | 0x80
	b.base[8] = b.base[8]&0x3f | 0x80
	return b
}

// Build describes an event. The event's own identities count, even where an address has come to
// mean something else since.
func (b *Builder) Build(e datapath.Event) *Flow {
	// One allocation for what is kept and dropped together.
	type whole struct {
		flow            Flow
		egress, ingress policy.Verdict
	}
	w := &whole{}
	f := &w.flow
	*f = Flow{
		Time: e.Time, UUID: b.nextUUID(), Node: b.node, Event: e, Verdict: VerdictForwarded,
		Source:    b.endpoint(e.Src.Addr(), e.SrcIdentity, e.SrcEndpoint),
		Dest:      b.endpoint(e.Dst.Addr(), e.DstIdentity, e.DstEndpoint),
		SourceSvc: b.service(e.Src, e.Proto),
		DestSvc:   b.service(e.Dst, e.Proto),
	}
	refused := e.Type == datapath.EventDrop && (e.Reason == datapath.ReasonPolicyDenied || e.Reason == datapath.ReasonPolicyDeny)
	if e.Type == datapath.EventDrop {
		f.Verdict = VerdictDropped
	}
	if e.EgressJudged {
		f.Egress = b.verdict(&w.egress, e.EgressCookie, !(refused && e.Direction == datapath.Egress))
	}
	if e.IngressJudged {
		f.Ingress = b.verdict(&w.ingress, e.IngressCookie, !(refused && e.Direction == datapath.Ingress))
	}
	return f
}

func (b *Builder) endpoint(a netip.Addr, id identity.ID, ep datapath.EndpointID) Endpoint {
	out := Endpoint{ID: uint32(ep), Identity: id}
	info, known := b.lookup.Address(a)
	if known {
		out.Namespace, out.Pod = info.Namespace, info.Pod
		if id == identity.Unknown {
			out.Identity = info.Identity
		}
	}
	if ls, ok := b.lookup.Identity(out.Identity); ok {
		out.Labels = ls
		// An API server outside the cluster has a number on each node; people know it by one.
		if out.Identity.IsLocal() && slices.Contains(ls, apiServerLabel) {
			out.Identity = identity.KubeAPIServer
		}
	} else if known && info.Identity == out.Identity {
		out.Labels = info.Labels
	}
	return out
}

const apiServerLabel = labels.SourceReserved + ":kube-apiserver"

func (b *Builder) service(a netip.AddrPort, proto uint8) *Service {
	s, ok := b.lookup.Frontend(a, proto)
	if !ok {
		return nil
	}
	found := s // only this one is put on the heap
	return &found
}

// verdict explains a cookie in the place given, and returns that; nil when its rule is no longer known.
func (b *Builder) verdict(v *policy.Verdict, c datapath.Cookie, allowed bool) *policy.Verdict {
	known, ok := b.lookup.Rule(c)
	switch {
	case ok:
		*v = known
	case c != 0:
		return nil
	}
	v.Allowed = allowed
	return v
}

// nextUUID names a flow: a version 8 UUID from the node and the salt, and a running number in its last six
// bytes.
func (b *Builder) nextUUID() string {
	b.built++
	u := b.base
	tail := binary.BigEndian.Uint64(u[8:])
	const low = 1<<48 - 1
	binary.BigEndian.PutUint64(u[8:], tail&^low|(tail+b.built)&low)
	var out [36]byte
	hex.Encode(out[:], u[:4])
	at := 8
	for _, part := range [][]byte{u[4:6], u[6:8], u[8:10], u[10:]} {
		out[at] = '-'
		hex.Encode(out[at+1:], part)
		at += 1 + 2*len(part)
	}
	return string(out[:])
}
