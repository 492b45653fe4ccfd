package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// client is a machine outside the cluster, behind a device of a node.
type client struct {
	*netns
	v4, v6 netip.Addr
}

func (c *client) addrs() []netip.Addr { return []netip.Addr{c.v4, c.v6} }

// Addresses of the first node in the network of clients, by family.
var outsideNode = []netip.Addr{addr("203.0.113.1"), addr("2001:db8:9::1")}

// addClient puts a machine behind a new device of the node, and lets services take packets from there.
func (n *liveNode) addClient(t *testing.T) *client {
	t.Helper()
	c := &client{netns: newNetns(t), v4: addr("203.0.113.7"), v6: addr("2001:db8:9::7")}
	n.do(t, func() error {
		return errors.Join(
			ip("link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", c.path()),
			ip("link", "set", "out", "up"),
			ip("addr", "add", outsideNode[0].String()+"/24", "dev", "out"),
			ip("addr", "add", outsideNode[1].String()+"/64", "dev", "out", "nodad"))
	})
	c.do(t, func() error {
		return errors.Join(
			ip("link", "set", "eth0", "up"),
			ip("addr", "add", c.v4.String()+"/24", "dev", "eth0"),
			ip("addr", "add", c.v6.String()+"/64", "dev", "eth0", "nodad"))
	})
	for _, a := range outsideNode {
		require.NoError(t, n.d.Tables().Endpoints.Put(a, datapath.Endpoint{Identity: identity.Host, Host: true}))
		n.know(t, a, identity.Host, netip.Addr{})
	}
	n.reopen(t, func(cfg *Config) {
		cfg.Outside = ports.Outside{Devices: []uint32{ifindexOf(t, "out")}, Addresses: outsideNode}
	})
	return c
}

// reopen lets another agent take over.
func (n *liveNode) reopen(t *testing.T, change func(*Config)) {
	t.Helper()
	cfg := n.d.cfg
	n.d.closeQuietly(t)
	n.do(t, func() error {
		change(&cfg)
		var err error
		n.d, err = Open(cfg)
		return err
	})
}

// offer makes a node port, or a port of an address, of backends.
func (n *liveNode) offer(t *testing.T, id uint32, key datapath.ServiceKey, backends ...netip.AddrPort) {
	t.Helper()
	key.Scope = datapath.External
	tables := n.d.Tables()
	for i, b := range backends {
		backend := id*10 + uint32(i)
		require.NoError(t, tables.Backends.Put(backend, datapath.Backend{Addr: b.Addr(), Port: b.Port(), Proto: key.Proto}))
		require.NoError(t, tables.Slots.Put(datapath.SlotKey{Service: id, Slot: uint32(i + 1)}, backend))
	}
	require.NoError(t, tables.Services.Put(key, datapath.Service{ID: id, Count: uint32(len(backends))}))
}

// The ports of nodes that lead to a pod of the node, and to one elsewhere.
const (
	portHere uint16 = 30080
	portAway uint16 = 30081
	portNode uint16 = 30083 // to the node itself
	portDeaf uint16 = 30084 // to a port of the pod here where nobody listens
	portGone uint16 = 30085 // the same elsewhere
)

var liveProtos = map[string]uint8{"tcp": datapath.ProtoTCP, "udp": datapath.ProtoUDP}

func TestLiveServicesFromOutside(t *testing.T) {
	for _, classic := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "classic TC"}[classic], func(t *testing.T) {
			testServicesFromOutside(t, Config{ClassicTC: classic})
		})
	}
}

func testServicesFromOutside(t *testing.T, cfg Config) {
	needBPF(t)
	n1, n2 := newLiveNode(t, 1, cfg), newLiveNode(t, 2, cfg)
	joinNodes(t, n1, n2, "192.0.2.1/24", "192.0.2.2/24")
	c := n1.addClient(t)
	a, b := n1.addPod(t), n2.addPod(t)
	for f, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		n1.know(t, b.addrs()[f], b.identity, n2.underlay)
		n2.know(t, outsideNode[f], identity.RemoteNode, netip.Addr{})
		for name, proto := range liveProtos {
			id := uint32(f)*10 + uint32(len(name)) + uint32(proto)
			n1.offer(t, id, datapath.ServiceKey{Addr: any, Port: portHere, Proto: proto}, netip.AddrPortFrom(a.addrs()[f], 80))
			n1.offer(t, id+300, datapath.ServiceKey{Addr: any, Port: portNode, Proto: proto}, netip.AddrPortFrom(outsideNode[f], 80))
			n1.offer(t, id+400, datapath.ServiceKey{Addr: any, Port: portDeaf, Proto: proto}, netip.AddrPortFrom(a.addrs()[f], 8080))
			n1.offer(t, id+500, datapath.ServiceKey{Addr: any, Port: portGone, Proto: proto}, netip.AddrPortFrom(b.addrs()[f], 8080))
			n1.offer(t, id+100, datapath.ServiceKey{Addr: any, Port: portAway, Proto: proto}, netip.AddrPortFrom(b.addrs()[f], 80))
		}
	}
	for _, p := range []*livePod{a, b} {
		p.admit(t, append(admitPort80(), anyFrom(0, datapath.ProtoTCP, 8080), anyFrom(0, datapath.ProtoUDP, 8080))...)
		p.serve(t)
	}
	(&livePod{netns: n1.netns}).serve(t)
	for f, to := range outsideNode {
		for name, proto := range liveProtos {
			for _, port := range []uint16{portHere, portAway, portNode} {
				what := fmt.Sprintf("%s %s port %d", name, to, port)
				for range 3 {
					require.NoError(t, reach(t, c.netns, name, to, port, patience), what)
				}
				large, err := dial(t, c.netns, name, to, port, patience)
				require.NoError(t, err, what)
				size := 4 << 20
				if proto == datapath.ProtoUDP {
					size = 5000 // fragments
				}
				err = exchange(large, string(make([]byte, size)), patience)
				if errors.Is(err, unix.EMSGSIZE) { // the node has told how much fits on the way to the pod
					err = exchange(large, string(make([]byte, size)), patience)
				}
				require.NoError(t, err, what)
				require.NoError(t, large.Close())
			}
		}
		// A pod of the other node, whose sockets see no services, by the tunnel.
		router := []netip.Addr{addr("10.1.0.254"), addr("fd00:1::fe")}[f]
		n2.know(t, router, identity.RemoteNode, n1.underlay)
		n1.know(t, b.addrs()[f], b.identity, n2.underlay)
		for name := range liveProtos {
			require.NoError(t, reach(t, b.netns, name, router, portHere, patience), "%s %s from a pod elsewhere", name, router)
		}
		seen := func(n *liveNode, src, dst netip.Addr) bool {
			flows, err := n.d.Flows()
			require.NoError(t, err)
			for _, x := range flows {
				if x.Src.Addr() == src && x.Dst.Addr() == dst {
					return true
				}
			}
			return false
		}
		require.True(t, seen(n1, c.addrs()[f], a.addrs()[f]), "the pod here sees the client's address")
		require.True(t, seen(n2, to, b.addrs()[f]), "the pod elsewhere sees the node's address")
		require.Error(t, reach(t, c.netns, "tcp", to, 30082, refusal), "not a port of a service")
		for _, port := range []uint16{portDeaf, portGone} {
			for name := range liveProtos {
				err := reach(t, c.netns, name, to, port, patience)
				require.ErrorIs(t, err, unix.ECONNREFUSED, "%s %s port %d", name, to, port)
			}
		}
	}
}
