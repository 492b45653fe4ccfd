package kernel_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// FuzzInject holds any bytes at any hook against what must always be true: no panic, one verdict, one
// count, the frame's payload untouched, and no flow entry for what was dropped.
func FuzzInject(f *testing.F) {
	for _, p := range families {
		f.Add(p.Bytes(), uint8(0))
		f.Add(packet.ICMPError(p.Dst, p.Src, 3, 3, p.Bytes(), 8).Bytes(), uint8(1))
		f.Add(p.Fragments(1, 8)[0].Bytes(), uint8(2))
	}
	f.Add(families["IPv6"].With(func(p *packet.Packet) { p.Ext = []packet.Ext{packet.HopByHop(1), packet.AH()} }).Bytes(), uint8(3))
	f.Fuzz(func(t *testing.T, frame []byte, hook uint8) {
		w := newWorld(t)
		h := kernel.Hook(hook % 4)
		original := append([]byte(nil), frame...)
		res := w.one.Inject(h, ifWeb, frame, w.tunnelled(idJob).meta)
		if string(original) != string(frame) {
			t.Fatal("the caller's frame was changed")
		}
		counters, err := w.one.Counters()
		w.ok(err)
		if len(counters) != 1 || counters[0].Packets != 1 || counters[0].Bytes != uint64(len(frame)) || counters[0].Reason != res.Reason {
			t.Fatalf("counted %v, result %s", counters, res)
		}
		if res.Action == kernel.Drop {
			w.noFlows(w.one)
			return
		}
		if len(frame) != len(res.Frame) || string(frame[12:]) != string(res.Frame[12:]) {
			t.Fatal("more than Ethernet addresses changed")
		}
	})
}

// Whatever the policies are and however packets and changes of policy mix: a packet passes exactly when the
// policies in force allow the flow that it belongs to.
func TestPolicyHoldsAtEveryPacket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		policies := map[datapath.EndpointID]map[datapath.PolicyKey]bool{}
		serial := uint32(1)
		keys := []datapath.PolicyKey{
			{AnyProto: true}, {Proto: tcp}, {Proto: tcp, Port: 80, PortBits: 16},
			{Direction: datapath.Egress, AnyProto: true}, {Direction: datapath.Egress, Proto: tcp, Port: 80, PortBits: 15},
		}
		change := func(ep datapath.EndpointID) {
			serial++
			chosen := rows{{Direction: datapath.Egress, Proto: 255}: {}}
			policies[ep] = map[datapath.PolicyKey]bool{}
			for _, key := range keys {
				if rapid.Bool().Draw(rt, "row") {
					allow := rapid.Bool().Draw(rt, "allow")
					policies[ep][key] = allow
					chosen[key] = datapath.PolicyRow{Allow: allow}
				}
			}
			w.policyOf(w.one, ep, newPolicy(serial), chosen)
		}
		// allowed reads the rows as a person would: the most specific one that covers the packet.
		allowed := func(ep datapath.EndpointID, d datapath.Direction, port uint16) bool {
			best, verdict := -1, false
			for key, allow := range policies[ep] {
				specific := 0
				if !key.AnyProto {
					specific = 8 + int(key.PortBits)
				}
				if key.Direction == d && key.Covers(tcp, port) && specific > best {
					best, verdict = specific, allow
				}
			}
			return verdict
		}
		change(epWeb)
		change(epDB)
		opened := map[uint16]bool{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			port := rapid.SampledFrom([]uint16{79, 80, 81}).Draw(rt, "port")
			ok := allowed(epWeb, datapath.Egress, port) && allowed(epDB, datapath.Ingress, port)
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				change(rapid.SampledFrom([]datapath.EndpointID{epWeb, epDB}).Draw(rt, "endpoint"))
			case 1, 2:
				flags := uint8(ack)
				if !opened[port] {
					flags = syn
				}
				res := w.fromWeb().send(packet.TCP(at(web4, 1000), at(db4, port), flags))
				if (res.Action != kernel.Drop) != ok {
					rt.Fatalf("port %d: %s, policies allow: %v", port, res, ok)
				}
				opened[port] = opened[port] || ok
			case 3:
				if !opened[port] {
					continue
				}
				res := w.fromDB().send(packet.TCP(at(db4, port), at(web4, 1000), ack))
				if (res.Action != kernel.Drop) != ok {
					rt.Fatalf("answer from port %d: %s, policies allow: %v", port, res, ok)
				}
			}
		}
	})
}
