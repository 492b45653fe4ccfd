package ebpf

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// goTypes are the types that stand for the maps' keys and values.
var goTypes = map[string][2]any{
	mapEndpoints: {rawAddr{}, rawEndpoint{}},
	mapEPPolicy:  {uint32(0), rawEPPolicy{}},
	mapIPCache:   {rawIPCacheKey{}, rawIPCache{}},
	mapClasses:   {uint32(0), uint32(0)},
	mapPolicy:    {rawPolicyKey{}, rawPolicy{}},
	mapNodes:     {rawAddr{}, rawNode{}},
	mapServices:  {rawServiceKey{}, rawService{}},
	mapSlots:     {rawSlotKey{}, uint32(0)},
	mapBackends:  {uint32(0), rawBackend{}},
	mapAffinity:  {rawAffinityKey{}, rawAffinity{}},
	mapSockRev:   {rawSockRevKey{}, rawSockRev{}},
	mapFlows:     {rawFlowKey{}, rawFlow{}},
	mapFrags:     {rawFragKey{}, rawFrag{}},
	mapNAT:       {rawTuple{}, rawNAT{}},
	mapAddrEpoch: {uint32(0), uint32(0)},
	mapCounters:  {uint32(0), rawCounter{}},
	mapLost:      {uint32(0), uint64(0)},
}

// opaque are the maps that Go never reads.
var opaque = map[string]bool{mapWork: true, mapEvents: true}

func TestEveryMapHasAGoTypeOfTheSameLayout(t *testing.T) {
	specs, err := loadSpecs()
	require.NoError(t, err)
	seen := map[string]bool{}
	for object, spec := range specs {
		for name, m := range spec.Maps {
			if strings.HasPrefix(name, ".") {
				continue
			}
			require.LessOrEqual(t, len(name), 15, "map %s of %s", name, object)
			seen[name] = true
			if opaque[name] {
				continue
			}
			types, ok := goTypes[name]
			require.True(t, ok, "map %s of %s has no Go type", name, object)
			sameLayout(t, name+" key", m.Key, reflect.TypeOf(types[0]))
			sameLayout(t, name+" value", m.Value, reflect.TypeOf(types[1]))
			require.EqualValues(t, reflect.TypeOf(types[0]).Size(), m.KeySize, name)
			require.EqualValues(t, reflect.TypeOf(types[1]).Size(), m.ValueSize, name)
		}
	}
	for name := range goTypes {
		require.True(t, seen[name], "no object has map %s", name)
	}
	var event *btf.Struct
	require.NoError(t, specs["from_pod"].Types.TypeByName("event", &event))
	sameLayout(t, "event", event, reflect.TypeOf(rawEvent{}))
}

// sameLayout compares names, offsets and sizes, down to numbers.
func sameLayout(t *testing.T, at string, c btf.Type, g reflect.Type) {
	t.Helper()
	c = btf.UnderlyingType(c)
	size, err := btf.Sizeof(c)
	require.NoError(t, err, at)
	require.EqualValues(t, size, g.Size(), "size of %s", at)
	switch c := c.(type) {
	case *btf.Struct:
		require.Equal(t, reflect.Struct, g.Kind(), at)
		require.Equal(t, len(c.Members), g.NumField(), "members of %s", at)
		for i, m := range c.Members {
			f := g.Field(i)
			require.Equal(t, strings.ReplaceAll(m.Name, "_", ""), strings.ToLower(f.Name), "member %d of %s", i, at)
			require.EqualValues(t, m.Offset.Bytes(), f.Offset, "offset of %s.%s", at, m.Name)
			sameLayout(t, at+"."+m.Name, m.Type, f.Type)
		}
	case *btf.Array:
		require.Equal(t, reflect.Array, g.Kind(), at)
		if inner, ok := btf.UnderlyingType(c.Type).(*btf.Struct); ok {
			require.EqualValues(t, c.Nelems, g.Len(), at)
			sameLayout(t, at+"[]", inner, g.Elem())
		}
	}
}

