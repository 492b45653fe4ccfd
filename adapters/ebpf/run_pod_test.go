package ebpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

func TestConnectionBetweenPodsOfOneNode(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		syn := r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn))
		syn.delivered(t, r.b)
		e := syn.opened(t, tcRedirect, datapath.PointToEndpoint)
		require.Equal(t, netip.AddrPortFrom(x.a, 4000), e.Src)
		require.Equal(t, netip.AddrPortFrom(x.b, 80), e.Dst)
		require.Equal(t, datapath.Ingress, e.Direction)
		require.EqualValues(t, cookieEgress, e.EgressCookie)
		require.EqualValues(t, cookieHTTP, e.IngressCookie)
		require.True(t, e.EgressJudged && e.IngressJudged && !e.Reply)
		require.Equal(t, []identity.ID{r.a.identity, r.b.identity}, []identity.ID{e.SrcIdentity, e.DstIdentity})
		require.Equal(t, []datapath.EndpointID{r.a.id, r.b.id}, []datapath.EndpointID{e.SrcEndpoint, e.DstEndpoint})
		require.Equal(t, r.a.ifindex, e.Ifindex)
		require.Equal(t, datapath.TCPSyn, e.TCPFlags)
		lives(t, r.flow(t), datapath.LifetimeTCPSyn)

		reply := r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck))
		reply.silent(t, tcRedirect)
		reply.delivered(t, r.a)
		lives(t, r.flow(t), datapath.LifetimeTCPEstablished)
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)).silent(t, tcRedirect)

		f := r.flow(t)
		require.Equal(t, netip.AddrPortFrom(x.a, 4000), f.Src)
		require.Equal(t, netip.AddrPortFrom(x.b, 80), f.Dst)
		require.Equal(t, [2]uint64{2, 1}, f.Packets)
		require.Equal(t, [2]uint8{datapath.TCPSyn | datapath.TCPAck, datapath.TCPSyn | datapath.TCPAck}, f.TCPFlags)
		require.False(t, f.SeenNonSYN || f.Closing || f.Denied)

		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPFin|datapath.TCPAck)).silent(t, tcRedirect)
		fin := r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPFin|datapath.TCPAck))
		require.Len(t, fin.events, 1)
		require.Equal(t, datapath.EventClose, fin.events[0].Type)
		require.Equal(t, [2]uint64{3, 2}, fin.events[0].Packets)
		require.NotZero(t, fin.events[0].Bytes[1])
		require.True(t, r.flow(t).Closing)
		lives(t, r.flow(t), datapath.LifetimeTCPClosing)
		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPAck)).silent(t, tcRedirect, "closed is reported once")

		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		f = r.flow(t)
		require.False(t, f.Closing, "a SYN on a closing entry opens a new flow")
		require.Equal(t, [2]uint64{1, 0}, f.Packets)

		rst := r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPRst))
		require.Len(t, rst.events, 1)
		require.Equal(t, datapath.EventClose, rst.events[0].Type)
		require.True(t, rst.events[0].Reply)
	})
}

func TestPolicyRefuses(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		e := r.fromA(t, tcpFrame(x.a, x.b, 4000, 81, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDenied)
		require.Equal(t, datapath.PointFromEndpoint, e.Point)
		require.Equal(t, datapath.Ingress, e.Direction)
		require.True(t, e.EgressJudged && e.IngressJudged)
		require.EqualValues(t, cookieEgress, e.EgressCookie)
		require.Zero(t, e.IngressCookie)
		require.Equal(t, r.b.id, e.DstEndpoint)
		r.noFlows(t)

		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDenied,
			"A admits nobody")

		deny := row{
			Key:   datapath.PolicyKey{Class: 1, Proto: datapath.ProtoTCP, Port: 80, PortBits: 15},
			Value: datapath.PolicyRow{Cookie: cookieDenying},
		}
		r.setPolicy(t, r.b.id, deny)
		e = r.fromA(t, tcpFrame(x.a, x.b, 4000, 81, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDeny)
		require.EqualValues(t, uint32(cookieDenying), e.IngressCookie)

		require.NoError(t, r.EndpointPolicy.Put(r.a.id, datapath.EndpointPolicy{Epoch: 999}))
		e = r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonNotReady)
		require.Equal(t, datapath.Egress, e.Direction)
		require.True(t, e.EgressJudged && !e.IngressJudged)
		r.noFlows(t)
	})
}

func TestPolicyPrecedence(t *testing.T) {
	r, x := newRig(t), families[0]
	any1 := row{
		Key:   datapath.PolicyKey{Class: 1, AnyProto: true},
		Value: datapath.PolicyRow{Allow: true, Cookie: 1},
	}
	ports := row{
		Key:   datapath.PolicyKey{Class: 1, Proto: datapath.ProtoTCP, Port: 0x1f00, PortBits: 8},
		Value: datapath.PolicyRow{Allow: true, Cookie: 2},
	}
	one := allowPort(1, datapath.ProtoTCP, 0x1f90, 3)
	everybody := allowPort(0, datapath.ProtoTCP, 0x1f90, 4)
	r.setPolicy(t, r.b.id, any1, ports, one, everybody)
	for port, want := range map[uint16]datapath.Cookie{22: 1, 0x1f01: 2, 0x1f90: 3} {
		e := r.fromA(t, tcpFrame(x.a, x.b, 4000, port, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.Equal(t, want, e.IngressCookie, "port %d", port)
	}
	r.setPolicy(t, r.b.id, everybody, row{
		Key:   datapath.PolicyKey{Class: 1, Proto: datapath.ProtoUDP},
		Value: datapath.PolicyRow{Allow: true, Cookie: 5},
	})
	e := r.fromA(t, tcpFrame(x.a, x.b, 5000, 0x1f90, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
	require.EqualValues(t, 4, e.IngressCookie, "class 0 stands in where the peer's class has no row")
}

func TestPolicyChangeReachesEstablishedFlows(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		there := tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)
		back := tcpFrame(x.b, x.a, 80, 4000, datapath.TCPAck)
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.fromB(t, back).silent(t, tcRedirect)

		r.setPolicy(t, r.b.id, r.defaultRows()...)
		r.fromB(t, back).silent(t, tcRedirect, "renewed by a reply, with the same rules")
		r.setPolicy(t, r.b.id, allowPort(1, datapath.ProtoTCP, 80, 77))
		e := r.fromB(t, back).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.True(t, e.Reply)
		require.EqualValues(t, 77, e.IngressCookie, "another rule is news")

		r.setPolicy(t, r.b.id)
		for _, send := range []func() result{
			func() result { return r.fromB(t, back) },
			func() result { return r.fromA(t, there) },
			func() result { return r.fromB(t, back) },
		} {
			e := send().dropped(t, datapath.ReasonPolicyDenied)
			require.Equal(t, datapath.Ingress, e.Direction)
			require.EqualValues(t, cookieEgress, e.EgressCookie)
		}
		f := r.flow(t)
		require.True(t, f.Denied)
		lives(t, f, datapath.LifetimeDenied)
		require.Equal(t, [2]uint64{1, 3}, f.Packets, "refused packets do not count")

		r.setPolicy(t, r.b.id, r.defaultRows()...)
		r.fromA(t, there).opened(t, tcRedirect, datapath.PointToEndpoint)
		f = r.flow(t)
		require.False(t, f.Denied)
		require.Equal(t, [2]uint64{2, 3}, f.Packets)
		lives(t, f, datapath.LifetimeTCPEstablished)
	})
}
