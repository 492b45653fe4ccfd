package kernel

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

// Socket is who asks the socket hooks.
type Socket struct {
	Netns  uint64 // cookie of the network namespace: the client that affinity knows
	Cookie uint64 // of the socket
	Proto  uint8
	V6     bool // the hooks of IPv6 sockets: IPv4 addresses come and go IPv4-mapped
}

type affinityKey struct {
	service uint32
	netns   uint64
}

type affinityRow struct {
	backend uint32
	used    time.Time
}

type sockRevKey struct {
	socket  uint64
	backend netip.AddrPort
	proto   uint8
}

// sockRevRow is the frontend that a call named, and the row of services that it found.
type sockRevRow struct {
	frontend netip.AddrPort
	row      datapath.ServiceKey
}

// slotTries is how many slots a connection tries before it is refused.
const slotTries = 5

// Connect runs connect4 or connect6 and returns where the connection really goes. The error wraps
// syscall.ECONNREFUSED when the destination is a service without a usable backend.
func (k *Kernel) Connect(s Socket, dst netip.AddrPort) (netip.AddrPort, error) {
	return k.translate("connect to", s, dst)
}

// Sendmsg runs sendmsg4 or sendmsg6, for datagrams of unconnected sockets; as Connect.
func (k *Kernel) Sendmsg(s Socket, dst netip.AddrPort) (netip.AddrPort, error) {
	return k.translate("send to", s, dst)
}

// Recvmsg runs recvmsg4 or recvmsg6: the address that the socket is shown for a datagram from peer.
func (k *Kernel) Recvmsg(s Socket, peer netip.AddrPort) netip.AddrPort { return k.reveal(s, peer) }

// Getpeername runs getpeername4 or getpeername6 likewise.
func (k *Kernel) Getpeername(s Socket, peer netip.AddrPort) netip.AddrPort { return k.reveal(s, peer) }

func (k *Kernel) translate(op string, s Socket, dst netip.AddrPort) (netip.AddrPort, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	frontend := netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	row, ok := k.socketService(s, frontend)
	if !ok || s.Proto != datapath.ProtoTCP && s.Proto != datapath.ProtoUDP {
		return dst, nil
	}
	service := k.services.rows[row]
	id, backend, ok := k.pick(service, row, s.Netns)
	if !ok {
		return dst, fmt.Errorf("%s %s: service %s has no backend: %w", op, frontend, row, syscall.ECONNREFUSED)
	}
	real := netip.AddrPortFrom(backend.Addr, backend.Port)
	k.sockRev.put(sockRevKey{s.Cookie, real, s.Proto}, sockRevRow{frontend, row})
	if service.AffinityTimeout > 0 {
		k.affinity.put(affinityKey{service.ID, s.Netns}, affinityRow{id, k.clock.Now()})
	}
	return s.wire(real), nil
}

// anyLike is the unspecified address of an address's family.
func anyLike(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

var loopback = map[netip.Addr]bool{netip.MustParseAddr("127.0.0.1"): true, netip.IPv6Loopback(): true}

// socketService finds the row of services for a destination that a socket names: that of the very address, or that of
// every address of a node if it is one.
func (k *Kernel) socketService(s Socket, dst netip.AddrPort) (datapath.ServiceKey, bool) {
	a := dst.Addr()
	key := datapath.ServiceKey{Addr: a, Port: dst.Port(), Proto: s.Proto, Scope: datapath.Internal}
	home := k.netns != 0 && s.Netns == k.netns
	if _, ok := k.services.rows[key]; ok && !a.IsUnspecified() {
		return key, home || !loopback[a]
	}
	key.Addr = anyLike(a)
	service, ok := k.services.rows[key]
	if !ok {
		return key, false
	}
	if loopback[a] || a.IsUnspecified() {
		return key, home
	}
	if ep, ok := k.endpoints.rows[a]; ok && ep.Host {
		return key, true
	}
	_, node := k.nodes.rows[a]
	return key, node && !service.Local
}

// pick chooses the backend of a new connection.
func (k *Kernel) pick(service datapath.Service, frontend datapath.ServiceKey, netns uint64) (uint32, datapath.Backend, bool) {
	usable := func(id uint32) (datapath.Backend, bool) {
		b, ok := k.backends.rows[id]
		return b, ok && b.Addr.Is4() == frontend.Addr.Is4()
	}
	if service.Count == 0 {
		return 0, datapath.Backend{}, false
	}
	if service.AffinityTimeout > 0 {
		row, ok := k.affinity.get(affinityKey{service.ID, netns})
		timeout := time.Duration(service.AffinityTimeout) * time.Second
		if ok && k.clock.Now().Sub(row.used) < timeout {
			if b, ok := usable(row.backend); ok {
				return row.backend, b, true
			}
		}
	}
	for range slotTries {
		slot := k.choose(service.Count) + 1
		id, ok := k.slots.rows[datapath.SlotKey{Service: service.ID, Slot: slot}]
		if !ok {
			continue
		}
		if b, ok := usable(id); ok {
			return id, b, true
		}
	}
	return 0, datapath.Backend{}, false
}

func (k *Kernel) reveal(s Socket, peer netip.AddrPort) netip.AddrPort {
	k.mu.Lock()
	defer k.mu.Unlock()
	real := netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	found, ok := k.sockRev.get(sockRevKey{s.Cookie, real, s.Proto})
	if !ok {
		return peer
	}
	if _, ok := k.services.rows[found.row]; !ok {
		return peer
	}
	return s.wire(found.frontend)
}

// wire writes an address the way the socket's hooks do.
func (s Socket) wire(a netip.AddrPort) netip.AddrPort {
	if s.V6 && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}
