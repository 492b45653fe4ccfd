package ebpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

func TestToAndFromAnotherNode(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		out := r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn))
		e := out.opened(t, tcRedirect, datapath.PointToOverlay)
		out.tunnelled(t)
		require.Equal(t, datapath.Egress, e.Direction)
		require.True(t, e.EgressJudged && !e.IngressJudged)
		require.EqualValues(t, remoteIdentity, e.DstIdentity)
		require.Zero(t, e.DstEndpoint)
		back := r.fromOverlay(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck))
		back.silent(t, tcRedirect)
		back.delivered(t, r.a)
		again := r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPAck))
		again.silent(t, tcRedirect)
		again.tunnelled(t)

		in := r.fromOverlay(t, tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPSyn))
		e = in.opened(t, tcRedirect, datapath.PointToEndpoint)
		in.delivered(t, r.b)
		require.Equal(t, datapath.Ingress, e.Direction)
		require.EqualValues(t, cookieRemote, e.IngressCookie)
		require.EqualValues(t, remoteIdentity, e.SrcIdentity)
		require.False(t, e.EgressJudged)
		reply := r.fromB(t, tcpFrame(x.b, x.remote, 80, 5000, datapath.TCPSyn|datapath.TCPAck))
		reply.silent(t, tcRedirect)
		reply.tunnelled(t)
		r.fromOverlay(t, tcpFrame(x.remote, x.b, 5000, 81, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDenied)
	})
}

func TestOverlayChecks(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		frame := tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPSyn)
		send := func(f []byte, tunnel ...uint32) result {
			return r.run(t, progFromOverlay, r.overlay, f, tunnel...)
		}
		e := send(frame).dropped(t, datapath.ReasonTunnelKey)
		require.Equal(t, datapath.PointFromOverlay, e.Point)
		require.Equal(t, datapath.Ingress, e.Direction)
		send(frame, remoteIdentity, 0xc0000242).dropped(t, datapath.ReasonUnknownSender)
		send(tcpFrame(x.remote, x.free, 5000, 80, datapath.TCPSyn), tunnelTo[:]...).dropped(t, datapath.ReasonUnknownTarget)
		send(tcpFrame(x.remote, x.host, 5000, 22, datapath.TCPSyn), tunnelTo[:]...).silent(t, tcOK, "the node is not judged")
		r.noFlows(t)

		send(frame, tunnelTo[:]...).opened(t, tcRedirect, datapath.PointToEndpoint)
		later := tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPAck)
		send(later, remoteIdentity, 0xc0000242).dropped(t, datapath.ReasonUnknownSender,
			"a known flow does not make a strange node known")
		send(later, 2002, tunnelTo[1]).dropped(t, datapath.ReasonPolicyDenied, "the sender has become somebody else")
		send(later, tunnelTo[:]...).dropped(t, datapath.ReasonPolicyDenied, "and the flow is denied")
	})
}

func TestOverlayIdentities(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		for i, c := range []struct {
			vni  uint32
			want identity.ID
		}{{0, identity.RemoteNode}, {1, identity.RemoteNode}, {6, identity.RemoteNode}, {2001, 2001}} {
			frame := tcpFrame(x.remote, x.b, uint16(6000+i), 81, datapath.TCPSyn)
			e := r.run(t, progFromOverlay, r.overlay, frame, c.vni, tunnelTo[1]).dropped(t, datapath.ReasonPolicyDenied)
			require.Equal(t, c.want, e.SrcIdentity, "VNI %d", c.vni)
		}
		// All nodes send one VNI: the address says which of them serves the API. Of pods the VNI counts.
		p := netip.PrefixFrom(x.remote, x.remote.BitLen())
		for i, c := range []struct {
			known identity.ID
			vni   uint32
			want  identity.ID
		}{{identity.KubeAPIServer, 1, 7}, {identity.KubeAPIServer, 6, 7}, {identity.KubeAPIServer, 2002, 2002}, {identity.RemoteNode, 7, 6}, {2001, 6, 6}} {
			require.NoError(t, r.IPCache.Put(p, datapath.IPCache{Identity: c.known, Tunnel: otherNode}))
			frame := tcpFrame(x.remote, x.b, uint16(6100+i), 81, datapath.TCPSyn)
			e := r.run(t, progFromOverlay, r.overlay, frame, c.vni, tunnelTo[1]).dropped(t, datapath.ReasonPolicyDenied)
			require.Equal(t, c.want, e.SrcIdentity, "%+v", c)
		}
		require.NoError(t, r.IPCache.Put(p, datapath.IPCache{Identity: remoteIdentity, Tunnel: otherNode}))
		// The address says another identity than the VNI: the VNI counts for who opens a flow.
		for vni, reason := range map[uint32]datapath.Reason{2001: 0, 2002: datapath.ReasonPolicyDenied} {
			frame := tcpFrame(x.world, x.b, uint16(vni), 80, datapath.TCPSyn)
			res := r.run(t, progFromOverlay, r.overlay, frame, vni, tunnelTo[1])
			if reason != 0 {
				res.dropped(t, reason)
				continue
			}
			res.opened(t, tcRedirect, datapath.PointToEndpoint)
			reply := r.fromB(t, tcpFrame(x.b, x.world, 80, uint16(vni), datapath.TCPAck))
			reply.silent(t, tcRedirect)
			reply.tunnelled(t) // back through the node that it came from
		}
	})
}