// TestNumbersAreThoseOfTheCore holds the enums of the C against the constants of core/datapath.
func TestNumbersAreThoseOfTheCore(t *testing.T) {
	specs, err := loadSpecs()
	require.NoError(t, err)
	for name, want := range map[string]map[string]uint64{
		"reason": {
			"REASON_NONE":               uint64(datapath.ReasonNone),
			"REASON_INVALID_SOURCE":     uint64(datapath.ReasonInvalidSource),
			"REASON_POLICY_DENIED":      uint64(datapath.ReasonPolicyDenied),
			"REASON_INVALID_PACKET":     uint64(datapath.ReasonInvalidPacket),
			"REASON_TRUNCATED_L4":       uint64(datapath.ReasonTruncatedL4),
			"REASON_UNSUPPORTED_L3":     uint64(datapath.ReasonUnsupportedL3),
			"REASON_TUNNEL_KEY":         uint64(datapath.ReasonTunnelKey),
			"REASON_UNKNOWN_TARGET":     uint64(datapath.ReasonUnknownTarget),
			"REASON_FLOW_INSERT":        uint64(datapath.ReasonFlowInsert),
			"REASON_EXTENSION_HEADER":   uint64(datapath.ReasonExtensionHeader),
			"REASON_NO_BACKEND":         uint64(datapath.ReasonNoBackend),
			"REASON_NAT_NO_MAPPING":     uint64(datapath.ReasonNATNoMapping),
			"REASON_NAT_PROTOCOL":       uint64(datapath.ReasonNATProtocol),
			"REASON_NO_ROUTE":           uint64(datapath.ReasonNoRoute),
			"REASON_NO_TUNNEL_ENDPOINT": uint64(datapath.ReasonNoTunnelEndpoint),
			"REASON_UNKNOWN_SENDER":     uint64(datapath.ReasonUnknownSender),
			"REASON_FRAGMENT_NOT_FOUND": uint64(datapath.ReasonFragmentNotFound),
			"REASON_FORBIDDEN_ICMPV6":   uint64(datapath.ReasonForbiddenICMPv6),
			"REASON_POLICY_DENY":        uint64(datapath.ReasonPolicyDeny),
			"REASON_VLAN":               uint64(datapath.ReasonVLAN),
			"REASON_NOT_READY":          uint64(datapath.ReasonNotReady),
		},
		"point": {
			"POINT_UNKNOWN":       uint64(datapath.PointUnknown),
			"POINT_TO_STACK":      uint64(datapath.PointToStack),
			"POINT_TO_OVERLAY":    uint64(datapath.PointToOverlay),
			"POINT_FROM_ENDPOINT": uint64(datapath.PointFromEndpoint),
			"POINT_FROM_STACK":    uint64(datapath.PointFromStack),
			"POINT_FROM_NETWORK":  uint64(datapath.PointFromNetwork),
			"POINT_TO_NETWORK":    uint64(datapath.PointToNetwork),
			"POINT_FROM_OVERLAY":  uint64(datapath.PointFromOverlay),
			"POINT_TO_ENDPOINT":   uint64(datapath.PointToEndpoint),
		},
		"event_type": {
			"EVENT_DROP":  uint64(datapath.EventDrop),
			"EVENT_NEW":   uint64(datapath.EventNew),
			"EVENT_CLOSE": uint64(datapath.EventClose),
		},
		"direction": {"INGRESS": uint64(datapath.Ingress), "EGRESS": uint64(datapath.Egress)},
		"proto": {
			"PROTO_ICMP": uint64(datapath.ProtoICMP), "PROTO_TCP": uint64(datapath.ProtoTCP),
			"PROTO_UDP": uint64(datapath.ProtoUDP), "PROTO_ICMPV6": uint64(datapath.ProtoICMPv6),
			"PROTO_SCTP": uint64(datapath.ProtoSCTP),
		},
		"tcp_flag": {
			"TCP_FIN": uint64(datapath.TCPFin), "TCP_SYN": uint64(datapath.TCPSyn),
			"TCP_RST": uint64(datapath.TCPRst), "TCP_ACK": uint64(datapath.TCPAck),
		},
		"identity": {
			"IDENTITY_UNKNOWN": uint64(identity.Unknown), "IDENTITY_HOST": uint64(identity.Host),
			"IDENTITY_REMOTE_NODE":    uint64(identity.RemoteNode),
			"IDENTITY_KUBE_APISERVER": uint64(identity.KubeAPIServer),
			"IDENTITY_WORLD_IPV4":     uint64(identity.WorldIPv4),
			"IDENTITY_WORLD_IPV6":     uint64(identity.WorldIPv6),
			"IDENTITY_MAX_CLUSTER":    uint64(identity.MaxCluster),
			"IDENTITY_LOCAL_FLAG":     uint64(identity.LocalFlag),
		},
		"scope":        {"SCOPE_INTERNAL": uint64(datapath.Internal), "SCOPE_EXTERNAL": uint64(datapath.External)},
		"service_flag": {"SERVICE_LOCAL": serviceLocal},
		"lifetime": {
			"LIFETIME_TCP_SYN_S": datapath.LifetimeTCPSyn, "LIFETIME_TCP_ESTABLISHED_S": datapath.LifetimeTCPEstablished,
			"LIFETIME_TCP_CLOSING_S": datapath.LifetimeTCPClosing, "LIFETIME_OTHER_S": datapath.LifetimeOther,
			"LIFETIME_DENIED_S":  datapath.LifetimeDenied,
			"LIFETIME_NAT_NEW_S": datapath.LifetimeNATNew, "LIFETIME_NAT_TCP_S": datapath.LifetimeNATTCP,
			"LIFETIME_NAT_OTHER_S": datapath.LifetimeNATOther, "LIFETIME_NAT_CLOSING_S": datapath.LifetimeNATClosing,
		},
		"limit": {
			"ADDR_BUCKETS": datapath.AddrBuckets, "CLASS_COUNT": classCount, "ENDPOINT_COUNT": 65536,
			"GENERATION_SHIFT": 30, "LOCAL_CLASS_BASE": uint64(datapath.ClassIndex(identity.MinLocal)),
		},
		"endpoint_flag": {"ENDPOINT_HOST": endpointHost},
		"flow_flag": {
			"FLOW_DENIED": flowDenied, "FLOW_SEEN_NON_SYN": flowSeenNonSYN,
			"FLOW_EGRESS_JUDGED": 4, "FLOW_INGRESS_JUDGED": 8, "FLOW_TRANSLATED": flowTranslated,
		},
		"flow_state": {
			"FLOW_OTHER": 0, "FLOW_TCP_SYN": 1, "FLOW_TCP_ESTABLISHED": 2, "FLOW_TCP_CLOSING": flowClosing,
		},
	} {
		var e *btf.Enum
		require.NoError(t, specs["from_pod"].Types.TypeByName(name, &e), "enum %s", name)
		got := map[string]uint64{}
		for _, v := range e.Values {
			got[v.Name] = v.Value
		}
		require.Equal(t, want, got, "enum %s", name)
	}
}

