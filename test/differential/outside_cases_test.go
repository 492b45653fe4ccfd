package differential_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// Cases about services from outside that random sequences meet too rarely.
func TestServicesFromOutsideCases(t *testing.T) {
	var (
		node, other = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.1.0.254")
		pod         = people[0][localPod][0]
		remote      = people[0][remotePod][0]
		client      = netip.AddrPortFrom(people[0][outside][0], 4000)
		open        = datapath.NewPolicyID(0, 1)
		again       = datapath.NewPolicyID(0, 2)
		atPod       = netip.AddrPortFrom(pod, 80)
	)
	frontend := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(node, port) }
	service := func(id uint32, port uint16, backend uint32) []op {
		key := datapath.ServiceKey{Addr: netip.IPv4Unspecified(), Port: port, Proto: datapath.ProtoUDP, Scope: datapath.External}
		return []op{{SlotRow: put(datapath.SlotKey{Service: id, Slot: 1}, backend)}, {Service: put(key, datapath.Service{ID: id, Count: 1})}}
	}
	world := []op{
		{Endpoint: put(node, datapath.Endpoint{Identity: identity.Host, Host: true})},
		{Endpoint: put(other, datapath.Endpoint{Identity: identity.Host, Host: true})},
		{Endpoint: put(pod, datapath.Endpoint{ID: 1, Identity: 1001, Ifindex: 0, MAC: macOf(1, 0xa), NodeMAC: macOf(1, 0xb)})},
		{IPCache: put(netip.PrefixFrom(remote, 32), datapath.IPCache{Identity: 2001, Tunnel: nodeA})},
		{Backend: put(uint32(1), datapath.Backend{Addr: pod, Port: 80, Proto: datapath.ProtoUDP})},
		{Backend: put(uint32(3), datapath.Backend{Addr: remote, Port: 80, Proto: datapath.ProtoUDP})},
	}
	for _, id := range []datapath.PolicyID{open, again} {
		for _, d := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
			world = append(world, op{Policy: put(datapath.PolicyKey{Policy: id, Direction: d, AnyProto: true}, datapath.PolicyRow{Allow: true})})
		}
	}
	world = append(world, op{Word: put(datapath.EndpointID(1), datapath.EndpointPolicy{Policy: open, Epoch: 1})})
	world = append(append(append(world, service(1, 30080, 1)...), service(2, 53, 1)...), service(3, 80, 3)...)
	world = append(world, op{Node: put(nodeA, datapath.Node{ID: 1})}, op{Backend: put(uint32(4), datapath.Backend{Addr: remote, Port: 80, Proto: datapath.ProtoSCTP})},
		op{SlotRow: put(datapath.SlotKey{Service: 4, Slot: 1}, uint32(4))},
		op{Service: put(datapath.ServiceKey{Addr: netip.IPv4Unspecified(), Port: 80, Proto: datapath.ProtoSCTP, Scope: datapath.External}, datapath.Service{ID: 4, Count: 1})})
	sent := func(h kernel.Hook, slot int, p packet.Packet) op {
		p.SrcMAC, p.DstMAC = datapath.MAC{2, 0xcc, 1}, networkMAC
		return op{Packet: &injection{Hook: h, Slot: slot, Frame: p.Bytes()}}
	}
	fromClient := func(to netip.AddrPort) op {
		return sent(kernel.FromNetwork, slotNetwork, packet.UDP(client, to, "hi"))
	}
	toPod := sent(kernel.ToPod, 0, packet.UDP(client, atPod, "hi"))
	fromPod := sent(kernel.FromPod, 0, packet.UDP(atPod, client, "ho"))
	fromOverlay := func(p packet.Packet) op {
		o := sent(kernel.FromOverlay, slotOverlay, p)
		o.Packet.VNI, o.Packet.Remote = 2001, nodeA
		return o
	}
	quoted := packet.UDP(frontend(30080), client, "ho").Bytes()
	for name, c := range map[string]struct {
		ops  []op
		want map[string]int
	}{
		"two frontends of one backend": {
			ops:  []op{fromClient(frontend(30080)), fromClient(frontend(53)), fromClient(frontend(30080)), fromClient(frontend(53))},
			want: map[string]int{"from_network pass": 4, "rewritten at from_network: packet": 4},
		},
		"SCTP to another node, and its answer": {
			ops: []op{
				sent(kernel.FromNetwork, slotNetwork, packet.SCTP(client, frontend(80))),
				fromOverlay(packet.SCTP(netip.AddrPortFrom(remote, 80), netip.AddrPortFrom(node, client.Port()))),
			},
			want: map[string]int{"rewritten at from_network: packet": 1, "rewritten at from_overlay: packet": 1},
		},
		"a renewed flow whose translation is over": {
			ops: []op{
				fromClient(frontend(30080)), toPod, fromPod, {Advance: 59}, toPod, {Advance: 59}, toPod, {Advance: 3},
				{Word: put(datapath.EndpointID(1), datapath.EndpointPolicy{Policy: again, Epoch: 2})}, fromPod,
			},
			want: map[string]int{"from_pod direct": 1, "from_pod drop 167": 1},
		},
		"an error about somebody else's packet": {
			ops: []op{
				fromClient(frontend(30080)), sent(kernel.FromNetwork, slotNetwork, packet.ICMPError(client.Addr(), other, 3, 3, quoted, 8)),
				sent(kernel.FromNetwork, slotNetwork, packet.ICMPError(client.Addr(), node, 3, 3, quoted, 8)),
			},
			want: map[string]int{"rewritten at from_network: packet": 1, "rewritten at from_network: ICMP error": 1},
		},
		"an answer that claims to come from here": {
			ops: []op{
				fromClient(frontend(30080)), sent(kernel.FromNetwork, slotNetwork, packet.UDP(atPod, client, "ho")),
			},
			want: map[string]int{"rewritten at from_network: packet": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, seen := newRig(t), newTally()
			d, err := r.play(append(append([]op{}, world...), c.ops...), seen)
			require.NoError(t, err)
			require.Nil(t, d)
			for what, n := range c.want {
				require.Equal(t, n, seen.counts[what], "%s: %v", what, seen.counts)
			}
		})
	}
}
