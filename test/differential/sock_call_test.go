package differential_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
)

// call is what a program does with a socket. Sockets live in slots; what is done with an empty slot, and what a socket
// of its kind cannot do, is nothing, so that a sequence from which calls were taken out still makes sense.
type call struct {
	Do      string // open, connect, send, hear, peer
	Slot    int
	Client  int            `json:",omitempty"` // open: namespace
	V6      bool           `json:",omitempty"` // open: an IPv6 socket
	Proto   uint8          `json:",omitempty"` // open
	Outside bool           `json:",omitempty"` // open: a UDP socket outside the cgroup
	Addr    netip.AddrPort // connect, send: whereto; hear: from whom; send without one: to the peer
}

func (c call) String() string {
	switch {
	case c.Do == "open" && c.Outside:
		return fmt.Sprintf("socket %d: open at client %d, outside the cgroup, IPv6 %v", c.Slot, c.Client, c.V6)
	case c.Do == "open":
		return fmt.Sprintf("socket %d: open at client %d, protocol %d, IPv6 %v", c.Slot, c.Client, c.Proto, c.V6)
	case c.Addr.IsValid():
		return fmt.Sprintf("socket %d: %s %v", c.Slot, c.Do, c.Addr)
	}
	return fmt.Sprintf("socket %d: %s", c.Slot, c.Do)
}

const protoUDPLite = 136

// socket is a real one and what the fake calls it.
type socket struct {
	fd      int
	fake    kernel.Socket
	place   *place
	outside bool
	peer    netip.AddrPort // where it is really connected to, IPv4 unmapped
}

