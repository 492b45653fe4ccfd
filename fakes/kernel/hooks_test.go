package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
	"github.com/weirnet/weir/ports"
)

// ethernet returns destination and source of a frame.
func ethernet(frame []byte) (dst, src datapath.MAC) {
	return datapath.MAC(frame[:6]), datapath.MAC(frame[6:12])
}

func TestFromPodChecksTheSource(t *testing.T) {
	w := newWorld(t)
	for name, p := range map[string]packet.Packet{
		"of another pod":    packet.UDP(at(db4, 1), at(web4, 2), ""),
		"of the node":       packet.UDP(at(node1v4, 1), at(db4, 2), ""),
		"of nobody":         packet.UDP(at(ip("10.9.9.9"), 1), at(db4, 2), ""),
		"before the target": packet.UDP(at(ip("10.9.9.9"), 1), at(ip("224.0.0.1"), 2), ""),
		"IPv6":              packet.UDP(at(db6, 1), at(web6, 2), ""),
	} {
		t.Run(name, func(t *testing.T) {
			e := w.fromWeb().refuses(t, p, datapath.ReasonInvalidSource)
			require.Equal(t, datapath.PointFromEndpoint, e.Point)
			require.Equal(t, datapath.Egress, e.Direction)
			require.Equal(t, uint32(ifWeb), e.Ifindex)
			require.Zero(t, e.SrcIdentity)
		})
	}
	w.fromWeb().passes(t, packet.UDP(at(web4, 1), at(db4, 2), ""), kernel.RedirectPeer)
	t.Run("on the fast path", func(t *testing.T) {
		e := w.fromDB().refuses(t, packet.UDP(at(web4, 1), at(db4, 2), ""), datapath.ReasonInvalidSource)
		require.False(t, e.Reply)
		w.fromWeb().refuses(t, packet.UDP(at(db4, 2), at(web4, 1), ""), datapath.ReasonInvalidSource)
		require.Equal(t, [2]uint64{1, 0}, w.flow(w.one).Packets)
	})
}

func TestFromPodMulticast(t *testing.T) {
	w := newWorld(t)
	for _, dst := range []string{"224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff05::1"} {
		src := web4
		if ip(dst).Is6() {
			src = web6
		}
		e := w.fromWeb().refuses(t, packet.UDP(at(src, 5353), at(ip(dst), 5353), ""), datapath.ReasonUnknownTarget)
		require.Equal(t, idWeb, e.SrcIdentity)
	}
	w.noFlows(w.one)
}

