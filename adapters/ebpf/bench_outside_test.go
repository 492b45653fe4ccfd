package ebpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// BenchmarkService measures what a packet costs where services take packets from the network: those of services, and
// those that are none's.
func BenchmarkService(b *testing.B) {
	var device uint32
	r := newRigWith(b, func(r *rig, c *Config) {
		device = r.network
		c.Outside = ports.Outside{Devices: []uint32{r.network}, Addresses: []netip.Addr{families[0].host, families[1].host}}
	})
	for f, x := range families {
		any := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[f]
		for n, backend := range []netip.Addr{x.b, x.remote} {
			id := uint32(10*f + n + 1)
			key := datapath.ServiceKey{Addr: any, Port: portHere + uint16(n), Proto: datapath.ProtoTCP, Scope: datapath.External}
			require.NoError(b, r.Backends.Put(id, datapath.Backend{Addr: backend, Port: 80, Proto: datapath.ProtoTCP}))
			require.NoError(b, r.Slots.Put(datapath.SlotKey{Service: id, Slot: 1}, id))
			require.NoError(b, r.Services.Put(key, datapath.Service{ID: id, Count: 1}))
		}
		ack, syn := uint8(datapath.TCPAck), uint8(datapath.TCPSyn)
		r.setPolicy(b, r.b.id, allowPort(0, datapath.ProtoTCP, 80, cookieHTTP))
		here := tcpFrame(x.world, x.host, 4000, portHere, ack)
		away := tcpFrame(x.world, x.host, 4000, portAway, ack)
		prepare := func() {
			for _, port := range []uint16{portHere, portAway} {
				r.run(b, progFromNetwork, device, tcpFrame(x.world, x.host, 4000, port, syn))
			}
			r.run(b, progToPod, r.b.ifindex, tcpFrame(x.world, x.b, 4000, 80, syn))
		}
		prepare()
		rows, err := r.d.Translations()
		require.NoError(b, err)
		var snat uint16
		for _, row := range rows {
			if row.From.Src.Addr() == x.remote {
				snat = row.From.Dst.Port()
			}
		}
		require.NotZero(b, snat)
		for _, p := range []path{
			{name: "not a service's", prog: progFromNetwork, frame: tcpFrame(x.world, x.host, 4000, 22, ack), ifindex: device, code: tcUnspec},
			{name: "to a pod of another network", prog: progFromNetwork, frame: tcpFrame(x.world, x.a, 4000, 22, ack), ifindex: device, code: tcUnspec},
			{name: "request to a pod here", prog: progFromNetwork, frame: here, ifindex: device, code: tcUnspec},
			{name: "request to a pod elsewhere", prog: progFromNetwork, frame: away, ifindex: device, code: tcRedirect},
			{name: "answer of a pod here", prog: progFromPod, frame: tcpFrame(x.b, x.world, 80, 4000, ack), ifindex: r.b.ifindex, code: tcRedirect},
			{name: "answer of a pod elsewhere", prog: progFromOverlay, frame: tcpFrame(x.remote, x.host, 80, snat, ack), ifindex: r.overlay, tunnel: tunnelTo[:], code: tcRedirect},
			{name: "of the node's sockets", prog: progToNetwork, frame: tcpFrame(x.host, x.world, 22, 4000, ack), ifindex: device, code: tcUnspec},
		} {
			b.Run(p.prog+"/"+p.name+"/"+x.name, func(b *testing.B) {
				r.enter(b)
				prepare()
				report(b, shortRuns, func() float64 {
					// The kernel runs a program on one buffer again and again: what it rewrote is nobody's the next time.
					if p.code == tcUnspec && &p.frame[0] != &here[0] {
						code, ns := testRun(b, r.d.progs[p.prog], max(b.N/shortRuns, 1), p.frame, p.ifindex, p.tunnel...)
						require.Equal(b, p.code, code)
						return ns
					}
					total := 0.0
					for range 10 {
						code, ns := testRun(b, r.d.progs[p.prog], 1, p.frame, p.ifindex, p.tunnel...)
						require.Equal(b, p.code, code)
						total += ns
					}
					return total / 10
				})
			})
		}
	}
}
