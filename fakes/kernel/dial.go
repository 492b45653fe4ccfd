package kernel

import (
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/packet"
)

// Answer is how an attempt to talk to somebody ended, as the one who tried sees it.
type Answer struct {
	Connected bool           // an answer came
	By        string         // who answered
	Data      string         // what it said
	Peer      netip.AddrPort // whom the socket believes to talk to: the service's address, when one was dialled
	Refused   bool           // a TCP reset or an ICMP error came
	Err       error          // of connect or sendmsg
}

// Conn is a connection of a fabric: TCP, or UDP with a connected socket. It can be used after Close
// like a program that ignores it.
type Conn struct {
	f        *Fabric
	client   *party
	sock     Socket
	key      socketKey // at the client
	existing *socket
}

// hello is the first message of a connection.
const hello = "hello"

// Dial opens a connection from a pod, node or machine, says hello, and tells who answered. Destinations
// that are services are translated by the node's socket hooks.
func (f *Fabric) Dial(from string, proto uint8, dst netip.Addr, port uint16) (Answer, Trace) {
	_, a, t := f.Open(from, proto, dst, port)
	return a, t
}

// Open is Dial and keeps the connection. The Conn is never nil.
func (f *Fabric) Open(from string, proto uint8, dst netip.Addr, port uint16) (*Conn, Answer, Trace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	client := f.party(from)
	c := &Conn{f: f, client: client, sock: f.newSocket(client, proto, dst)}
	real := netip.AddrPortFrom(dst, port)
	if client.node != nil {
		var err error
		if real, err = client.node.k.Connect(c.sock, real); err != nil {
			return c, Answer{Err: err}, Trace{}
		}
	}
	src := client.source(real.Addr())
	c.existing = &socket{seq: 1}
	if !src.IsValid() {
		return c, Answer{}, Trace{Steps: []Step{{Node: from, Packet: real.String(), Note: "no address of that family"}}}
	}
	c.key = socketKey{proto, netip.AddrPortFrom(src, client.portTo(proto, src, real)), real}
	client.sockets[c.key] = c.existing
	if proto != datapath.ProtoTCP {
		c.existing.established = true
		a, t := c.send(hello)
		return c, a, t
	}
	t := f.run(func() { client.sendTCP(c.key, c.existing, datapath.TCPSyn, "") })
	if !c.existing.established {
		return c, c.answer(), t
	}
	a, more := c.send(hello)
	t.Steps = append(t.Steps, more.Steps...)
	return c, a, t
}

func (f *Fabric) newSocket(p *party, proto uint8, dst netip.Addr) Socket {
	f.cookies++
	return Socket{Netns: p.netns, Cookie: f.cookies, Proto: proto, V6: !dst.Is4()}
}

// port gives out the next port that is free. The numbers begin again after some time, and a connection may
// last longer.
func (f *Fabric) port(free func(uint16) bool) uint16 {
	for {
		f.nextPort++
		if f.nextPort < firstPort {
			f.nextPort = firstPort
		}
		if free(f.nextPort) {
			return f.nextPort
		}
	}
}

// portTo gives out a port for a socket that has no established namesake.
func (p *party) portTo(proto uint8, src netip.Addr, remote netip.AddrPort) uint16 {
	tried := 0
	return p.f.port(func(port uint16) bool {
		tried++
		s := p.sockets[socketKey{proto, netip.AddrPortFrom(src, port), remote}]
		return s == nil || !s.established || tried > 1<<16-firstPort
	})
}

// firstPort is the lowest that connections begin at.
const firstPort = 40000

// Send says something to the server; connected if it answered. TCP packets that got lost are not
// repeated.
func (c *Conn) Send(data string) (Answer, Trace) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	return c.send(data)
}

func (c *Conn) send(data string) (Answer, Trace) {
	c.existing.inbox = nil
	t := c.f.run(func() { c.client.say(c.key, c.existing, data) })
	return c.answer(), t
}

func (p *party) say(key socketKey, s *socket, data string) {
	if key.proto == datapath.ProtoTCP {
		p.sendTCP(key, s, datapath.TCPAck|datapath.TCPPsh, data)
		return
	}
	p.send(packet.UDP(key.local, key.remote, data))
}

