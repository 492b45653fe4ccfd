package kernel

import "net/netip"

// fragKey names a datagram that comes in pieces.
type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // as the fragment header says: IPv6 extension headers may follow it
}

// fragPorts is what the first piece told about all.
type fragPorts struct {
	proto              uint8
	sport, dport       uint16
	icmpType, icmpCode uint8
}

func (p *reading) fragKey() fragKey {
	return fragKey{p.src, p.dst, p.fragID, p.fragProto}
}

// completeFragment gives a later fragment what its first one held; false: that one was not seen.
func (k *Kernel) completeFragment(p *reading) bool {
	if p.fragment != laterFragment {
		return true
	}
	f, ok := k.frags.get(p.fragKey())
	if !ok {
		return false
	}
	p.proto, p.sport, p.dport, p.icmpType, p.icmpCode = f.proto, f.sport, f.dport, f.icmpType, f.icmpCode
	return true
}

// noteFragment remembers a first fragment that policy let through.
func (k *Kernel) noteFragment(p *reading) {
	if p.fragment == firstFragment {
		k.frags.put(p.fragKey(), fragPorts{p.proto, p.sport, p.dport, p.icmpType, p.icmpCode})
	}
}
