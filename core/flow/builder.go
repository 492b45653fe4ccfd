package flow

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
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
	origin []byte // node and salt
	lookup Lookup
	built  uint64
}

// NewBuilder makes a builder for a node. The salt (a start time, a random number) keeps the ids of
// flows apart from those of an earlier builder on the same node.
func NewBuilder(node string, salt uint64, lookup Lookup) *Builder {
	return &Builder{node: node, origin: binary.BigEndian.AppendUint64([]byte(node), salt), lookup: lookup}
}

// Build describes an event. The event's own identities count, even where an address has come to
// mean something else since.
func (b *Builder) Build(e datapath.Event) *Flow {
	f := &Flow{
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
		f.Egress = b.verdict(e.EgressCookie, !(refused && e.Direction == datapath.Egress))
	}
	if e.IngressJudged {
		f.Ingress = b.verdict(e.IngressCookie, !(refused && e.Direction == datapath.Ingress))
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
	} else if known && info.Identity == out.Identity {
		out.Labels = info.Labels
	}
	return out
}

func (b *Builder) service(a netip.AddrPort, proto uint8) *Service {
	if s, ok := b.lookup.Frontend(a, proto); ok {
		return &s
	}
	return nil
}

// verdict explains a cookie; nil when its rule is no longer known.
func (b *Builder) verdict(c datapath.Cookie, allowed bool) *policy.Verdict {
	v, ok := b.lookup.Rule(c)
	if !ok {
		if c != 0 {
			return nil
		}
		v = policy.Verdict{}
	}
	v.Allowed = allowed
	return &v
}

// nextUUID names a flow: a version 8 UUID from the node, the salt and a running number.
func (b *Builder) nextUUID() string {
	b.built++
	h := fnv.New128a()
	h.Write(b.origin)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], b.built)
	h.Write(n[:])
	var sum [16]byte
	u := h.Sum(sum[:0])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	var text [36]byte
	at := 0
	for i, x := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[at] = '-'
			at++
		}
		text[at], text[at+1] = hexDigits[x>>4], hexDigits[x&15]
		at += 2
	}
	return string(text[:])
}

const hexDigits = "0123456789abcdef"