func TestFromPodRoutes(t *testing.T) {
	w := newWorld(t)
	t.Run("to a pod of the node", func(t *testing.T) {
		p := packet.UDP(at(web4, 1), at(db4, 53), "x")
		res := w.fromWeb().passes(t, p, kernel.RedirectPeer)
		require.Equal(t, uint32(ifDB), res.Ifindex)
		dst, src := ethernet(res.Frame)
		require.Equal(t, podMAC(epDB), dst)
		require.Equal(t, nodeMAC(epDB), src)
		require.Equal(t, p.Bytes()[l3:], res.Frame[l3:], "nothing behind the Ethernet header changes")
		e := res.Events[0]
		require.Equal(t, datapath.EventNew, e.Type)
		require.Equal(t, datapath.PointToEndpoint, e.Point)
		require.Equal(t, datapath.Ingress, e.Direction)
		require.True(t, e.EgressJudged && e.IngressJudged)
		require.Equal(t, idWeb, e.SrcIdentity)
		require.Equal(t, idDB, e.DstIdentity)
		require.Equal(t, datapath.EndpointID(epWeb), e.SrcEndpoint)
		require.Equal(t, datapath.EndpointID(epDB), e.DstEndpoint)
		require.Equal(t, uint32(len(p.Bytes())), e.Length)
		require.Equal(t, at(web4, 1), e.Src)
		require.Equal(t, at(db4, 53), e.Dst)

		back := w.fromDB().passes(t, packet.UDP(at(db4, 53), at(web4, 1), "y"), kernel.RedirectPeer)
		require.Equal(t, uint32(ifWeb), back.Ifindex)
		dst, src = ethernet(back.Frame)
		require.Equal(t, podMAC(epWeb), dst)
		require.Equal(t, nodeMAC(epWeb), src)
		require.Empty(t, back.Events)
	})
	t.Run("to the node", func(t *testing.T) {
		p := packet.UDP(at(web4, 1), at(router1, 53), "")
		res := w.fromWeb().passes(t, p, kernel.Pass)
		require.Equal(t, p.Bytes(), res.Frame)
		e := res.Events[0]
		require.Equal(t, datapath.PointToStack, e.Point)
		require.Equal(t, datapath.Egress, e.Direction)
		require.True(t, e.EgressJudged)
		require.False(t, e.IngressJudged, "there is no host policy")
		require.Equal(t, identity.Host, e.DstIdentity)

		// What the node is to others does not matter to itself.
		w.ok(w.one.Tables().IPCache.Put(pfx("10.1.0.1/32"), datapath.IPCache{Identity: identity.RemoteNode, Tunnel: node1v4}))
		res = w.fromWeb().passes(t, packet.UDP(at(web4, 2), at(router1, 53), ""), kernel.Pass)
		require.Equal(t, identity.Host, res.Events[0].DstIdentity)
	})
	t.Run("to a pod of another node", func(t *testing.T) {
		p := packet.UDP(at(web6, 1), at(job6, 53), "")
		res := w.fromWeb().passes(t, p, kernel.Tunnel)
		require.Equal(t, uint32(overlay), res.Ifindex)
		require.Equal(t, uint32(idWeb), res.VNI)
		require.Equal(t, node2v4, res.Remote)
		dst, src := ethernet(res.Frame)
		require.Equal(t, datapath.OverlayMAC, dst)
		require.Equal(t, datapath.MAC{2, 0x77, 0x65, 0x69, 0x72, 2}, src)
		require.Equal(t, p.Bytes()[l3:], res.Frame[l3:])
		e := res.Events[0]
		require.Equal(t, datapath.PointToOverlay, e.Point)
		require.Equal(t, datapath.Egress, e.Direction)
		require.Equal(t, idJob, e.DstIdentity)
		require.Zero(t, e.DstEndpoint)
	})
	t.Run("to the world", func(t *testing.T) {
		require.Equal(t, identity.WorldIPv4, w.fromWeb().passes(t, packet.UDP(at(web4, 1), at(outside4, 53), ""), kernel.Pass).Events[0].DstIdentity)
		require.Equal(t, identity.WorldIPv6, w.fromWeb().passes(t, packet.UDP(at(web6, 1), at(outside6, 53), ""), kernel.Pass).Events[0].DstIdentity)
	})
	t.Run("to a known prefix of the world", func(t *testing.T) {
		ipcache := w.one.Tables().IPCache
		w.ok(ipcache.Put(pfx("198.51.100.0/24"), datapath.IPCache{Identity: identity.MinLocal}))
		w.ok(ipcache.Put(pfx("198.51.0.0/16"), datapath.IPCache{Identity: identity.MinLocal + 1}))
		w.ok(ipcache.Put(pfx("::/0"), datapath.IPCache{Identity: identity.MinLocal + 2}))
		id := func(p packet.Packet) identity.ID { return w.fromWeb().passes(t, p, kernel.Pass).Events[0].DstIdentity }
		require.Equal(t, identity.MinLocal, id(packet.UDP(at(web4, 2), at(outside4, 53), "")), "the longest prefix wins")
		require.Equal(t, identity.MinLocal+1, id(packet.UDP(at(web4, 2), at(ip("198.51.1.1"), 53), "")))
		require.Equal(t, identity.WorldIPv4, id(packet.UDP(at(web4, 2), at(ip("203.0.113.1"), 53), "")), "an IPv6 prefix holds no IPv4 address")
		require.Equal(t, identity.MinLocal+2, id(packet.UDP(at(web6, 2), at(outside6, 53), "")))
	})
}