func TestReplyIdentityThatLagsBehind(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, udpFrame(x.a, x.remote, 4000, 53)).opened(t, tcRedirect, datapath.PointToOverlay)
		frame := udpFrame(x.remote, x.a, 53, 4000)
		for range 2 {
			res := r.run(t, progFromOverlay, r.overlay, frame, 2002, tunnelTo[1])
			res.silent(t, tcRedirect, "a reply is judged by what the tables say of the peer")
		}
		require.EqualValues(t, remoteIdentity, r.flow(t).DstIdentity)
		require.Equal(t, [2]uint64{1, 2}, r.flow(t).Packets)
	})
}

func TestReplyOnAnotherWayThanExpected(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		// To an address without tunnel by the stack, and back through the overlay.
		r.fromA(t, tcpFrame(x.a, x.world, 4000, 443, datapath.TCPSyn)).opened(t, tcOK, datapath.PointToStack)
		back := tcpFrame(x.world, x.a, 443, 4000, datapath.TCPAck)
		for range 2 {
			r.run(t, progFromOverlay, r.overlay, back, 6, tunnelTo[1]).silent(t, tcRedirect)
		}
		r.fromA(t, tcpFrame(x.a, x.world, 4000, 443, datapath.TCPAck)).silent(t, tcOK)
		require.Equal(t, [2]uint64{2, 2}, r.flow(t).Packets)
	})
}

func TestFromTheNodeToItsPod(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		toB := func(f []byte) result { return r.run(t, progToPod, r.b.ifindex, f) }
		e := toB(tcpFrame(x.host, x.b, 7000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDenied)
		require.Equal(t, identity.Host, e.SrcIdentity)
		require.Equal(t, datapath.PointFromStack, e.Point)
		require.Equal(t, datapath.Ingress, e.Direction)
		world := map[bool]identity.ID{true: identity.WorldIPv4, false: identity.WorldIPv6}[x.world.Is4()]
		require.Equal(t, world, toB(tcpFrame(x.world, x.b, 7000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDenied).SrcIdentity)
		require.EqualValues(t, remoteIdentity, toB(tcpFrame(x.remote, x.b, 7000, 81, datapath.TCPSyn)).
			dropped(t, datapath.ReasonPolicyDenied).SrcIdentity)

		r.setPolicy(t, r.b.id, row{Key: datapath.PolicyKey{AnyProto: true}, Value: datapath.PolicyRow{Allow: true, Cookie: 3}})
		e = toB(tcpFrame(x.host, x.b, 7000, 80, datapath.TCPSyn)).opened(t, tcOK, datapath.PointToEndpoint)
		require.True(t, e.IngressJudged && !e.EgressJudged)
		r.fromB(t, tcpFrame(x.b, x.host, 80, 7000, datapath.TCPSyn|datapath.TCPAck)).silent(t, tcOK)
		toB(tcpFrame(x.host, x.b, 7000, 80, datapath.TCPAck)).silent(t, tcOK)
		lives(t, r.flow(t), datapath.LifetimeTCPEstablished)
		toB(tcpFrame(x.host, x.a, 7000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonUnknownTarget, "not behind this interface")
		toB(tcpFrame(x.host, x.free, 7000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonUnknownTarget)
		r.run(t, progToPod, r.a.ifindex, tcpFrame(x.host, x.b, 7000, 80, datapath.TCPAck)).
			dropped(t, datapath.ReasonUnknownTarget, "a known flow on the wrong interface")

		r.fromB(t, tcpFrame(x.b, x.host, 9000, 22, datapath.TCPSyn)).opened(t, tcOK, datapath.PointToStack)
		toB(tcpFrame(x.host, x.b, 22, 9000, datapath.TCPSyn|datapath.TCPAck)).silent(t, tcOK)
	})
}

func TestStackAnswersWhatCameThroughIt(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		// A pod of another node reached B by a port of this node, translated by the stack.
		r.run(t, progToPod, r.b.ifindex, tcpFrame(x.remote, x.b, 7000, 80, datapath.TCPSyn)).opened(t, tcOK, datapath.PointToEndpoint)
		r.fromB(t, tcpFrame(x.b, x.remote, 80, 7000, datapath.TCPSyn|datapath.TCPAck)).silent(t, tcOK, "so the stack can translate back")
		require.NoError(t, r.d.BumpAll())
		r.fromB(t, tcpFrame(x.b, x.remote, 80, 7000, datapath.TCPAck)).silent(t, tcOK, "also after a renewal")
	})
}

