package ebpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

// tcUnspec leaves the packet to the device's other programs.
const tcUnspec = 0xffffffff

// direct makes the other node a neighbour on a device of its own.
func (r *rig) direct(t testing.TB, x family) {
	t.Helper()
	hop := netip.MustParseAddr("192.0.2.2")
	if !x.a.Is4() {
		hop = netip.MustParseAddr("2001:db8:1::2")
	}
	row := datapath.IPCache{Identity: remoteIdentity, NextHop: hop}
	require.NoError(t, r.IPCache.Put(netip.PrefixFrom(x.remote, x.remote.BitLen()), row))
	require.NoError(t, r.d.BumpAddr(x.remote))
}

func (r *rig) fromNetwork(t *testing.T, frame []byte) result {
	t.Helper()
	return r.run(t, progFromNetwork, r.network, frame)
}

func (r *rig) toB(t testing.TB, frame []byte) result {
	t.Helper()
	return r.run(t, progToPod, r.b.ifindex, frame)
}

func TestDirectRouting(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.direct(t, x)
		syn := r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn))
		e := syn.opened(t, tcRedirect, datapath.PointToNetwork)
		require.EqualValues(t, remoteIdentity, e.DstIdentity)

		answer := r.fromNetwork(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck))
		answer.silent(t, tcRedirect)
		answer.delivered(t, r.a)

		data := tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPAck)
		in := r.fromNetwork(t, data)
		in.silent(t, tcRedirect)
		in.delivered(t, r.a)
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPAck)).silent(t, tcRedirect)
		require.EqualValues(t, 2, r.flow(t).Packets[1], "those past the stack count, those to it once")

		require.NoError(t, r.d.BumpAddr(x.remote))
		r.fromNetwork(t, data).silent(t, tcUnspec, "a stale entry serves nobody")
		r.run(t, progToPod, r.a.ifindex, data).silent(t, tcOK)
		r.fromNetwork(t, data).silent(t, tcRedirect)

		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPFin|datapath.TCPAck)).silent(t, tcRedirect)
		end := r.fromNetwork(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPFin|datapath.TCPAck))
		require.EqualValues(t, tcRedirect, end.code)
		require.Len(t, end.events, 1)
		closed := end.events[0]
		require.Equal(t, datapath.EventClose, closed.Type)
		require.True(t, closed.Reply)
		require.Equal(t, [2]uint64{3, 5}, closed.Packets)
		require.Equal(t, netip.AddrPortFrom(x.remote, 80), closed.Src)
		r.fromNetwork(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPSyn)).silent(t, tcUnspec, "that would be another flow, which A does not take")

		r.expireFlows(t)
		r.fromNetwork(t, data).silent(t, tcUnspec, "an expired one neither")
	})
}

func TestFromNetworkOpensFlowsOfNeighbours(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.direct(t, x)
		syn := tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPSyn)
		first := r.fromNetwork(t, syn)
		e := first.opened(t, tcRedirect, datapath.PointToEndpoint)
		first.delivered(t, r.b)
		require.Equal(t, syn[12:], first.frame[12:])
		require.Equal(t, datapath.Ingress, e.Direction)
		require.Equal(t, r.network, e.Ifindex)
		require.EqualValues(t, remoteIdentity, e.SrcIdentity)
		require.EqualValues(t, cookieRemote, e.IngressCookie)
		require.Equal(t, r.b.id, e.DstEndpoint)
		r.fromB(t, tcpFrame(x.b, x.remote, 80, 5000, datapath.TCPSyn|datapath.TCPAck)).silent(t, tcRedirect)
		r.fromNetwork(t, tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPAck)).silent(t, tcRedirect)
		f := r.flow(t)
		require.Equal(t, [2]uint64{2, 1}, f.Packets)
		lives(t, f, datapath.LifetimeTCPEstablished)

		r.fromNetwork(t, tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPRst))
		r.fromNetwork(t, syn).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.Equal(t, [2]uint64{1, 0}, r.flow(t).Packets, "the same ports again are a new flow")

		r.setPolicy(t, r.b.id)
		r.fromNetwork(t, syn).silent(t, tcUnspec, "it renews nothing")
		r.toB(t, syn).dropped(t, datapath.ReasonPolicyDenied)
		r.fromNetwork(t, syn).silent(t, tcUnspec, "nor does it bring back what policy cut")
	})
}