func TestFromOverlayAdmission(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(job4, 1), at(web4, 53), "")
	noKey := w.tunnelled(idJob)
	noKey.meta = kernel.Meta{}
	e := noKey.refuses(t, p, datapath.ReasonTunnelKey)
	require.Equal(t, datapath.PointFromOverlay, e.Point)
	require.Equal(t, datapath.Ingress, e.Direction)

	stranger := w.tunnelled(idJob)
	stranger.meta.Remote = outside4
	stranger.refuses(t, p, datapath.ReasonUnknownSender)
	stranger.refuses(t, packet.UDP(at(job4, 1), at(router1, 53), ""), datapath.ReasonUnknownSender)
	stranger.refuses(t, p.With(func(p *packet.Packet) { p.VLANs = []uint16{1} }), datapath.ReasonVLAN)

	w.tunnelled(idJob).refuses(t, packet.UDP(at(job4, 1), at(outside4, 53), ""), datapath.ReasonUnknownTarget)
	w.noFlows(w.one)

	viaIPv6 := w.tunnelled(idJob)
	viaIPv6.meta.Remote = node2v6
	viaIPv6.passes(t, packet.UDP(at(job4, 2), at(web4, 53), ""), kernel.RedirectPeer)
}

func TestFromOverlayAsksForTheNodeOncePerFlow(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(job4, 1), at(web4, 53), "")
	w.tunnelled(idJob).passes(t, p, kernel.RedirectPeer)
	w.ok(w.one.Tables().Nodes.Delete(node2v4))
	w.tunnelled(idJob).passes(t, p, kernel.RedirectPeer)
	elsewhere := w.tunnelled(idJob)
	elsewhere.meta.Remote = outside4
	elsewhere.refuses(t, p, datapath.ReasonUnknownSender)
	w.ok(w.one.BumpAddr(job4))
	w.tunnelled(idJob).refuses(t, p, datapath.ReasonUnknownSender)
}

func TestFromOverlayDelivers(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(job4, 1), at(web4, 53), "")
	res := w.tunnelled(idJob).passes(t, p, kernel.RedirectPeer)
	require.Equal(t, uint32(ifWeb), res.Ifindex)
	dst, src := ethernet(res.Frame)
	require.Equal(t, podMAC(epWeb), dst)
	require.Equal(t, nodeMAC(epWeb), src)
	e := res.Events[0]
	require.Equal(t, idJob, e.SrcIdentity)
	require.Zero(t, e.SrcEndpoint)
	require.Equal(t, datapath.PointToEndpoint, e.Point)
	require.Equal(t, datapath.Ingress, e.Direction)
	require.True(t, e.IngressJudged)
	require.False(t, e.EgressJudged, "the sender's node did that")

	back := w.fromWeb().passes(t, packet.UDP(at(web4, 53), at(job4, 1), ""), kernel.Tunnel)
	require.Equal(t, node2v4, back.Remote)
	require.Equal(t, uint32(idWeb), back.VNI)
	require.Empty(t, back.Events)

	toHost := w.tunnelled(idJob).passes(t, packet.UDP(at(job4, 1), at(router1, 53), ""), kernel.Pass)
	require.Empty(t, toHost.Events)
	w.flow(w.one) // still only one
}

func TestFromOverlayReadsNodesAsRemoteNode(t *testing.T) {
	w := newWorld(t)
	for i, vni := range []identity.ID{identity.Unknown, identity.Host, identity.RemoteNode} {
		p := packet.UDP(at(router2, uint16(i)), at(web4, 53), "")
		res := w.tunnelled(vni).passes(t, p, kernel.RedirectPeer)
		require.Equal(t, identity.RemoteNode, res.Events[0].SrcIdentity)
		require.Empty(t, w.tunnelled(vni).passes(t, p, kernel.RedirectPeer).Events, "the fast path reads it alike")
	}
}