func TestForgedPodOnAnotherWay(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		forged := tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)
		res := r.run(t, progFromOverlay, r.overlay, forged, 2002, tunnelTo[1])
		res.dropped(t, datapath.ReasonPolicyDenied, "judged by the VNI, as a flow of its own")
		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPAck)).silent(t, tcRedirect, "the true flow is untouched")
		require.Equal(t, [2]uint64{1, 1}, r.flow(t).Packets)
	})
}

func TestFromHost(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		out := r.run(t, progFromHost, r.overlay, tcpFrame(x.host, x.remote, 7000, 80, datapath.TCPSyn))
		out.silent(t, tcRedirect)
		out.tunnelled(t)
		r.run(t, progFromHost, r.overlay, tcpFrame(x.host, x.world, 7000, 80, datapath.TCPSyn)).silent(t, tcOK)
		later := packet{src: x.host, dst: x.remote, proto: datapath.ProtoUDP, id: 3, fragment: 4, l4: make([]byte, 16)}
		r.run(t, progFromHost, r.overlay, later.frame()).silent(t, tcRedirect, "no ports are needed")
		r.run(t, progFromHost, r.overlay, ethernet(0x8100, make([]byte, 60))).dropped(t, datapath.ReasonVLAN)
		r.noFlows(t)
	})
}

func TestShortPrefixesOfOneFamilyDoNotHoldTheOther(t *testing.T) {
	r := newRig(t)
	v4, v6 := families[0], families[1]
	require.NoError(t, r.IPCache.Put(netip.MustParsePrefix("::/0"), datapath.IPCache{Identity: identity.MinLocal}))
	e := r.fromA(t, udpFrame(v4.a, v4.world, 1, 2)).opened(t, tcOK, datapath.PointToStack)
	require.Equal(t, identity.WorldIPv4, e.DstIdentity)
	e = r.fromA(t, udpFrame(v6.a, v6.world, 1, 2)).opened(t, tcOK, datapath.PointToStack)
	require.Equal(t, identity.MinLocal, e.DstIdentity)
	require.NoError(t, r.IPCache.Put(netip.MustParsePrefix("0.0.0.0/0"), datapath.IPCache{Identity: identity.MaxLocal}))
	require.NoError(t, r.d.BumpAll())
	r.fromA(t, udpFrame(v4.a, v4.world, 3, 2)).opened(t, tcOK, datapath.PointToStack)
	flows, err := r.d.Flows()
	require.NoError(t, err)
	for _, f := range flows {
		if f.Src.Port() == 3 {
			require.Equal(t, identity.MaxLocal, f.DstIdentity)
		}
	}
}