func TestFromNetworkOpensNothingElse(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.direct(t, x)
		allow := row{Key: datapath.PolicyKey{AnyProto: true}, Value: datapath.PolicyRow{Allow: true, Cookie: 9}}
		leaves := func(f []byte, why string) {
			t.Helper()
			before, err := r.d.Counters()
			require.NoError(t, err)
			out := r.fromNetwork(t, f)
			out.silent(t, tcUnspec, why)
			require.Equal(t, f, out.frame, "untouched")
			r.noFlows(t)
			after, err := r.d.Counters()
			require.NoError(t, err)
			require.Equal(t, before, after, "not counted either")
		}
		leaves(tcpFrame(x.remote, x.b, 5000, 81, datapath.TCPSyn), "policy refuses it")
		r.setPolicy(t, r.b.id, allow)
		leaves(udpFrame(x.remote, x.host, 5000, 53), "for the node")
		leaves(udpFrame(x.remote, x.free, 5000, 53), "for nobody")
		leaves(udpFrame(x.world, x.b, 5000, 53), "from outside")
		leaves(udpFrame(x.host, x.b, 5000, 53), "from this node, it says")
		leaves(udpFrame(x.a, x.b, 5000, 53), "from a pod of this node, it says")
		leaves(echoFrame(x.remote, x.b, 7, false), "not plain")
		last := packet{src: x.remote, dst: x.b, proto: datapath.ProtoUDP, l4: udp(5000, 53, 16), hopLimit: 1}
		leaves(last.frame(), "no hop left")

		r.putPod(t, x.remote, r.a)
		leaves(udpFrame(x.remote, x.b, 5000, 53), "from a pod that is here by now")
		require.NoError(t, r.Endpoints.Delete(x.remote))
		require.NoError(t, r.EndpointPolicy.Put(r.b.id, datapath.EndpointPolicy{Epoch: 1000}))
		leaves(udpFrame(x.remote, x.b, 5000, 53), "there is no policy yet")
	})
}

func TestFromNetworkServesWhatToPodOpened(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.direct(t, x)
		r.toB(t, udpFrame(x.remote, x.b, 5000, 53)).opened(t, tcOK, datapath.PointToEndpoint)
		r.fromB(t, udpFrame(x.b, x.remote, 53, 5000)).silent(t, tcRedirect, "the answer goes to the neighbour")
		in := r.fromNetwork(t, udpFrame(x.remote, x.b, 5000, 53))
		in.silent(t, tcRedirect)
		in.delivered(t, r.b)
		frags := packet{src: x.remote, dst: x.b, proto: datapath.ProtoUDP, l4: udp(5000, 53, 16), more: true, id: 9}
		r.fromNetwork(t, frags.frame()).silent(t, tcUnspec, "a fragment takes the stack")
		last := packet{src: x.remote, dst: x.b, proto: datapath.ProtoUDP, l4: udp(5000, 53, 16), hopLimit: 1}
		r.fromNetwork(t, last.frame()).silent(t, tcUnspec, "a router would send it back")
	})
}

func TestFromNetworkBelievesNobodyToBeThisNode(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.direct(t, x)
		allow := row{Key: datapath.PolicyKey{AnyProto: true}, Value: datapath.PolicyRow{Allow: true, Cookie: 9}}
		r.setPolicy(t, r.b.id, allow)
		for _, from := range []netip.Addr{x.host, x.world, x.a} {
			f := udpFrame(from, x.b, 5000, 53)
			if from == x.a {
				r.fromA(t, f).opened(t, tcRedirect, datapath.PointToEndpoint)
			} else {
				r.toB(t, f).opened(t, tcOK, datapath.PointToEndpoint)
			}
			r.fromNetwork(t, f).silent(t, tcUnspec, "a packet from the wire with the source %s", from)
		}
	})
}

func TestDirectRoutingWithoutADevice(t *testing.T) {
	for _, x := range families {
		t.Run(x.name, func(t *testing.T) {
			r := newRigWith(t, func(*rig, *Config) {})
			r.direct(t, x)
			f := udpFrame(x.a, x.remote, 4000, 53)
			r.fromA(t, f).opened(t, tcOK, datapath.PointToStack)
			r.fromA(t, f).silent(t, tcOK, "the stack may know the way")
		})
	}
}
