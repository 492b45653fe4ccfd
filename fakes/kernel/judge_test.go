package kernel_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// ask sends a first packet from web to db and returns the verdict on db's ingress.
func ask(t *testing.T, w *world, p packet.Packet) (allowed bool, reason datapath.Reason, cookie datapath.Cookie) {
	t.Helper()
	_, err := w.one.FlushFlows()
	w.ok(err)
	res := w.fromWeb().send(p)
	return res.Action != kernel.Drop, res.Reason, res.Ingress
}

func TestEndpointWithoutPolicyIsNotReady(t *testing.T) {
	w := newWorld(t)
	p := packet.UDP(at(web4, 1), at(db4, 53), "")
	w.ok(w.one.Tables().EndpointPolicy.Delete(epDB))
	e := w.fromWeb().refuses(t, p, datapath.ReasonNotReady)
	require.Equal(t, datapath.Ingress, e.Direction)
	require.Equal(t, datapath.PointFromEndpoint, e.Point)
	require.True(t, e.EgressJudged && e.IngressJudged)
	require.Equal(t, cookieOpen, e.EgressCookie)
	w.ok(w.one.Tables().EndpointPolicy.Delete(epWeb))
	e = w.fromWeb().refuses(t, p, datapath.ReasonNotReady)
	require.Equal(t, datapath.Egress, e.Direction, "egress before ingress")
	require.False(t, e.IngressJudged)
	w.noFlows(w.one)
}

func TestLongestMatchDecides(t *testing.T) {
	w := newWorld(t)
	w.class(idWeb, 5)
	w.policyOf(w.one, epDB, newPolicy(1), rows{
		{Class: 5, AnyProto: true}:                                                 {Allow: true, Cookie: 1},
		{Class: 5, Proto: tcp}:                                                     {Allow: true, Cookie: 2},
		{Class: 5, Proto: tcp, Port: 0x1f80, PortBits: 9}:                          {Allow: true, Cookie: 3},
		{Class: 5, Proto: tcp, Port: 8080, PortBits: 16}:                           {Cookie: 1<<31 | 4},
		{Class: 5, Proto: tcp, Port: 8081, PortBits: 16}:                           {Cookie: 5},
		{Class: 0, Proto: tcp, Port: 9999, PortBits: 16}:                           {Allow: true, Cookie: 6},
		{Class: 5, Direction: datapath.Egress, Proto: udp, Port: 53, PortBits: 16}: {Cookie: 1<<31 | 7},
	})
	for _, c := range []struct {
		p       packet.Packet
		allowed bool
		reason  datapath.Reason
		cookie  datapath.Cookie
	}{
		{packet.UDP(at(web4, 1), at(db4, 53), ""), true, 0, 1},
		{packet.TCP(at(web4, 1), at(db4, 80), syn), true, 0, 2},
		{packet.TCP(at(web4, 1), at(db4, 8082), syn), true, 0, 3},
		{packet.TCP(at(web4, 1), at(db4, 0x1fff), syn), true, 0, 3},
		{packet.TCP(at(web4, 1), at(db4, 0x2000), syn), true, 0, 2},
		{packet.TCP(at(web4, 1), at(db4, 8080), syn), false, datapath.ReasonPolicyDeny, 1<<31 | 4},
		{packet.TCP(at(web4, 1), at(db4, 8081), syn), false, datapath.ReasonPolicyDenied, 5},
		{packet.TCP(at(web4, 1), at(db4, 9999), syn), true, 0, 2}, // a row of the class goes before one of class 0
		{packet.SCTP(at(web6, 1), at(db6, 80)), true, 0, 1},
		{packet.Packet{Src: web4, Dst: db4, Proto: 47}, true, 0, 1},
	} {
		allowed, reason, cookie := ask(t, w, c.p)
		require.Equal(t, c.allowed, allowed, "%s", c.p)
		require.Equal(t, c.reason, reason, "%s", c.p)
		require.Equal(t, c.cookie, cookie, "%s", c.p)
	}
}

func TestClassZeroIsAskedSecond(t *testing.T) {
	w := newWorld(t)
	w.class(idWeb, 5)
	w.policyOf(w.one, epDB, newPolicy(1), rows{
		{Class: 5, Proto: udp, Port: 1, PortBits: 16}:  {Allow: true, Cookie: 1},
		{Class: 0, Proto: udp, Port: 53, PortBits: 16}: {Allow: true, Cookie: 2},
	})
	allowed, _, cookie := ask(t, w, packet.UDP(at(web4, 1), at(db4, 53), ""))
	require.True(t, allowed)
	require.Equal(t, datapath.Cookie(2), cookie)
	allowed, reason, cookie := ask(t, w, packet.UDP(at(web4, 1), at(db4, 54), ""))
	require.False(t, allowed)
	require.Equal(t, datapath.ReasonPolicyDenied, reason)
	require.Zero(t, cookie)
	w.class(idWeb, 6) // a class without rows
	allowed, _, cookie = ask(t, w, packet.UDP(at(web4, 1), at(db4, 53), ""))
	require.True(t, allowed)
	require.Equal(t, datapath.Cookie(2), cookie)
}

