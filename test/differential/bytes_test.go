package differential_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// openWorld lets everybody talk to everybody: what is dropped is dropped for what the packet is.
func openWorld() []op {
	var ops []op
	policy := datapath.NewPolicyID(1, 1)
	for f := range people {
		for i, a := range people[f][localPod][:2] {
			p := party{kind: localPod, addr: a, id: datapath.EndpointID(i + 1), ident: identity.ID(1001 + i), slot: i}
			ops = append(ops, op{Endpoint: put(a, endpointOf(p))})
		}
		ops = append(ops, op{Endpoint: put(people[f][host][0], datapath.Endpoint{Identity: identity.Host, Host: true})})
		remote := people[f][remotePod][0]
		ops = append(ops, op{IPCache: put(netip.PrefixFrom(remote, remote.BitLen()), datapath.IPCache{Identity: 2001, Tunnel: nodeA})})
		near := people[f][remotePod][1]
		ops = append(ops, op{IPCache: put(netip.PrefixFrom(near, near.BitLen()), datapath.IPCache{Identity: 2002, NextHop: neighbours[f][0]})})
	}
	ops = append(ops, op{Node: put(nodeA, datapath.Node{ID: 2})})
	for _, d := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
		key := datapath.PolicyKey{Policy: policy, Direction: d, AnyProto: true}
		ops = append(ops, op{Policy: put(key, datapath.PolicyRow{Allow: true, Cookie: datapath.Cookie(d) + 1})})
	}
	for id := datapath.EndpointID(1); id <= 2; id++ {
		ops = append(ops, op{Word: put(id, datapath.EndpointPolicy{Policy: policy, Epoch: 1})})
	}
	return ops
}

// models are packets that are read in different ways, of one family.
func models(src, dst netip.Addr) map[string]packet.Packet {
	s, d := netip.AddrPortFrom(src, 1000), netip.AddrPortFrom(dst, 80)
	udp := packet.UDP(s, d, "12345678")
	out := map[string]packet.Packet{
		"TCP": packet.TCP(s, d, datapath.TCPSyn), "UDP": udp, "SCTP": packet.SCTP(s, d),
		"echo": packet.Echo(src, dst, 7, false), "GRE": {Src: src, Dst: dst, Proto: protoGRE, L4: make([]byte, 8)},
		"first fragment":        packet.UDP(s, d, "0123456789abcdef").Fragments(3, 16)[0],
		"later fragment":        packet.UDP(s, d, "0123456789abcdef").Fragments(3, 16)[1],
		"error":                 packet.ICMPError(src, dst, errorType(src), 3, packet.TCP(d, s, datapath.TCPSyn).Bytes(), 20),
		"error about UDP":       packet.ICMPError(src, dst, errorType(src), 3, packet.UDP(d, s, "12345678").Bytes(), 8),
		"error about an error":  packet.ICMPError(src, dst, errorType(src), 3, packet.ICMPError(dst, src, errorType(src), 3, udp.Bytes(), 8).Bytes(), 40),
		"error about an echo":   packet.ICMPError(src, dst, errorType(src), 3, packet.Echo(dst, src, 7, false).Bytes(), 8),
		"error about fragments": packet.ICMPError(src, dst, errorType(src), 3, packet.UDP(d, s, "0123456789abcdef").Fragments(3, 16)[1].Bytes(), 8),
	}
	if src.Is4() {
		options := func(p *packet.Packet) { p.Options = bytes.Repeat([]byte{1}, 8) }
		out["TCP behind options"] = packet.TCP(s, d, datapath.TCPSyn).With(options)
		out["error about options"] = packet.ICMPError(src, dst, 3, 3, packet.UDP(d, s, "12345678").With(options).Bytes(), 8)
		return out
	}
	ext := func(e ...packet.Ext) func(*packet.Packet) { return func(p *packet.Packet) { p.Ext = e } }
	out["TCP behind headers"] = packet.TCP(s, d, datapath.TCPSyn).With(ext(packet.HopByHop(1), packet.Routing(2, 1), packet.AH(), packet.DestOptions(2)))
	out["UDP behind an atomic fragment"] = udp.With(ext(packet.FragmentHeader(packet.Frag{ID: 4})))
	out["error about headers"] = packet.ICMPError(src, dst, 3, 0, packet.UDP(d, s, "12345678").With(ext(packet.HopByHop(1), packet.DestOptions(1))).Bytes(), 24)
	return out
}