func TestEcho(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		e := r.fromA(t, echoFrame(x.a, x.b, 77, false)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.EqualValues(t, cookieEcho, e.IngressCookie)
		require.Zero(t, e.Src.Port())
		require.Zero(t, e.Dst.Port())
		r.fromB(t, echoFrame(x.b, x.a, 77, true)).silent(t, tcRedirect)
		require.NoError(t, r.d.BumpAll())
		r.fromB(t, echoFrame(x.b, x.a, 77, true)).silent(t, tcRedirect, "a reply renews by the request's type")
		r.fromB(t, echoFrame(x.b, x.a, 78, true)).dropped(t, datapath.ReasonPolicyDenied, "a reply to nothing")
		r.fromB(t, echoFrame(x.b, x.a, 77, false)).dropped(t, datapath.ReasonPolicyDenied, "a request of its own")
	})
}

func TestICMPErrors(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		about := packet{src: x.remote, dst: x.b, proto: datapath.ProtoUDP, l4: udp(4000, 53, 8)}
		unreachable := errorFrame(x.b, x.remote, about)
		r.setPolicy(t, r.b.id, append(r.defaultRows(), row{
			Key:   datapath.PolicyKey{Direction: datapath.Egress, Proto: icmpProto(x.a)},
			Value: datapath.PolicyRow{Cookie: cookieDenying},
		})...)
		e := r.fromB(t, unreachable).dropped(t, datapath.ReasonPolicyDeny, "about no flow: judged as a message")
		require.True(t, e.EgressJudged)
		r.fromOverlay(t, about.frame()).opened(t, tcRedirect, datapath.PointToEndpoint)
		out := r.fromB(t, unreachable)
		out.silent(t, tcRedirect)
		out.tunnelled(t)
		require.NoError(t, r.d.BumpAll())
		r.fromB(t, unreachable).silent(t, tcRedirect, "a stale flow is renewed for it")
		require.Equal(t, [2]uint64{1, 0}, r.flow(t).Packets)

		// From a router on the way, to the side that opened the flow.
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).opened(t, tcOK, datapath.PointToStack)
		router := x.world.Next()
		cut := packet{src: x.a, dst: x.world, proto: datapath.ProtoUDP, l4: udp(4000, 53, 8)}
		r.run(t, progToPod, r.a.ifindex, errorFrame(router, x.a, cut)).silent(t, tcOK)
		r.run(t, progToPod, r.b.ifindex, errorFrame(router, x.a, cut)).dropped(t, datapath.ReasonUnknownTarget)
		wrong := packet{src: x.b, dst: x.world, proto: datapath.ProtoUDP, l4: udp(4000, 53, 8)}
		r.run(t, progToPod, r.a.ifindex, errorFrame(router, x.a, wrong)).dropped(t, datapath.ReasonPolicyDenied,
			"about a packet that A did not send")

		r.setPolicy(t, r.a.id, row{
			Key:   datapath.PolicyKey{Direction: datapath.Egress, Proto: datapath.ProtoUDP},
			Value: datapath.PolicyRow{Cookie: cookieDenying},
		})
		r.run(t, progToPod, r.a.ifindex, errorFrame(router, x.a, cut)).dropped(t, datapath.ReasonPolicyDenied,
			"about a flow that is denied now")
	})
}

func TestICMPErrorWithHalfAPacketInside(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.world, 4000, 80, datapath.TCPSyn)).opened(t, tcOK, datapath.PointToStack)
		inside := packet{src: x.a, dst: x.world, proto: datapath.ProtoTCP, l4: tcp(4000, 80, datapath.TCPSyn)}.ip()
		typ := map[bool]uint8{true: 3, false: 1}[x.a.Is4()]
		message := func(n int) []byte {
			return packet{src: x.world, dst: x.a, proto: icmpProto(x.a), l4: icmp(typ, 3, 0, inside[:n])}.frame()
		}
		r.run(t, progToPod, r.a.ifindex, message(len(inside)-12)).silent(t, tcOK, "8 bytes of TCP are enough")
		r.run(t, progToPod, r.a.ifindex, message(len(inside)-13)).dropped(t, datapath.ReasonPolicyDenied)
	})
}