// All nodes send the same VNI. Which of them serves the API is known by its address, now and when the flow is
// judged anew, whoever sends then.
func TestFromOverlayTellsNodesThatServeTheAPIByAddress(t *testing.T) {
	w := newWorld(t)
	node := func(id identity.ID) {
		w.ok(w.one.Tables().IPCache.Put(pfx("10.2.0.1/32"), datapath.IPCache{Identity: id, Tunnel: node2v4}))
		w.ok(w.one.BumpAll())
	}
	w.class(identity.KubeAPIServer, 7)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{{Class: 7, Direction: datapath.Ingress, AnyProto: true}: {Allow: true, Cookie: 1}})
	ask, answer := packet.UDP(at(router2, 1), at(web4, 53), ""), packet.UDP(at(web4, 53), at(router2, 1), "")
	node(identity.KubeAPIServer)
	res := w.tunnelled(identity.Host).passes(t, ask, kernel.RedirectPeer)
	require.Equal(t, identity.KubeAPIServer, res.Events[0].SrcIdentity)
	require.Empty(t, w.tunnelled(identity.RemoteNode).passes(t, ask, kernel.RedirectPeer).Events, "the fast path serves it")
	w.fromWeb().passes(t, answer, kernel.Tunnel)

	node(identity.RemoteNode)
	e := w.fromWeb().refuses(t, answer, datapath.ReasonPolicyDenied)
	require.Equal(t, identity.RemoteNode, e.DstIdentity, "of the initiator")
	w.tunnelled(identity.Host).refuses(t, ask, datapath.ReasonPolicyDenied)
	node(identity.KubeAPIServer)
	w.fromWeb().passes(t, answer, kernel.Tunnel)
	w.tunnelled(identity.Host).passes(t, ask, kernel.RedirectPeer)

	// A pod that claims to be a node's neighbour stays what its VNI says.
	require.Equal(t, idJob, w.tunnelled(idJob).refuses(t, packet.UDP(at(router2, 2), at(web4, 53), ""), datapath.ReasonPolicyDenied).SrcIdentity)
}

func TestAnswersGoBackTheWayTheFlowCame(t *testing.T) {
	w := newWorld(t)
	stranger := ip("10.2.0.99") // a pod that this node has not heard of yet
	w.tunnelled(300).passes(t, packet.UDP(at(stranger, 1), at(web4, 53), ""), kernel.RedirectPeer)
	back := packet.UDP(at(web4, 53), at(stranger, 1), "")
	res := w.fromWeb().passes(t, back, kernel.Tunnel)
	require.Equal(t, node2v4, res.Remote)
	w.ok(w.one.BumpAll())
	res = w.fromWeb().passes(t, back, kernel.Tunnel)
	require.Equal(t, node2v4, res.Remote, "after a renewal too")
	require.Equal(t, identity.ID(300), w.flow(w.one).SrcIdentity, "the identity stays the one it came with")

	// Opened through the stack, answered by the stack, whatever the tables say.
	w.one.FlushFlows()
	w.toWeb().passes(t, packet.UDP(at(job4, 1), at(web4, 53), ""), kernel.Pass)
	w.fromWeb().passes(t, packet.UDP(at(web4, 53), at(job4, 1), ""), kernel.Pass)
}

func TestToPod(t *testing.T) {
	w := newWorld(t)
	identityOf := func(p packet.Packet) identity.ID {
		res := w.toWeb().passes(t, p, kernel.Pass)
		require.Equal(t, p.Bytes(), res.Frame)
		require.Equal(t, datapath.PointToEndpoint, res.Events[0].Point)
		require.Equal(t, datapath.Ingress, res.Events[0].Direction)
		require.False(t, res.Events[0].EgressJudged)
		require.Equal(t, uint32(ifWeb), res.Events[0].Ifindex)
		return res.Events[0].SrcIdentity
	}
	require.Equal(t, identity.Host, identityOf(packet.UDP(at(node1v4, 1), at(web4, 53), "")))
	require.Equal(t, identity.Host, identityOf(packet.UDP(at(node1v6, 1), at(web6, 53), "")))
	require.Equal(t, identity.RemoteNode, identityOf(packet.UDP(at(node2v4, 1), at(web4, 53), "")))
	require.Equal(t, identity.WorldIPv4, identityOf(packet.UDP(at(outside4, 1), at(web4, 53), "")))
	require.Equal(t, identity.WorldIPv6, identityOf(packet.UDP(at(outside6, 1), at(web6, 53), "")))
	require.Equal(t, idDB, identityOf(packet.UDP(at(db4, 1), at(web4, 53), "")), "a pod's address, by ipcache")

	e := w.toDB().refuses(t, packet.UDP(at(outside4, 2), at(web4, 53), ""), datapath.ReasonUnknownTarget)
	require.Equal(t, datapath.PointFromStack, e.Point)
	require.Equal(t, datapath.Ingress, e.Direction)
	w.toWeb().refuses(t, packet.UDP(at(outside4, 2), at(router1, 53), ""), datapath.ReasonUnknownTarget)
	w.toWeb().refuses(t, packet.UDP(at(outside4, 2), at(job4, 53), ""), datapath.ReasonUnknownTarget)
	t.Run("on the fast path", func(t *testing.T) {
		w.toDB().refuses(t, packet.UDP(at(outside4, 1), at(web4, 53), ""), datapath.ReasonUnknownTarget)
	})
}

