package ebpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestTombstone(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		there, back := udpFrame(x.a, x.remote, 4000, 53), udpFrame(x.remote, x.a, 53, 4000)
		r.fromA(t, there).opened(t, tcRedirect, datapath.PointToOverlay)
		deny := row{
			Key:   datapath.PolicyKey{Class: 3, Direction: datapath.Egress, Proto: datapath.ProtoUDP},
			Value: datapath.PolicyRow{Cookie: cookieDenying},
		}
		letIn := allowPort(3, datapath.ProtoUDP, 4000, 5)
		r.setPolicy(t, r.a.id, deny, letIn)

		e := r.fromOverlay(t, back).dropped(t, datapath.ReasonPolicyDeny,
			"judged as the flow was opened: what A may receive does not matter")
		require.Equal(t, datapath.Egress, e.Direction)
		require.True(t, e.Reply && e.EgressJudged && !e.IngressJudged)
		r.fromOverlay(t, back).dropped(t, datapath.ReasonPolicyDeny)
		r.fromA(t, there).dropped(t, datapath.ReasonPolicyDeny)
		require.NoError(t, r.d.BumpAll())
		r.fromOverlay(t, back).dropped(t, datapath.ReasonPolicyDeny, "renewed, and refused again")

		r.expireFlows(t)
		e = r.fromOverlay(t, back).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.False(t, e.Reply, "a tombstone that has expired is no entry")
		require.EqualValues(t, 5, e.IngressCookie)
	})
}

func TestSYNOpensAnewOverATombstone(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToOverlay)
		r.fromOverlay(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPAck)).silent(t, tcRedirect)
		deny := row{
			Key:   datapath.PolicyKey{Class: 3, Direction: datapath.Egress, Proto: datapath.ProtoTCP},
			Value: datapath.PolicyRow{Cookie: cookieDenying},
		}
		r.setPolicy(t, r.a.id, deny, allowPort(3, datapath.ProtoTCP, 4000, 5))
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPAck)).dropped(t, datapath.ReasonPolicyDeny)
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDeny)
		require.True(t, r.flow(t).Denied, "a refused SYN leaves the tombstone")
		r.fromOverlay(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPAck)).dropped(t, datapath.ReasonPolicyDeny)
		e := r.fromOverlay(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.False(t, e.Reply)
		require.False(t, r.flow(t).Denied)
	})
}

func TestMidStreamPacketOpensAFlow(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.True(t, r.flow(t).SeenNonSYN)
		n, err := r.d.FlushFlows()
		require.NoError(t, err)
		require.Equal(t, 1, n)
		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPAck)).dropped(t, datapath.ReasonPolicyDenied,
			"its own direction is not allowed")
	})
}

func TestExpiredFlowsCountAsAbsentAndAreCollected(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).opened(t, tcOK, datapath.PointToStack)
		lives(t, r.flow(t), datapath.LifetimeOther)
		n, err := r.d.CollectFlows()
		require.NoError(t, err)
		require.Zero(t, n)
		r.expireFlows(t)
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).opened(t, tcOK, datapath.PointToStack)
		r.expireFlows(t)
		require.Negative(t, r.flow(t).Expires)
		n, err = r.d.CollectFlows()
		require.NoError(t, err)
		require.Equal(t, 1, n)
		r.noFlows(t)
	})
}

func TestStaleAddressesAreResolvedAnew(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).silentOrNew(t, tcOK)
		p := netip.PrefixFrom(x.world, x.world.BitLen())
		require.NoError(t, r.IPCache.Put(p, datapath.IPCache{Identity: remoteIdentity, Tunnel: otherNode}))
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).silent(t, tcOK, "the recorded decision holds until told otherwise")
		require.NoError(t, r.d.BumpAddr(x.world))
		moved := r.fromA(t, udpFrame(x.a, x.world, 4000, 53))
		moved.silent(t, tcRedirect)
		moved.tunnelled(t)
		require.EqualValues(t, remoteIdentity, r.flow(t).DstIdentity)
		require.Equal(t, [2]uint64{3, 0}, r.flow(t).Packets)
	})
}

func TestEpochOfEverythingMakesStale(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).silentOrNew(t, tcOK)
		p := netip.PrefixFrom(x.world, x.world.BitLen())
		require.NoError(t, r.IPCache.Put(p, datapath.IPCache{Identity: remoteIdentity, Tunnel: otherNode}))
		r.fromA(t, udpFrame(x.a, x.world, 4000, 53)).silent(t, tcOK)
		require.NoError(t, r.d.BumpAll())
		moved := r.fromA(t, udpFrame(x.a, x.world, 4000, 53))
		moved.silent(t, tcRedirect)
		moved.tunnelled(t)
	})
}