func TestICMPErrorThatQuotesHalfAHeader(t *testing.T) {
	r, x := newRig(t), families[0]
	first := packet{src: x.a, dst: x.world, proto: datapath.ProtoUDP, id: 9, more: true, l4: udp(4000, 53, 8)}
	r.fromA(t, first.frame()).opened(t, tcOK, datapath.PointToStack)
	later := packet{src: x.a, dst: x.world, proto: datapath.ProtoUDP, id: 9, fragment: 2, l4: make([]byte, 48)}.ip()
	message := func(quoted []byte) []byte {
		return packet{src: x.world, dst: x.a, proto: datapath.ProtoICMP, l4: icmp(3, 1, 0, quoted)}.frame()
	}
	r.run(t, progToPod, r.a.ifindex, message(later[:20])).silent(t, tcOK, "a later fragment needs no more than its header")
	later[0] = 0x4f // 40 bytes of options
	r.run(t, progToPod, r.a.ifindex, message(later[:60])).silent(t, tcOK)
	r.run(t, progToPod, r.a.ifindex, message(later[:59])).dropped(t, datapath.ReasonPolicyDenied)
}

func TestICMPErrorWithHalfOfItsQuoteInThePadding(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		const gre = 47 // a protocol of whose packets the L3 header says all
		first := packet{src: x.a, dst: x.world, proto: gre, l4: make([]byte, 8)}
		r.fromA(t, first.frame()).opened(t, tcOK, datapath.PointToStack)
		header := first.ip()
		header = header[:len(header)-8]
		typ := map[bool]uint8{true: 3, false: 1}[x.a.Is4()]
		message := func(quoted, padding []byte) []byte {
			m := packet{src: x.world, dst: x.a, proto: icmpProto(x.a), l4: icmp(typ, 1, 0, quoted)}.frame()
			return append(m, padding...)
		}
		r.run(t, progToPod, r.a.ifindex, message(header, nil)).silent(t, tcOK)
		most := len(header) - 2
		r.run(t, progToPod, r.a.ifindex, message(header[:most], header[most:])).dropped(t, datapath.ReasonPolicyDenied)
	})
}

func TestEchoRequestOfTheOtherSideIsAFlowOfItsOwn(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		// With identifier 0, both directions of a request have the same key.
		r.fromA(t, echoFrame(x.a, x.b, 0, false)).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.fromB(t, echoFrame(x.b, x.a, 0, true)).silent(t, tcRedirect, "the answer")
		e := r.fromB(t, echoFrame(x.b, x.a, 0, false)).dropped(t, datapath.ReasonPolicyDenied, "no answer, and A lets nobody in")
		require.False(t, e.Reply)
		require.EqualValues(t, r.b.identity, e.SrcIdentity)
		require.True(t, e.EgressJudged && e.IngressJudged)
		require.Equal(t, [2]uint64{1, 1}, r.flow(t).Packets, "A's ping is untouched")
		r.fromB(t, echoFrame(x.b, x.a, 0, true)).silent(t, tcRedirect)

		r.setPolicy(t, r.a.id, row{Key: datapath.PolicyKey{AnyProto: true}, Value: datapath.PolicyRow{Allow: true, Cookie: 3}})
		e = r.fromB(t, echoFrame(x.b, x.a, 0, false)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.EqualValues(t, 3, e.IngressCookie)
		require.False(t, e.Reply)
		require.Equal(t, x.b, r.flow(t).Src.Addr())
	})
}

func TestFromHostTakesTheHostsOwnPacketsOnly(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		for _, src := range []netip.Addr{x.a, x.free, x.world, x.remote} {
			for _, dst := range []netip.Addr{x.remote, x.world} {
				e := r.run(t, progFromHost, r.overlay, udpFrame(src, dst, 4000, 53)).
					dropped(t, datapath.ReasonInvalidSource, "%s to %s", src, dst)
				require.Equal(t, datapath.Egress, e.Direction)
				require.Equal(t, datapath.PointFromStack, e.Point)
				require.Equal(t, netip.AddrPortFrom(src, 4000), e.Src)
			}
		}
		r.run(t, progFromHost, r.overlay, udpFrame(x.host, x.remote, 4000, 53)).tunnelled(t)
		require.NoError(t, r.Endpoints.Delete(x.host))
		r.run(t, progFromHost, r.overlay, udpFrame(x.host, x.remote, 4000, 53)).dropped(t, datapath.ReasonInvalidSource)
	})
}