func (x *socket) close() {
	if x.fake.Proto == datapath.ProtoTCP { // at once, and nothing remains
		_ = unix.SetsockoptLinger(x.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(x.fd)
}

// fits says whether the socket can name an address.
func (x *socket) fits(a netip.Addr) bool {
	if !x.fake.V6 {
		return a.Is4()
	}
	// Once connected, it has an address of one family and reaches only that.
	return !x.peer.IsValid() || x.peer.Addr().Is4() == a.Is4()
}

// wire writes an address as the socket names it.
func (x *socket) wire(a netip.AddrPort) netip.AddrPort {
	if x.fake.V6 && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// call makes a call and asks the fake what should have come of it. what: how they differ.
func (r *rig) call(c *call, k *kernel.Kernel, seen *tally) (what string, err error) {
	s := r.sockets
	if s == nil {
		return "", errors.New("the rig has no sockets")
	}
	if c.Do == "open" {
		return "", s.create(c)
	}
	x := s.open[c.Slot]
	if x == nil {
		return "", nil
	}
	switch c.Do {
	case "connect":
		if !x.fits(c.Addr.Addr()) || x.fake.Proto == datapath.ProtoTCP && x.peer.IsValid() {
			return "", nil
		}
		return s.connect(x, c, k, seen)
	case "send":
		if x.fake.Proto != datapath.ProtoUDP || !c.Addr.IsValid() && !x.peer.IsValid() || c.Addr.IsValid() && !x.fits(c.Addr.Addr()) {
			return "", nil
		}
		return s.send(x, c, k, seen)
	case "hear":
		if x.fake.Proto != datapath.ProtoUDP || !x.fits(c.Addr.Addr()) || x.peer.IsValid() && x.peer != c.Addr {
			return "", nil
		}
		return s.hear(x, c.Addr, k, seen)
	case "peer":
		if !x.peer.IsValid() {
			return "", nil
		}
		return s.getpeername(x, k, seen)
	}
	return "", fmt.Errorf("nobody can %q with a socket", c.Do)
}

// create makes the socket of a slot.
func (s *sockets) create(c *call) (err error) {
	if old := s.open[c.Slot]; old != nil {
		old.close()
		s.open[c.Slot] = nil
	}
	p := &s.places[c.Client]
	x := &socket{place: p, outside: c.Outside, fake: kernel.Socket{Netns: uint64(c.Client) + 1, Proto: c.Proto, V6: c.V6}}
	if c.Proto == protoUDPLite && !s.lite {
		return nil
	}
	if err := unix.Setns(p.ns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace of client %d: %w", c.Client, err)
	}
	if c.Outside {
		x.fake.Proto = datapath.ProtoUDP
		x.fd, err = s.takeOutside(p, c.V6)
	} else {
		family := unix.AF_INET
		if c.V6 {
			family = unix.AF_INET6
		}
		kind, number := protoOf(c.Proto)
		x.fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, number)
	}
	if back := unix.Setns(s.home, unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leave namespace of client %d: %w", c.Client, back)
	}
	if err != nil {
		return fmt.Errorf("make a socket of protocol %d: %w", c.Proto, err)
	}
	s.open[c.Slot] = x
	// Nothing may wait for ever.
	limit := unix.NsecToTimeval(int64(s.patient))
	if err := unix.SetsockoptTimeval(x.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return fmt.Errorf("limit the time of connect: %w", err)
	}
	x.fake.Cookie, err = unix.GetsockoptUint64(x.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return err
}

// asFake asks the fake where a call should lead, letting it choose what the kernel chose: real, or no backend if that is
// not valid.
func (s *sockets) asFake(x *socket, k *kernel.Kernel, ask func(kernel.Socket, netip.AddrPort) (netip.AddrPort, error), dst, real netip.AddrPort, seen *tally) (netip.AddrPort, error) {
	if x.outside {
		return dst, nil
	}
	frontend, wildcard := rowFor(k, dst, x.fake.Proto)
	s.choice, s.asked = chosen(k, frontend, real), false
	to, err := ask(x.fake, x.wire(dst))
	service, no := k.Tables().Services.Get(frontend)
	if wildcard && no == nil {
		s.countWildcard(x, k, dst, service, err != nil || unmap(to) != dst, seen)
	}
	if no == nil && service.AffinityTimeout > 0 && err == nil && (!wildcard || unmap(to) != dst) {
		if s.asked {
			seen.counts["affinity begins"]++
		} else {
			seen.counts["affinity holds"]++
		}
	}
	return unmap(to), err
}

// led compares where a call led; it counts what came of it.
func led(x *socket, c *call, dst, real netip.AddrPort, realErr error, fake netip.AddrPort, fakeErr error, seen *tally) string {
	family := "IPv4"
	switch {
	case x.fake.V6 && dst.Addr().Is4():
		family = "mapped"
	case x.fake.V6:
		family = "IPv6"
	}
	if fakeErr == nil && realErr == nil && fake.Addr().IsUnspecified() { // left to the kernel, which takes an address of its own
		dst, fake = netip.AddrPortFrom(real.Addr(), dst.Port()), netip.AddrPortFrom(real.Addr(), fake.Port())
	}
	proto := map[uint8]string{datapath.ProtoTCP: "TCP", datapath.ProtoUDP: "UDP", protoUDPLite: "UDP-Lite"}[x.fake.Proto]
	if x.outside {
		proto = "UDP outside"
	}
	outcome := "backend"
	switch {
	case realErr != nil:
		outcome = "refused"
	case real == dst:
		outcome = "untouched"
	}
	seen.calls++
	seen.counts[fmt.Sprintf("%s %s %s %s", c.Do, family, proto, outcome)]++
	var want error
	if fakeErr != nil {
		want = unix.ECONNREFUSED
	}
	if real != fake && fakeErr == nil || !errors.Is(realErr, want) {
		return fmt.Sprintf("%s\n  kernel %v, %v\n  fake   %v, %v\n", c, real, realErr, fake, fakeErr)
	}
	return ""
}

func (s *sockets) connect(x *socket, c *call, k *kernel.Kernel, seen *tally) (string, error) {
	callErr := unix.Connect(x.fd, sockaddr(c.Addr, x.fake.V6))
	if errors.Is(callErr, unix.EINTR) { // a signal of the Go runtime: the kernel goes on connecting
		callErr = s.connected(x)
	}
	var real netip.AddrPort
	var err error
	switch {
	case callErr != nil:
	case x.fake.Proto == datapath.ProtoTCP:
		var own unix.Sockaddr
		if own, err = unix.Getsockname(x.fd); err == nil {
			real, err = s.accepted(x.place, addrPort(own).Port())
		}
	case x.fake.Proto == datapath.ProtoUDP && x.fake.V6 && c.Addr.Addr().Is4():
		real, err = s.listedPeer(x)
	case x.fake.Proto == datapath.ProtoUDP:
		real, _, err = s.probe(x, nil)
	default: // nobody listens; what was not changed is shown as it is
		var peer unix.Sockaddr
		if peer, err = unix.Getpeername(x.fd); err == nil {
			real = unmap(addrPort(peer))
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", c, err)
	}
	fake, fakeErr := s.asFake(x, k, k.Connect, c.Addr, real, seen)
	what := led(x, c, c.Addr, real, callErr, fake, fakeErr, seen)
	if callErr == nil {
		x.peer = real
	}
	if what != "" || callErr != nil {
		return what, nil
	}
	if x.fake.Proto == datapath.ProtoUDP {
		if what, err = s.hear(x, real, k, seen); what != "" || err != nil {
			return what, err
		}
	}
	return s.getpeername(x, k, seen)
}

// connected waits for a connection that was begun.
func (s *sockets) connected(x *socket) error {
	fds := []unix.PollFd{{Fd: int32(x.fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(fds, int(s.patient.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		code, err := unix.GetsockoptInt(x.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			return unix.Errno(code)
		}
		return err
	}
}

// listedPeer reads in the kernel's list of UDP sockets where one is connected to. An IPv6 socket with an IPv4 peer cannot be probed:
// every datagram of it asks sendmsg4 anew.
func (s *sockets) listedPeer(x *socket) (netip.AddrPort, error) {
	own, err := unix.Getsockname(x.fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("own address: %w", err)
	}
	if err := unix.Setns(x.place.ns, unix.CLONE_NEWNET); err != nil {
		return netip.AddrPort{}, fmt.Errorf("enter the namespace: %w", err)
	}
	list, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/net/udp6", unix.Gettid()))
	if err := both(unix.Setns(s.home, unix.CLONE_NEWNET), err); err != nil {
		return netip.AddrPort{}, fmt.Errorf("list the sockets: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", addrPort(own).Port())) {
			continue
		}
		var words [4]uint32
		var port uint16
		if _, err := fmt.Sscanf(fields[2], "%08X%08X%08X%08X:%04X", &words[0], &words[1], &words[2], &words[3], &port); err != nil {
			return netip.AddrPort{}, fmt.Errorf("read %q in the list of sockets: %w", fields[2], err)
		}
		var a [16]byte
		for n, w := range words {
			native.PutUint32(a[4*n:], w)
		}
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port), nil
	}
	return netip.AddrPort{}, errors.New("the socket is not in the list")
}

// probe sends a datagram, to the peer or somebody else, and finds out where it went.
func (s *sockets) probe(x *socket, to unix.Sockaddr) (real netip.AddrPort, callErr, err error) {
	s.token++
	data := binary.BigEndian.AppendUint64(nil, s.token)
	if to == nil {
		_, callErr = unix.Write(x.fd, data)
	} else {
		callErr = unix.Sendto(x.fd, data, 0, to)
	}
	if callErr != nil {
		return netip.AddrPort{}, callErr, nil
	}
	got, err := s.datagram(x.place, s.token)
	return got.to, nil, err
}

func (s *sockets) send(x *socket, c *call, k *kernel.Kernel, seen *tally) (string, error) {
	dst, to := c.Addr, unix.Sockaddr(nil)
	if dst.IsValid() {
		to = sockaddr(dst, x.fake.V6)
	} else {
		dst = x.peer
	}
	real, callErr, err := s.probe(x, to)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c, err)
	}
	if to == nil && !(x.fake.V6 && dst.Addr().Is4()) { // connected: no hook, it goes where connect led
		seen.calls++
		seen.counts["send to the peer"]++
		if callErr != nil || real != dst {
			return fmt.Sprintf("%s\n  kernel %v, %v\n  connected to %v\n", c, real, callErr, dst), nil
		}
		return "", nil
	}
	// An IPv6 socket gives IPv4 the peer's address with every datagram, so that sendmsg4 is asked.
	fake, fakeErr := s.asFake(x, k, k.Sendmsg, dst, real, seen)
	if what := led(x, c, dst, real, callErr, fake, fakeErr, seen); what != "" || callErr != nil {
		return what, nil
	}
	if x.peer.IsValid() && x.peer != real {
		return "", nil // an answer would not be taken
	}
	return s.hear(x, real, k, seen)
}

// hear lets a server send to the socket, and compares who that seems to be.
func (s *sockets) hear(x *socket, from netip.AddrPort, k *kernel.Kernel, seen *tally) (string, error) {
	own, err := unix.Getsockname(x.fd)
	if err != nil {
		return "", fmt.Errorf("own address: %w", err)
	}
	to := addrPort(own)
	if to.Port() == 0 {
		return "", nil // nothing was sent yet
	}
	if to.Addr().IsUnspecified() || unmap(to).Addr().IsUnspecified() {
		a := client6
		if from.Addr().Is4() {
			a = client4
		}
		to = netip.AddrPortFrom(a, to.Port())
	}
	var by server
	for _, x := range x.place.udp {
		if x.port == from.Port() {
			by = x
		}
	}
	s.token++
	if err := s.answer(by, from.Addr(), to, s.token); err != nil {
		return "", err
	}
	var shown netip.AddrPort
	for {
		if await([]server{{fd: x.fd}}, s.patient) < 0 {
			return "", fmt.Errorf("the datagram from %v to %v did not come", from, to)
		}
		n, sa, err := unix.Recvfrom(x.fd, s.buf[:], unix.MSG_DONTWAIT)
		if err != nil {
			return "", fmt.Errorf("receive what %v sent to %v: %w", from, to, err)
		}
		if n == 8 && binary.BigEndian.Uint64(s.buf[:]) == s.token {
			shown = addrPort(sa)
			break
		}
	}
	fake := x.wire(from)
	if !x.outside {
		fake = k.Recvmsg(x.fake, fake)
	}
	return x.shows("hear", from, shown, fake, seen), nil
}

func (s *sockets) getpeername(x *socket, k *kernel.Kernel, seen *tally) (string, error) {
	sa, err := unix.Getpeername(x.fd)
	if err != nil {
		return "", fmt.Errorf("getpeername: %w", err)
	}
	fake := x.wire(x.peer)
	if !x.outside {
		fake = k.Getpeername(x.fake, fake)
	}
	return x.shows("peer", x.peer, addrPort(sa), fake, seen), nil
}

// shows compares the address that a socket is shown for a peer.
func (x *socket) shows(do string, peer, real, fake netip.AddrPort, seen *tally) string {
	family, outcome := "IPv4", "frontend"
	switch {
	case x.fake.V6 && peer.Addr().Is4():
		family = "mapped"
	case x.fake.V6:
		family = "IPv6"
	}
	if unmap(real) == peer {
		outcome = "as it is"
	}
	seen.calls++
	seen.counts[fmt.Sprintf("%s %s %s", do, family, outcome)]++
	if real != fake {
		return fmt.Sprintf("%s, really %v\n  kernel shows %v\n  fake shows   %v\n", do, peer, real, fake)
	}
	return ""
}

// choose is what the fake asks for slots.
func (r *rig) choose(uint32) uint32 {
	if r.sockets == nil {
		return 0
	}
	r.sockets.asked = true
	return r.sockets.choice
}

// ageAffinity makes the rows of affinity older.
func (r *rig) ageAffinity(d time.Duration) error {
	var key, value []byte
	rows := map[string][]byte{}
	it := r.affinity.Iterate()
	for it.Next(&key, &value) {
		rows[string(key)] = append([]byte{}, value...)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	for key, value := range rows {
		at := value[r.used:]
		// The programs take differences: it does no harm if that is before the machine began.
		native.PutUint64(at, native.Uint64(at)-uint64(d))
		if err := r.affinity.Put([]byte(key), value); err != nil {
			return fmt.Errorf("change affinity: %w", err)
		}
	}
	return nil
}

// forgetSockets closes the sockets; the rows of others belong to sockets that never come again.
func (r *rig) forgetSockets() error {
	if r.sockets == nil {
		return nil
	}
	r.sockets.closeAll()
	return nil
}
