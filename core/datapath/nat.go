package datapath

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Tuple is a packet's ends in its own order.
type Tuple struct {
	Src, Dst netip.AddrPort
	Proto    uint8
}

// Reverse is the tuple of the answer.
func (t Tuple) Reverse() Tuple { return Tuple{Src: t.Dst, Dst: t.Src, Proto: t.Proto} }

func (t Tuple) String() string {
	return ProtoName(t.Proto) + " " + t.Src.String() + " > " + t.Dst.String()
}

// Hash chooses the backend and the port of a connection that a service takes from the network: slot hash % count + 1,
// and port NATPortFirst + hash % NATPortCount. Each of these words in turn is xored into the hash, which is then
// multiplied by 0x9E3779B1 and xored with itself shifted right by 15: the four big-endian words of the 16-byte form
// of the source, those of the destination, source port * 65536 + destination port, the protocol.
func (t Tuple) Hash() (h uint32) {
	mix := func(word uint32) {
		h = (h ^ word) * 0x9E3779B1
		h ^= h >> 15
	}
	for _, a := range []netip.Addr{t.Src.Addr(), t.Dst.Addr()} {
		b := a.As16()
		for i := 0; i < 16; i += 4 {
			mix(binary.BigEndian.Uint32(b[i:]))
		}
	}
	mix(uint32(t.Src.Port())<<16 | uint32(t.Dst.Port()))
	mix(uint32(t.Proto))
	return h
}

// Ports that clients get whose address is changed, and how many are tried for one.
const (
	NATPortFirst = 1024
	NATPortCount = 31744
	NATTries     = 32
)

// NATState is how far a translated connection has come.
type NATState uint8

// The states.
const (
	NATNew      NATState = 0 // no reply seen
	NATAnswered NATState = 1
	NATClosing  NATState = 2 // FIN or RST seen
)

// Lifetimes of translations without traffic, in seconds.
const (
	LifetimeNATNew     = 60
	LifetimeNATTCP     = 8000 // answered
	LifetimeNATOther   = 120  // answered, of other protocols
	LifetimeNATClosing = 120
)

// NATLifetime is how long a translation stays without traffic.
func NATLifetime(s NATState, proto uint8) time.Duration {
	seconds := LifetimeNATOther
	switch {
	case s == NATClosing:
		seconds = LifetimeNATClosing
	case s == NATNew:
		seconds = LifetimeNATNew
	case proto == ProtoTCP:
		seconds = LifetimeNATTCP
	}
	return time.Duration(seconds) * time.Second
}

// Translation is a row of the nat table: what becomes of packets with a tuple.
type Translation struct {
	From, To Tuple
	Reply    bool // from a backend to a client; else from a client to a frontend
	State    NATState
	Here     bool          // the backend is a pod of this node, or the node itself
	Backend  uint32        // id
	Ifindex  uint32        // of the device that the client's first packet came by
	Node     netip.Addr    // that tunnelled the client's first packet here; invalid: it came by a device
	Expires  time.Duration // from now; negative: expired, not collected yet
}