func TestSYNThroughAWrongDoorDoesNotReviveACutFlow(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.setPolicy(t, r.a.id, row{
			Key:   datapath.PolicyKey{Direction: datapath.Egress, Proto: datapath.ProtoTCP},
			Value: datapath.PolicyRow{Cookie: cookieDenying},
		})
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)).dropped(t, datapath.ReasonPolicyDeny)
		r.fromB(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).dropped(t, datapath.ReasonPolicyDeny)
		require.True(t, r.flow(t).Denied)
	})
}

// silentOrNew is a packet that passed, first of its flow or not.
func (x result) silentOrNew(t *testing.T, code uint32) {
	t.Helper()
	require.EqualValues(t, code, x.code)
	for _, e := range x.events {
		require.Equal(t, datapath.EventNew, e.Type)
	}
}

func TestDeletedPod(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.NoError(t, r.Endpoints.Delete(x.a))
		require.NoError(t, r.EndpointPolicy.Delete(r.a.id))
		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPAck)).dropped(t, datapath.ReasonUnknownTarget)
		r.noFlows(t)

		r.fromOverlay(t, tcpFrame(x.remote, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		require.NoError(t, r.Endpoints.Delete(x.b))
		require.NoError(t, r.EndpointPolicy.Delete(r.b.id))
		r.fromOverlay(t, tcpFrame(x.remote, x.b, 4000, 80, datapath.TCPAck)).dropped(t, datapath.ReasonUnknownTarget)
		r.fromB(t, tcpFrame(x.b, x.remote, 80, 4000, datapath.TCPAck)).dropped(t, datapath.ReasonInvalidSource)
	})
}

func TestFlowTableIsReadableWhileFull(t *testing.T) {
	r, x := newRig(t), families[0]
	for port := range uint16(3000) {
		r.fromA(t, udpFrame(x.a, x.world, 1000+port, 53)).silentOrNew(t, tcOK)
	}
	flows, err := r.d.Flows()
	require.NoError(t, err)
	require.NotEmpty(t, flows)
	require.LessOrEqual(t, len(flows), int(smallSizes.Flows))
	n, err := r.d.FlushFlows()
	require.NoError(t, err)
	require.Equal(t, len(flows), n)
	r.noFlows(t)
}

func TestLostEventsAreCounted(t *testing.T) {
	r, x := newRig(t), families[0]
	lost, err := r.d.Lost()
	require.NoError(t, err)
	require.Zero(t, lost)
	frame := tcpFrame(x.a, x.b, 4000, 81, datapath.TCPSyn)
	const packets = 3000 // more than the ring holds
	for range packets {
		_, err := r.d.progs[progFromPod].Run(runOptions(frame, r.a.ifindex))
		require.NoError(t, err)
	}
	lost, err = r.d.Lost()
	require.NoError(t, err)
	require.NotZero(t, lost)
	require.EqualValues(t, packets, lost+uint64(len(r.drain(t))))
}

func TestCounters(t *testing.T) {
	r, x := newRig(t), families[1]
	count := func(reason datapath.Reason, d datapath.Direction) (packets, bytes uint64) {
		all, err := r.d.Counters()
		require.NoError(t, err)
		for _, c := range all {
			if c.Reason == reason && c.Direction == d {
				return c.Packets, c.Bytes
			}
		}
		return 0, 0
	}
	frame := tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)
	r.fromA(t, frame)
	r.fromA(t, frame)
	r.fromA(t, tcpFrame(x.a, x.b, 4000, 81, datapath.TCPSyn))
	r.fromA(t, udpFrame(x.a, x.world, 4000, 53))
	r.fromA(t, udpFrame(x.b, x.world, 4000, 53))
	for _, want := range []struct {
		reason  datapath.Reason
		d       datapath.Direction
		packets uint64
	}{
		{datapath.ReasonNone, datapath.Ingress, 2}, {datapath.ReasonNone, datapath.Egress, 1},
		{datapath.ReasonPolicyDenied, datapath.Ingress, 1}, {datapath.ReasonInvalidSource, datapath.Egress, 1},
	} {
		packets, bytes := count(want.reason, want.d)
		require.Equal(t, want.packets, packets, "%+v", want)
		require.NotZero(t, bytes)
	}
	_, bytes := count(datapath.ReasonNone, datapath.Ingress)
	require.EqualValues(t, 2*len(frame), bytes)
}
