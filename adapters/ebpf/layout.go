package ebpf

import (
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// The types of this file lie in memory as the structs of bpf/ do; a test compares names, offsets and
// sizes through BTF.

type rawAddr struct {
	W [16]byte
}

func newAddr(a netip.Addr) rawAddr { return rawAddr{W: a.As16()} }

// addr returns IPv4 unmapped, and the invalid address for all zeroes.
func (a rawAddr) addr() netip.Addr {
	if a.W == [16]byte{} {
		return netip.Addr{}
	}
	return a.any()
}

// any returns IPv4 unmapped; all zeroes are "::".
func (a rawAddr) any() netip.Addr { return netip.AddrFrom16(a.W).Unmap() }

type rawEndpoint struct {
	ID       uint16
	Flags    uint16
	Identity uint32
	Ifindex  uint32
	Mac      datapath.MAC
	NodeMac  datapath.MAC
}

const endpointHost = 1

type rawEPPolicy struct {
	Policy uint32
	Epoch  uint32
}

type rawIPCacheKey struct {
	PrefixBits uint32
	Addr       rawAddr
}

type rawIPCache struct {
	Identity   uint32
	Family     uint8
	PrefixBits uint8
	Direct     uint8
	Pad        uint8
	Tunnel     rawAddr
}

type rawPolicyKey struct {
	PrefixBits uint32
	Policy     uint32
	Class      uint32
	Direction  uint8
	Proto      uint8
	PortBe     [2]uint8
}

type rawPolicy struct {
	Cookie     uint32
	ProxyPort  uint16
	Allow      uint8
	PrefixBits uint8
}

type rawNode struct {
	ID  uint16
	Pad [2]uint8
}

type rawServiceKey struct {
	Addr  rawAddr
	Port  uint16
	Proto uint8
	Scope uint8
}

type rawService struct {
	ID        uint32
	Count     uint32
	AffinityS uint32
	Flags     uint32
}

const serviceLocal = 1

type rawSlotKey struct {
	Service uint32
	Slot    uint32
}

type rawBackend struct {
	Addr  rawAddr
	Port  uint16
	Proto uint8
	Pad   uint8
}

type rawAffinityKey struct {
	NetnsCookie uint64
	Service     uint32
	Pad         uint32
}

type rawAffinity struct {
	UsedNs  uint64
	Backend uint32
	Pad     uint32
}

type rawSockRevKey struct {
	Cookie uint64
	Addr   rawAddr
	Port   uint16
	Proto  uint8
	Pad    [5]uint8
}

type rawSockRev struct {
	Addr     rawAddr
	Port     uint16
	Wildcard uint8
	Pad      uint8
}

type rawFlowKey struct {
	Addr  [2]rawAddr
	Port  [2]uint16
	Proto uint8
	Pad   [3]uint8
}

type rawFlowSide struct {
	Packets    uint64
	Bytes      uint64
	Ifindex    uint32
	Identity   uint32
	Vni        uint32
	Epoch      uint32
	TCPFlags   uint32
	OutIfindex uint32
	Endpoint   uint16
	Bucket     uint16
	Way        uint8
	Route      uint8
	DstMac     datapath.MAC
	SrcMac     datapath.MAC
	Pad        [2]uint8
	Tick       uint32
	Tunnel     rawAddr
}

type rawFlow struct {
	Side          [2]rawFlowSide
	CreatedNs     uint64
	ExpiresNs     uint64
	Epoch         uint32
	State         uint32
	EgressCookie  uint32
	IngressCookie uint32
	Port          uint16
	Initiator     uint8
	Flags         uint8
	Reason        uint8
	Direction     uint8
	Pad           [2]uint8
}

const (
	flowClosing = 3

	flowDenied     = 1
	flowSeenNonSYN = 2
	flowTranslated = 16
)

type rawFragKey struct {
	Src   rawAddr
	Dst   rawAddr
	ID    uint32
	Proto uint8
	Pad   [3]uint8
}

type rawFrag struct {
	Sport    uint16
	Dport    uint16
	Proto    uint8
	IcmpType uint8
	IcmpCode uint8
	Pad      uint8
}

type rawTuple struct {
	Src   rawAddr
	Dst   rawAddr
	Sport uint16
	Dport uint16
	Proto uint8
	Pad   [3]uint8
}

type rawNAT struct {
	To        rawTuple
	Node      rawAddr
	ExpiresNs uint64
	Ifindex   uint32
	Backend   uint32
	Kind      uint8
	State     uint8
	Here      uint8
	Pad       [5]uint8
}

const natReply = 1

// Bits of the table of ports: those of frontends, then those of backends.
const (
	portOfFrontend = 0
	portOfBackend  = 1
)

type rawCounter struct {
	Packets uint64
	Bytes   uint64
}

type rawEvent struct {
	TimestampNs   uint64
	Packets       [2]uint64
	Bytes         [2]uint64
	Src           rawAddr
	Dst           rawAddr
	SrcIdentity   uint32
	DstIdentity   uint32
	EgressCookie  uint32
	IngressCookie uint32
	Ifindex       uint32
	Length        uint32
	SrcPort       uint16
	DstPort       uint16
	SrcEndpoint   uint16
	DstEndpoint   uint16
	Type          uint8
	Reason        uint8
	Point         uint8
	Direction     uint8
	Proto         uint8
	TCPFlags      uint8
	IcmpType      uint8
	IcmpCode      uint8
	Family        uint8
	Reply         uint8
	EgressJudged  uint8
	IngressJudged uint8
	Pad           [4]uint8
}

// Names of the maps; the version changes with the layout.
const (
	mapEndpoints = "endpoints_v1"
	mapEPPolicy  = "ep_policy_v1"
	mapIPCache   = "ipcache_v1"
	mapClasses   = "classes_v1"
	mapPolicy    = "policy_v1"
	mapNodes     = "nodes_v1"
	mapServices  = "services_v2"
	mapSlots     = "slots_v1"
	mapBackends  = "backends_v1"
	mapNATPorts  = "nat_ports_v1"
	mapAffinity  = "affinity_v1"
	mapSockRev   = "sock_rev_v1"
	mapFlows     = "flows_v1"
	mapFrags     = "frags_v1"
	mapNAT       = "nat_v1"
	mapAddrEpoch = "addr_epoch_v1"
	mapCounters  = "counters_v1"
	mapEvents    = "events_v1"
	mapLost      = "lost_v1"
	mapWork      = "work_v1"
)

// Names of the programs.
const (
	progFromPod     = "from_pod"
	progToPod       = "to_pod"
	progFromOverlay = "from_overlay"
	progFromHost    = "from_host"
	progFromNetwork = "from_network"
	progToNetwork   = "to_network"
)
