// Package datapath is the contract between the engine and whatever forwards packets: the tables the
// engine fills, the reasons a packet is dropped for, and the events that come back. The eBPF
// programs and the fake kernel execute the same tables; docs/datapath.md says how.
//
// Addresses are netip.Addr, IPv4 unmapped. Ports, identities and lengths are in host byte order.
package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/identity"
)

// Direction of a rule or verdict, seen from the pod.
type Direction uint8

// The two directions.
const (
	Ingress Direction = 0
	Egress  Direction = 1
)

func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// IP protocol numbers the datapath knows by name (IANA).
const (
	ProtoICMP   uint8 = 1
	ProtoTCP    uint8 = 6
	ProtoUDP    uint8 = 17
	ProtoICMPv6 uint8 = 58
	ProtoSCTP   uint8 = 132
)

// ProtoName gives TCP, UDP, SCTP, ICMPv4, ICMPv6 or the decimal number.
func ProtoName(p uint8) string {
	switch p {
	case ProtoICMP:
		return "ICMPv4"
	case ProtoTCP:
		return "TCP"
	case ProtoUDP:
		return "UDP"
	case ProtoICMPv6:
		return "ICMPv6"
	case ProtoSCTP:
		return "SCTP"
	}
	return fmt.Sprintf("%d", p)
}

// HasPorts says whether the first four bytes of the protocol's header are source and destination
// port.
func HasPorts(p uint8) bool { return p == ProtoTCP || p == ProtoUDP || p == ProtoSCTP }

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// OverlayMAC is the address of every node's overlay device, so that a sender can fill the inner
// Ethernet header without asking.
var OverlayMAC = MAC{0x02, 0x77, 0x65, 0x69, 0x72, 0x01}

// EndpointID numbers the endpoints of one node, 1 to 65535. 0 is "not a local endpoint".
type EndpointID uint16

// PolicyID names one immutable compiled outcome. Its two highest bits are the class generation that
// its rows were written for; 0 is "no policy in force": everything is dropped.
type PolicyID uint32

// GenerationCount is the number of class tables that can exist side by side.
const GenerationCount = 4

// MaxPolicySerial is the highest serial number in a PolicyID.
const MaxPolicySerial = 1<<30 - 1

// NewPolicyID joins a class generation (0 to 3) and a serial number (1 to MaxPolicySerial).
func NewPolicyID(generation uint8, serial uint32) PolicyID {
	return PolicyID(uint32(generation)<<30 | serial&MaxPolicySerial)
}

// Generation is the class table that the policy's rows use.
func (p PolicyID) Generation() uint8 { return uint8(p >> 30) }

// Class is a set of peers that no selector in use can tell apart. 0: no selector matches.
type Class uint32

// Cookie names the rule that decided. 0: no rule (the endpoint is not isolated).
type Cookie uint32

// Epoch counts the changes that make a recorded decision stale.
type Epoch uint32

// Endpoint says how a local address is reached. Table "endpoints", key netip.Addr.
type Endpoint struct {
	ID       EndpointID  // 0 for addresses of the node itself
	Identity identity.ID // of the endpoint; Host for the node's addresses
	Ifindex  uint32      // host side of the pod's veth; 0 for the node's addresses
	MAC      MAC         // pod side of the veth
	NodeMAC  MAC         // host side of the veth
	Host     bool        // the address belongs to this node: deliver to the host's stack
}

// EndpointPolicy is the one word that puts a policy in force. Table "ep_policy", key EndpointID.
// Every change of Policy comes with a higher Epoch.
type EndpointPolicy struct {
	Policy PolicyID
	Epoch  Epoch
}

// IPCache is what is known about the addresses of a prefix. Table "ipcache", key netip.Prefix,
// longest prefix wins.
type IPCache struct {
	Identity identity.ID
	Tunnel   netip.Addr // node to encapsulate to; invalid: not reached through the overlay
	NextHop  netip.Addr // node to send to as it is, a neighbour on the direct-routing device and of the prefix's family; excludes Tunnel
}

// CheckNextHop finds what is wrong with the next hop of a row, if it has one, for its prefix.
func (c IPCache) CheckNextHop(p netip.Prefix) error {
	switch {
	case !c.NextHop.IsValid():
		return nil
	case c.Tunnel.IsValid():
		return fmt.Errorf("next hop %s: there is a tunnel, too (%s); a prefix has one of both", c.NextHop, c.Tunnel)
	case c.NextHop.Unmap().Is4() != p.Addr().Is4():
		return fmt.Errorf("next hop %s: is not of the family of %s", c.NextHop, p)
	}
	return nil
}