// SendBack makes the server say something that nobody asked for; connected if the client got it.
func (c *Conn) SendBack(data string) (Answer, Trace) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.existing.inbox = nil
	server := c.f.at(c.key.remote.Addr())
	if server == nil {
		return Answer{}, Trace{Steps: []Step{{Packet: c.key.remote.String(), Note: "the server is gone"}}}
	}
	there := socketKey{c.key.proto, c.key.remote, c.key.local}
	s := server.sockets[there]
	if s == nil {
		s = &socket{server: true}
	}
	t := c.f.run(func() { server.say(there, s, data) })
	return c.answer(), t
}

// Close ends a TCP connection with FIN from both sides; nothing happens for UDP.
func (c *Conn) Close() Trace { return c.end(datapath.TCPFin | datapath.TCPAck) }

// Reset ends a TCP connection with RST; nothing happens for UDP.
func (c *Conn) Reset() Trace { return c.end(datapath.TCPRst | datapath.TCPAck) }

func (c *Conn) end(flags uint8) Trace {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if c.key.proto != datapath.ProtoTCP {
		return Trace{}
	}
	return c.f.run(func() { c.client.sendTCP(c.key, c.existing, flags, "") })
}

// Local and Remote are the ends of the connection as its packets carry them.
func (c *Conn) Local() netip.AddrPort { return c.key.local }

// Remote is the backend's address when a service was dialled.
func (c *Conn) Remote() netip.AddrPort { return c.key.remote }

func (c *Conn) answer() Answer {
	a := c.existing.answer()
	a.Peer = c.key.remote
	if c.client.node != nil {
		a.Peer = c.client.node.k.Getpeername(c.sock, c.key.remote)
	}
	return a
}

// answer sums up what arrived since the inbox was emptied.
func (s *socket) answer() Answer {
	a := Answer{Refused: s.refused}
	if n := len(s.inbox); n > 0 {
		a.Connected, a.Data = true, s.inbox[n-1].data
		if by, _, ok := strings.Cut(a.Data, ": "); ok {
			a.By = by
		}
	}
	return a
}

// SendTo sends a datagram from a socket that is not connected and tells who answered; Peer is the sender
// of the answer as recvmsg shows it.
func (f *Fabric) SendTo(from string, dst netip.Addr, port uint16, data string) (Answer, Trace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.party(from)
	sock := f.newSocket(p, datapath.ProtoUDP, dst)
	real := netip.AddrPortFrom(dst, port)
	if p.node != nil {
		var err error
		if real, err = p.node.k.Sendmsg(sock, real); err != nil {
			return Answer{Err: err}, Trace{}
		}
	}
	src := p.source(real.Addr())
	if !src.IsValid() {
		return Answer{}, Trace{Steps: []Step{{Node: from, Packet: real.String(), Note: "no address of that family"}}}
	}
	key := socketKey{proto: datapath.ProtoUDP, local: netip.AddrPortFrom(src, p.portTo(datapath.ProtoUDP, src, netip.AddrPort{}))}
	s := &socket{}
	p.sockets[key] = s
	defer delete(p.sockets, key)
	t := f.run(func() { p.send(packet.UDP(key.local, real, data)) })
	a := s.answer()
	if a.Connected {
		a.Peer = s.inbox[len(s.inbox)-1].from
		if p.node != nil {
			a.Peer = p.node.k.Recvmsg(sock, a.Peer)
		}
	}
	return a, t
}

// Ping sends an echo request; connected if the reply came.
func (f *Fabric) Ping(from string, dst netip.Addr) (Answer, Trace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.party(from)
	src := p.source(dst)
	if !src.IsValid() {
		return Answer{}, Trace{Steps: []Step{{Node: from, Packet: dst.String(), Note: "no address of that family"}}}
	}
	request := packet.Echo(src, dst, f.port(func(uint16) bool { return true }), false)
	key := socketKey{proto: request.Proto, local: netip.AddrPortFrom(src, request.ICMPID)}
	s := &socket{}
	p.sockets[key] = s
	defer delete(p.sockets, key)
	t := f.run(func() { p.send(request) })
	a := s.answer()
	if a.Connected {
		a.Peer = s.inbox[0].from
		if to := f.at(dst); to != nil {
			a.By = to.name
		}
	}
	return a, t
}

// Emit makes a pod, node or machine send a packet that it would not send by itself: spoofed, fragmented,
// of any protocol. Ethernet addresses of pods are filled in.
func (f *Fabric) Emit(from string, p packet.Packet) Trace {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run(func() { f.party(from).send(p) })
}
