package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

// machine is a computer outside the cluster.
type machine struct {
	name  string
	addrs []netip.Addr
}

var machines = []machine{
	{"m1", []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}},
	{"m2", []netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8:1::1")}},
	{"m3", []netip.Addr{netip.MustParseAddr("198.51.100.7")}},
	{"m4", []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:4860::1")}},
}

// party is somebody who can send or be sent to.
type party struct {
	name  string
	addrs []netip.Addr
	c     *container // nil: none
	n     *node      // of a container or the node itself
}

func (s *Sim) parties() []party {
	var out []party
	for _, c := range s.containers {
		if c.inFabric() {
			out = append(out, party{c.id, c.res.Addresses, c, c.node})
		}
	}
	for _, n := range s.nodes {
		out = append(out, party{n.name, append(slices.Clone(n.object.Addresses), routersOf(n.object)...), nil, n})
	}
	for _, m := range machines {
		out = append(out, party{m.name, m.addrs, nil, nil})
	}
	return out
}

// twoParties picks who talks to whom; most of the time it is pods.
func (s *Sim) twoParties(rng *rand.Rand) (from, to party, ok bool) {
	all := s.parties()
	pods := slices.DeleteFunc(slices.Clone(all), func(p party) bool { return p.c == nil })
	draw := func() (party, bool) {
		list := all
		if rng.IntN(4) > 0 {
			list = pods
		}
		return pick(rng.Uint64(), list, func(p party) string { return p.name })
	}
	from, ok1 := draw()
	to, ok2 := draw()
	return from, to, ok1 && ok2 && from.name != to.name && (from.c != nil || to.c != nil)
}

var portsToTry = []uint16{80, 8080, 53, 443, 81}

// probe sends something and judges what became of every packet.
func (s *Sim) probe(rng *rand.Rand) {
	if from, to, ok := s.twoParties(rng); ok {
		s.probePair(from, to, rng)
	}
}

func (s *Sim) probePair(from, to party, rng *rand.Rand) {
	dst := one(rng, to.addrs...)
	port := one(rng, portsToTry...)
	var a kernel.Answer
	var t kernel.Trace
	what := ""
	switch rng.IntN(5) {
	case 0:
		what = "ping"
		a, t = s.fabric.Ping(from.name, dst)
	case 1:
		what = fmt.Sprint("udp ", port)
		a, t = s.fabric.SendTo(from.name, dst, port, "hi")
	case 2:
		if keys := s.frontends(); len(keys) > 0 && from.n != nil {
			s.callService(from, keys[rng.IntN(len(keys))])
			return
		}
		fallthrough
	default:
		what = fmt.Sprint("tcp ", port)
		a, t = s.fabric.Dial(from.name, datapath.ProtoTCP, dst, port)
	}
	s.trace("probe %s > %s %s %s: %v", from.name, to.name, dst, what, a.Connected)
	s.checkTrace(t)
}

// frontends lists the services' addresses in the cluster.
func (s *Sim) frontends() []datapath.ServiceKey {
	var out []datapath.ServiceKey
	for _, f := range s.serviceFrontends() {
		out = append(out, f.key)
	}
	return out
}

// conn is a connection that stays open.
type conn struct {
	*kernel.Conn
	from, to     party
	proto        uint8
	lo           [2]int // moments of the ends' views since which its policy must not have changed
	boots        [2]int
	used         time.Time
	after        int // how often it was used since one end was gone
	port         uint16
	local, other netip.AddrPort
}

// openConn tries a few times: most of the time something forbids it.
func (s *Sim) openConn(rng *rand.Rand) {
	for range 4 {
		if s.tryConn(rng) {
			return
		}
	}
}

func (s *Sim) tryConn(rng *rand.Rand) bool {
	from, to, ok := s.twoParties(rng)
	if !ok {
		return false
	}
	proto, port := datapath.ProtoTCP, one[uint16](rng, 80, 8080)
	if rng.IntN(3) == 0 {
		proto, port = datapath.ProtoUDP, 53
	}
	dst := one(rng, to.addrs...)
	k, a, t := s.fabric.Open(from.name, proto, dst, port)
	s.trace("open %s > %s %s %s %d: %v", from.name, to.name, dst, datapath.ProtoName(proto), port, a.Connected)
	s.checkTrace(t)
	if !a.Connected {
		return false
	}
	c := &conn{Conn: k, from: from, to: to, proto: proto, port: port, used: s.clock.Now(), local: k.Local(), other: k.Remote()}
	for i, p := range []party{from, to} {
		if p.n != nil {
			c.lo[i], c.boots[i] = p.n.view.clean, p.n.boots
		}
	}
	s.conns = append(s.conns, c)
	return true
}

// useConn sends something over open connections, from either side.
func (s *Sim) useConn(rng *rand.Rand) {
	for range 3 {
		if len(s.conns) > 0 {
			s.say(s.conns[rng.IntN(len(s.conns))], rng.IntN(2) == 0)
		}
	}
}

// talkAt uses the connections of a node's pods, and lets one of them be sent something.
func (s *Sim) talkAt(n *node, rng *rand.Rand) {
	for _, c := range slices.Clone(s.conns) {
		if (c.from.n == n || c.to.n == n) && s.failure == nil {
			s.say(c, rng.IntN(2) == 0)
		}
	}
	all := s.parties()
	to, ok := pick(rng.Uint64(), slices.DeleteFunc(slices.Clone(all), func(p party) bool { return p.c == nil || p.n != n }), func(p party) string { return p.name })
	from, _ := pick(rng.Uint64(), all, func(p party) string { return p.name })
	if ok && from.name != to.name {
		if rng.IntN(2) == 0 && from.n != nil {
			from, to = to, from
		}
		s.probePair(from, to, rng)
	}
}

// sayAfter sends something over a connection of which one end is gone: to whoever has its address now, to
// whom the flow must not lead by what was decided about the former owner.
func (s *Sim) sayAfter(c *conn, back bool) {
	c.after++
	var t kernel.Trace
	if back {
		_, t = c.SendBack("are you there?")
	} else {
		_, t = c.Send("are you there?")
	}
	s.trace("use what is left of %s > %s back %v", c.from.name, c.to.name, back)
	s.checkTrace(t)
}

func (s *Sim) say(c *conn, back bool) {
	gone := func(p party) bool { return p.c != nil && !p.c.inFabric() || p.n != nil && s.node(p.n.name) != p.n }
	switch from, to := gone(c.from), gone(c.to); {
	case from && to || c.after >= 8:
		s.forgetConn(c)
		return
	case from || to:
		s.sayAfter(c, from)
		return
	}
	life := datapath.LifetimeOther
	if c.proto == datapath.ProtoTCP {
		life = datapath.LifetimeTCPEstablished
	}
	fresh := s.clock.Now().Sub(c.used) < time.Duration(life)*time.Second
	must := fresh && s.mustPass(c)
	var a kernel.Answer
	var t kernel.Trace
	if back {
		a, t = c.SendBack("news")
	} else {
		a, t = c.Send("more")
	}
	s.trace("use %s > %s back %v: %v (must %v)", c.from.name, c.to.name, back, a.Connected, must)
	s.checkTrace(t)
	if must {
		s.counts.mustPass++
		if !a.Connected {
			s.failf("established", "connection %s %v > %s %v (%s), back %v: its policy did not change and it is cut:\n%s",
				c.from.name, c.local, c.to.name, c.other, datapath.ProtoName(c.proto), back, t)
		}
	}
	if !a.Connected || !fresh {
		s.forgetConn(c) // if its entry had expired it may be the other side's flow now
		return
	}
	c.used = s.clock.Now()
}

func (s *Sim) forgetConn(c *conn) {
	s.conns = slices.DeleteFunc(s.conns, func(d *conn) bool { return d == c })
}

// mustPass says whether whatever was true since the connection was opened allows it, at both ends.
func (s *Sim) mustPass(c *conn) bool {
	ends := [2]party{c.from, c.to}
	for i, p := range ends {
		if p.n != nil && p.n.boots != c.boots[i] {
			return false
		}
	}
	src, dst := c.local.Addr(), c.other.Addr()
	for i, p := range ends {
		if p.n == nil {
			continue
		}
		n, lo, peer := p.n, c.lo[i], ends[1-i]
		mine, other := src, dst
		if i == 1 {
			mine, other = dst, src
		}
		// Whom the node takes the other for must have been plain all the time.
		if peer.n != nil && peer.n != n && !n.knowsWay(peer, other, lo) {
			return false
		}
		if p.c == nil {
			continue
		}
		dir := datapath.Egress
		if i == 1 {
			dir = datapath.Ingress
		}
		if !n.settled(p.c, lo) || len(n.local(mine, lo)) != 1 {
			return false
		}
		peers := n.at(other, lo)
		if peer.c != nil && peer.n != n {
			for _, w := range peer.n.podAs(peer.c, c.lo[1-i]) {
				if !slices.ContainsFunc(peers, func(o who) bool { return o.Labels.Key() == w.Labels.Key() }) {
					return false
				}
			}
		}
		if n.view.judge(n.podAs(p.c, lo), dir, peers, c.proto, c.other.Port(), lo).deny {
			return false
		}
	}
	return true
}

// knowsWay says whether the node has known the way to another node's address all the time.
func (n *node) knowsWay(p party, a netip.Addr, lo int) bool {
	for _, o := range n.view.nodes[p.n.name].window(lo) {
		if o == nil {
			return false
		}
		if p.c == nil && !slices.Contains(o.Addresses, a) && !slices.Contains(o.Routers, a) {
			return false
		}
	}
	if p.c == nil {
		return true
	}
	claims := 0
	for _, name := range sortedNames(n.view.endpoints) {
		always, once := true, false
		for _, e := range n.view.endpoints[name].window(lo) {
			has := e != nil && e.Node == p.n.name && slices.Contains(e.IPs, a)
			if has {
				_, known := n.identityAs(e.Identity, lo)
				has = known
			}
			always, once = always && has, once || has
		}
		if once && !always {
			return false
		}
		if once {
			claims++
		}
	}
	return claims == 1
}

// observe hands the kernel's events of a trace to the agents.
func (s *Sim) observe(t kernel.Trace) {
	for _, st := range t.Steps {
		if st.Result == nil {
			continue
		}
		n := s.node(st.Node)
		for _, ev := range st.Result.Events {
			n.do(func(a *runtime.Stepper) { a.Observe(ev) })
		}
	}
}

func traceText(t kernel.Trace) string { return strings.TrimRight(t.String(), "\n") }