func TestFromHost(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(router1, 1), at(job4, 53), "")
	res := w.host().passes(t, p, kernel.Tunnel)
	require.Equal(t, uint32(identity.RemoteNode), res.VNI)
	require.Equal(t, node2v4, res.Remote)
	require.Equal(t, uint32(overlay), res.Ifindex)
	dst, _ := ethernet(res.Frame)
	require.Equal(t, datapath.OverlayMAC, dst)
	require.Empty(t, res.Events)
	w.host().passes(t, packet.UDP(at(router1, 1), at(outside4, 53), ""), kernel.Pass)
	w.host().passes(t, packet.UDP(at(router1, 1), at(web4, 53), ""), kernel.Pass)
	w.noFlows(w.one)
	for _, src := range []netip.Addr{web4, job4, outside4} {
		w.host().refuses(t, packet.UDP(at(src, 1), at(job4, 53), ""), datapath.ReasonInvalidSource)
		w.host().refuses(t, packet.UDP(at(src, 1), at(outside4, 53), ""), datapath.ReasonInvalidSource)
	}
	e := w.host().refuses(t, p.With(func(p *packet.Packet) { p.VLANs = []uint16{1} }), datapath.ReasonVLAN)
	require.Equal(t, datapath.PointFromStack, e.Point)
	require.Equal(t, datapath.Egress, e.Direction)
}

func TestCounters(t *testing.T) {
	w := newWorld(t)
	local, away := packet.UDP(at(web4, 1), at(db4, 53), ""), packet.UDP(at(web4, 1), at(job4, 53), "")
	n := uint64(len(local.Bytes()))
	w.fromWeb().send(local)                                                     // ingress
	w.fromWeb().send(away)                                                      // egress
	w.fromWeb().send(packet.UDP(at(web4, 1), at(router1, 53), ""))              // egress
	w.tunnelled(idJob).send(packet.UDP(at(job4, 1), at(web4, 53), ""))          // ingress
	w.tunnelled(idJob).send(packet.UDP(at(job4, 1), at(router1, 53), ""))       // ingress
	w.toWeb().send(packet.UDP(at(outside4, 1), at(web4, 53), ""))               // ingress
	w.host().send(packet.UDP(at(router1, 1), at(job4, 53), ""))                 // egress
	w.fromWeb().send(packet.UDP(at(db4, 1), at(web4, 53), ""))                  // spoofed
	w.toWeb().send(packet.UDP(at(outside4, 1), at(db4, 53), ""))                // wrong door
	w.tunnelled(idJob).send(packet.UDP(at(job4, 1), at(ip("10.1.0.9"), 5), "")) // nobody
	got, err := w.one.Counters()
	w.ok(err)
	require.Equal(t, []ports.Counter{
		{Direction: datapath.Ingress, Packets: 4, Bytes: 4 * n},
		{Direction: datapath.Egress, Packets: 3, Bytes: 3 * n},
		{Reason: datapath.ReasonInvalidSource, Direction: datapath.Egress, Packets: 1, Bytes: n},
		{Reason: datapath.ReasonUnknownTarget, Direction: datapath.Ingress, Packets: 2, Bytes: 2 * n},
	}, got)
}

func TestFromHostTakesTheHostsOwnPacketsOnly(t *testing.T) {
	w := newWorld(t)
	for _, src := range []netip.Addr{web4, job4, outside4, ip("10.1.0.99")} {
		for _, dst := range []netip.Addr{job4, outside4} {
			e := w.host().refuses(t, packet.UDP(at(src, 1), at(dst, 53), ""), datapath.ReasonInvalidSource)
			require.Equal(t, datapath.PointFromStack, e.Point)
			require.Equal(t, datapath.Egress, e.Direction)
		}
	}
	w.host().passes(t, packet.UDP(at(router1, 1), at(job4, 53), ""), kernel.Tunnel)
	w.ok(w.one.Tables().Endpoints.Delete(router1))
	w.host().refuses(t, packet.UDP(at(router1, 1), at(job4, 53), ""), datapath.ReasonInvalidSource)
}