// instructionBudget reads bpf/budget.txt.
func instructionBudget(t *testing.T) map[string]uint32 {
	t.Helper()
	out := map[string]uint32{}
	for _, line := range strings.Split(bpf.Budget, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var name string
		var n uint32
		_, err := fmt.Sscan(line, &name, &n)
		require.NoError(t, err, "line %q: want a program and a number", line)
		out[name] = n
	}
	return out
}

// What a node does not have is not verified: so each kind of node is loaded.
func TestProgramsLoadWithinTheirBudget(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	const lo = 1
	for name, c := range map[string]Config{
		"alone":   {},
		"overlay": {OverlayIfindex: lo, Tunnel: ports.Tunnel{Device: lo, Address: netip.MustParseAddr("192.0.2.1"), Port: 8472}},
		"direct":  {OverlayIfindex: lo, DirectIfindex: lo},
		"services from outside": {
			OverlayIfindex: lo, Tunnel: ports.Tunnel{Device: lo, Address: netip.MustParseAddr("192.0.2.1"), Port: 8472},
			Outside: ports.Outside{Devices: []uint32{lo}},
		},
		"services from outside, direct": {OverlayIfindex: lo, DirectIfindex: lo, Outside: ports.Outside{Devices: []uint32{lo}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.BPFFS, c.Sizes = newBPFFS(t), smallSizes
			d, err := open(c, nil, ebpf.ProgramOptions{})
			require.NoError(t, err)
			defer d.Close()
			budget := instructionBudget(t)
			require.Len(t, d.progs, len(budget))
			for name, p := range d.progs {
				info, err := p.Info()
				require.NoError(t, err)
				n, ok := info.VerifiedInstructions()
				require.True(t, ok, "the kernel does not count verified instructions (5.16 and later do)")
				t.Logf("%-14s %6d of %6d", name, n, budget[name])
				require.LessOrEqual(t, n, budget[name], "program %s", name)
			}
		})
	}
}

// Kernels before 6.8 add up the stack of a program and of all functions that it is in at a time, each in steps of 32 bytes;
// later ones are content with more.
func TestProgramsFitTheStackOfOldKernels(t *testing.T) {
	const most, step = 512, 32
	specs, err := loadSpecs()
	require.NoError(t, err)
	for _, spec := range specs {
		for name, prog := range spec.Programs {
			own, calls := map[string]int{}, map[string][]string{}
			var in string
			var base [11]bool // registers that hold the frame's address
			for _, ins := range prog.Instructions {
				if s := ins.Symbol(); s != "" && btf.FuncMetadata(&ins) != nil {
					in, base = s, [11]bool{}
				}
				depth := 0
				switch class := ins.OpCode.Class(); {
				case class.IsLoad() && ins.Src == asm.RFP, class.IsStore() && ins.Dst == asm.RFP:
					depth = -int(ins.Offset)
				case ins.OpCode.ALUOp() == asm.Mov && class.IsALU():
					base[ins.Dst] = ins.OpCode.Source() == asm.RegSource && ins.Src == asm.RFP
				case ins.OpCode.ALUOp() == asm.Add && class.IsALU() && base[ins.Dst] && ins.OpCode.Source() == asm.ImmSource:
					depth = -int(ins.Constant)
					base[ins.Dst] = false
				case ins.IsFunctionCall():
					calls[in] = append(calls[in], ins.Reference())
				}
				own[in] = max(own[in], depth)
			}
			var total func(f string) int
			total = func(f string) int {
				deepest := 0
				for _, g := range calls[f] {
					deepest = max(deepest, total(g))
				}
				return deepest + (max(own[f], 1)+step-1)/step*step
			}
			require.NotZero(t, len(own), name)
			t.Logf("%-14s %d of %d", name, total(prog.Instructions[0].Symbol()), most)
			require.LessOrEqual(t, total(prog.Instructions[0].Symbol()), most, "program %s", name)
		}
	}
}