func errorType(a netip.Addr) uint8 {
	if a.Is4() {
		return 3
	}
	return 1
}

// TestEveryByte cuts packets off after every byte, with and without lengths that fit, and changes every byte
// of theirs, at every hook. A flow exists that the intact packet belongs to, and one that errors speak of.
func TestEveryByte(t *testing.T) {
	r := newRig(t)
	seen := newTally()
	for f := range people {
		pods, remote, hostAddr := people[f][localPod], people[f][remotePod][0], people[f][host][0]
		near := people[f][remotePod][1]
		for _, at := range []struct {
			injection
			src, dst netip.Addr
		}{
			{injection{Hook: kernel.FromPod, Slot: 0}, pods[0], pods[1]},
			{injection{Hook: kernel.FromPod, Slot: 0}, pods[0], remote},
			{injection{Hook: kernel.ToPod, Slot: 0}, people[f][outside][0], pods[0]},
			{injection{Hook: kernel.FromOverlay, Slot: slotOverlay, VNI: 2001, Remote: nodeA}, remote, pods[0]},
			{injection{Hook: kernel.FromHost, Slot: slotHost}, hostAddr, remote},
			{injection{Hook: kernel.FromPod, Slot: 0}, pods[0], near},
			{injection{Hook: kernel.FromNetwork, Slot: slotNetwork}, near, pods[0]},
		} {
			for name, p := range models(at.src, at.dst) {
				p.SrcMAC, p.DstMAC = datapath.MAC{2, 0xcc, 1}, networkMAC
				b := p.Bytes()
				ops := openWorld()
				send := func(note string, frame []byte) {
					i := at.injection
					i.Note, i.Frame = note, frame
					ops = append(ops, op{Packet: &i})
				}
				for _, other := range models(at.src, at.dst) { // the flows that errors speak of
					back := other
					back.Src, back.Dst, back.SPort, back.DPort = other.Dst, other.Src, other.DPort, other.SPort
					if back.Proto == datapath.ProtoUDP || back.Proto == datapath.ProtoTCP {
						i := opposite(at.injection)
						i.Frame = back.Bytes()
						ops = append(ops, op{Packet: &i})
					}
				}
				send(name, b)
				tagged := append(append(bytes.Clone(b[:12]), 0x81, 0, 0, 5), b[12:]...)
				send(name+", tagged", tagged)
				ops[len(ops)-1].Packet.Wire = true
				start := len(ops)
				for n := minFrame; n < len(b); n++ {
					send(fmt.Sprintf("%s, %d bytes of it", name, n), b[:n])
					send(fmt.Sprintf("%s, shortened to %d bytes", name, n), shorten(b, n))
				}
				for n := 12; n < len(b); n++ {
					for _, x := range []byte{0xff, 1 << (n % 8)} {
						other := bytes.Clone(b)
						other[n] ^= x
						send(fmt.Sprintf("%s, byte %d differs", name, n), other)
					}
				}
				require.Greater(t, len(ops), start)
				d, err := r.play(ops, seen)
				require.NoError(t, err, "%s at %s", name, at.Hook)
				if d != nil {
					r.fail(t, fmt.Sprintf("%s at %s: %s", name, at.Hook, d), ops)
				}
			}
		}
	}
	t.Logf("%d packets", seen.packets)
}

// opposite is where the answers to a packet enter.
func opposite(i injection) injection {
	switch i.Hook {
	case kernel.FromOverlay, kernel.ToPod, kernel.FromNetwork:
		return injection{Hook: kernel.FromPod, Slot: 0}
	case kernel.FromPod:
		return injection{Hook: kernel.FromPod, Slot: 1}
	}
	return i
}