func TestClassesOfTheGeneration(t *testing.T) {
	w := newWorld(t)
	w.class(idWeb, 5)
	w.ok(w.one.Tables().Classes.Put(datapath.ClassKey{Generation: 3, Identity: idWeb}, 9))
	w.policyOf(w.one, epDB, datapath.NewPolicyID(3, 1), rows{
		{Class: 9, AnyProto: true}: {Allow: true, Cookie: 9},
		{Class: 5, AnyProto: true}: {Allow: true, Cookie: 5},
	})
	_, _, cookie := ask(t, w, packet.UDP(at(web4, 1), at(db4, 53), ""))
	require.Equal(t, datapath.Cookie(9), cookie)
}

func TestClassesOfNodeLocalIdentities(t *testing.T) {
	w := newWorld(t)
	tb := w.one.Tables()
	w.ok(tb.IPCache.Put(pfx("198.51.100.0/24"), datapath.IPCache{Identity: identity.MinLocal + 3}))
	w.ok(tb.Classes.Put(datapath.ClassKey{Identity: identity.MinLocal + 3}, 8))
	w.policyOf(w.one, epWeb, newPolicy(1), rows{
		{Class: 8, Direction: datapath.Egress, Proto: udp, Port: 53, PortBits: 16}: {Allow: true, Cookie: 8},
	})
	res := w.fromWeb().passes(t, packet.UDP(at(web4, 1), at(outside4, 53), ""), kernel.Pass)
	require.Equal(t, datapath.Cookie(8), res.Egress)
	w.fromWeb().refuses(t, packet.UDP(at(web4, 1), at(ip("198.51.101.1"), 53), ""), datapath.ReasonPolicyDenied)
}

func TestPortOfICMPIsItsType(t *testing.T) {
	w := newWorld(t)
	w.policyOf(w.one, epDB, newPolicy(1), rows{
		{Proto: datapath.ProtoICMP, Port: 8, PortBits: 16}:     {Allow: true, Cookie: 1},
		{Proto: datapath.ProtoICMPv6, Port: 128, PortBits: 16}: {Allow: true, Cookie: 2},
	})
	for _, c := range []struct {
		p       packet.Packet
		allowed bool
	}{
		{packet.Echo(web4, db4, 1, false), true}, {packet.Echo(web4, db4, 1, true), false},
		{packet.Echo(web6, db6, 1, false), true}, {packet.Echo(web6, db6, 1, true), false},
		{packet.ICMP(web4, db4, 13, 0), false},
	} {
		allowed, _, _ := ask(t, w, c.p)
		require.Equal(t, c.allowed, allowed, "%s", c.p)
	}
}

func TestEveryHookAsksTheRightPolicies(t *testing.T) {
	w := newWorld(t)
	w.class(idWeb, 1)
	w.class(idDB, 2)
	w.class(idJob, 3)
	w.class(identity.Host, 4)
	w.policyOf(w.one, epWeb, newPolicy(1), rows{
		{Direction: datapath.Egress, Class: 2, AnyProto: true}: {Allow: true, Cookie: 12},
		{Direction: datapath.Egress, Class: 3, AnyProto: true}: {Allow: true, Cookie: 13},
		{Direction: datapath.Egress, Class: 4, AnyProto: true}: {Allow: true, Cookie: 14},
		{Class: 3, AnyProto: true}:                             {Allow: true, Cookie: 23},
		{Class: 4, AnyProto: true}:                             {Allow: true, Cookie: 24},
	})
	w.policyOf(w.one, epDB, newPolicy(2), rows{{Class: 1, AnyProto: true}: {Allow: true, Cookie: 31}})
	cookies := func(d door, p packet.Packet) [2]datapath.Cookie {
		res := d.send(p)
		return [2]datapath.Cookie{res.Egress, res.Ingress}
	}
	require.Equal(t, [2]datapath.Cookie{12, 31}, cookies(w.fromWeb(), packet.UDP(at(web4, 1), at(db4, 2), "")))
	require.Equal(t, [2]datapath.Cookie{13, 0}, cookies(w.fromWeb(), packet.UDP(at(web4, 1), at(job4, 2), "")))
	require.Equal(t, [2]datapath.Cookie{14, 0}, cookies(w.fromWeb(), packet.UDP(at(web4, 1), at(router1, 2), "")))
	require.Equal(t, [2]datapath.Cookie{0, 23}, cookies(w.tunnelled(idJob), packet.UDP(at(job4, 3), at(web4, 2), "")))
	require.Equal(t, [2]datapath.Cookie{0, 24}, cookies(w.toWeb(), packet.UDP(at(node1v4, 1), at(web4, 2), "")))
	e := w.fromDB().refuses(t, packet.UDP(at(db4, 9), at(web4, 9), ""), datapath.ReasonPolicyDenied)
	require.Equal(t, datapath.Egress, e.Direction)
	e = w.toWeb().refuses(t, packet.UDP(at(outside4, 9), at(web4, 9), ""), datapath.ReasonPolicyDenied)
	require.Equal(t, datapath.Ingress, e.Direction)
	e = w.tunnelled(300).refuses(t, packet.UDP(at(job4, 9), at(web4, 9), ""), datapath.ReasonPolicyDenied)
	require.Equal(t, identity.ID(300), e.SrcIdentity, "the VNI, not the address, says who it is")
}