// ClassKey selects the class of an identity in one generation. Table "classes"; Class 0 is the same
// as no row.
type ClassKey struct {
	Generation uint8 // 0 to 3
	Identity   identity.ID
}

// ClassIndex is the place of an identity in a class table: 0 to 65535 for reserved and cluster
// identities, 65536 to 131071 for node-local ones. Identities outside these ranges share place 0
// with Unknown.
func ClassIndex(id identity.ID) uint32 {
	switch {
	case id <= identity.MaxCluster:
		return uint32(id)
	case id.IsLocal():
		return 65536 + uint32(id)&0xffff
	}
	return 0
}

// PolicyKey is the key of a policy row; table "policy", longest prefix wins. A row covers all
// protocols (AnyProto), or one protocol and the ports that share the first PortBits bits of Port.
// For ICMP and ICMPv6 the port is the message type, for protocols without ports it is 0.
type PolicyKey struct {
	Policy    PolicyID
	Class     Class
	Direction Direction
	AnyProto  bool
	Proto     uint8
	Port      uint16
	PortBits  uint8 // 0 to 16; 0 when AnyProto
}

func (k PolicyKey) String() string {
	if k.AnyProto {
		return fmt.Sprintf("{policy %d class %d %s any}", k.Policy, k.Class, k.Direction)
	}
	return fmt.Sprintf("{policy %d class %d %s %s %d/%d}", k.Policy, k.Class, k.Direction, ProtoName(k.Proto), k.Port, k.PortBits)
}

// Covers says whether a packet of this protocol and port falls under the row.
func (k PolicyKey) Covers(proto uint8, port uint16) bool {
	if k.AnyProto {
		return true
	}
	shift := 16 - k.PortBits
	return k.Proto == proto && k.Port>>shift == port>>shift
}

// PolicyRow is the decision of a policy row.
type PolicyRow struct {
	Allow     bool
	ProxyPort uint16 // reserved for redirects to a proxy; 0: none
	Cookie    Cookie
}

// Node is a node whose tunnelled packets are accepted. Table "nodes", key the node's underlay
// address.
type Node struct {
	ID uint16 // numbers are local to this node, 1 to 65535
}

// Scope says for whom a frontend's row counts.
type Scope uint8

// The scopes.
const (
	Internal Scope = 0 // sockets of the cluster: pods and nodes
	External Scope = 1 // packets that come from the network
)

func (s Scope) String() string {
	if s == External {
		return "external"
	}
	return "internal"
}

// ServiceKey is a frontend. Table "services". The unspecified address of a family (0.0.0.0, ::) stands for
// every address of a node: in scope Internal of any node, unless the row is Local; in scope External of this one.
// A row of the very address goes first.
type ServiceKey struct {
	Addr  netip.Addr
	Port  uint16
	Proto uint8
	Scope Scope
}

func (k ServiceKey) String() string {
	s := netip.AddrPortFrom(k.Addr, k.Port).String() + "/" + ProtoName(k.Proto)
	if k.Scope == External {
		s += "/external"
	}
	return s
}

// Service says how a frontend spreads its connections over slots 1 to Count.
type Service struct {
	ID              uint32
	Count           uint32 // slots in use; 0: connections are refused
	AffinityTimeout uint32 // seconds; 0: no session affinity
	Local           bool   // the unspecified address stands for this node's own addresses only (host ports, and node ports by externalTrafficPolicy Local)
}

// SlotKey is one place of a service. Table "slots".
type SlotKey struct {
	Service uint32
	Slot    uint32 // from 1
}

// Backend is where a connection really goes. Table "backends", key the backend's id (uint32, not 0).
type Backend struct {
	Addr  netip.Addr
	Port  uint16
	Proto uint8
}

func (b Backend) String() string {
	return netip.AddrPortFrom(b.Addr, b.Port).String() + "/" + ProtoName(b.Proto)
}

// AddrBuckets is the number of buckets whose epochs make flows with remote addresses stale.
const AddrBuckets = 4096

// AddrBucket gives the bucket of an address: the four big-endian words of its 16-byte form, xored,
// times 0x9E3779B1, highest 12 bits.
func AddrBucket(a netip.Addr) uint32 {
	b := a.As16()
	var h uint32
	for i := 0; i < 16; i += 4 {
		h ^= binary.BigEndian.Uint32(b[i:])
	}
	return h * 0x9E3779B1 >> 20
}
