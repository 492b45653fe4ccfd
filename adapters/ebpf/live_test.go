package ebpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// liveNode is a namespace with a datapath; its pods are namespaces too.
type liveNode struct {
	*netns
	d        *Datapath
	number   int
	underlay netip.Addr
	overlay  uint32
	host     uint32
	pods     int

	mu     sync.Mutex
	events []datapath.Event
}

type livePod struct {
	*netns
	node     *liveNode
	id       datapath.EndpointID
	identity identity.ID
	v4, v6   netip.Addr
	ifindex  uint32
	device   string
}

func (p *livePod) addrs() []netip.Addr { return []netip.Addr{p.v4, p.v6} }

func newLiveNode(t *testing.T, number int, cfg Config) *liveNode {
	t.Helper()
	n := &liveNode{netns: newNetns(t), number: number}
	n.do(t, func() error {
		for _, s := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
			if err := os.WriteFile(s, []byte("1"), 0); err != nil {
				return err
			}
		}
		for _, args := range [][]string{
			{"link", "add", "cilium_host", "type", "veth", "peer", "name", "cilium_net"},
			{"link", "set", "cilium_net", "up"},
			{"link", "set", "cilium_host", "up"},
			{"addr", "add", fmt.Sprintf("10.%d.0.254/32", number), "dev", "cilium_host"},
			{"addr", "add", fmt.Sprintf("fd00:%d::fe/128", number), "dev", "cilium_host", "nodad"},
			{"link", "add", "cilium_vxlan", "address", datapath.OverlayMAC.String(), "type", "vxlan", "external", "dstport", "8472"},
			{"link", "set", "cilium_vxlan", "up"},
		} {
			if err := ip(args...); err != nil {
				return err
			}
		}
		n.overlay, n.host = ifindexOf(t, "cilium_vxlan"), ifindexOf(t, "cilium_host")
		cfg.BPFFS, cfg.Sizes, cfg.OverlayIfindex, cfg.HostIfindex = newBPFFS(t), smallSizes, n.overlay, n.host
		var err error
		n.d, err = Open(cfg)
		return err
	})
	for _, a := range []netip.Addr{addr(fmt.Sprintf("10.%d.0.254", number)), addr(fmt.Sprintf("fd00:%d::fe", number))} {
		require.NoError(t, n.d.Tables().Endpoints.Put(a, datapath.Endpoint{Identity: identity.Host, Host: true}))
		n.know(t, a, identity.Host, netip.Addr{})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	first := n.d
	go func() {
		ended <- first.Events(ctx, func(e datapath.Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, e)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, ports.ErrClosed) { // closed by the test itself
			require.ErrorIs(t, err, context.Canceled)
		}
		require.NoError(t, n.d.Close())
	})
	return n
}

// know enters an address into the ipcache.
func (n *liveNode) know(t *testing.T, a netip.Addr, id identity.ID, tunnel netip.Addr) {
	t.Helper()
	require.NoError(t, n.d.Tables().IPCache.Put(netip.PrefixFrom(a, a.BitLen()), datapath.IPCache{Identity: id, Tunnel: tunnel}))
}

// podMTU leaves room for the tunnel's headers in 1500 bytes.
const podMTU = "1400"

// addPod makes a pod without policy.
func (n *liveNode) addPod(t *testing.T) *livePod {
	t.Helper()
	n.pods++
	p := &livePod{
		netns: newNetns(t), node: n, id: datapath.EndpointID(n.pods), identity: identity.ID(1000*n.number + n.pods),
		v4: addr(fmt.Sprintf("10.%d.0.%d", n.number, n.pods)), v6: addr(fmt.Sprintf("fd00:%d::%d", n.number, n.pods)),
		device: fmt.Sprintf("lxc%d", n.pods),
	}
	mac := datapath.MAC{2, 0, 0, byte(n.number), byte(n.pods), 1}
	nodeMAC := datapath.MAC{2, 0, 0, byte(n.number), byte(n.pods), 2}
	n.do(t, func() error {
		return errors.Join(
			ip("link", "add", p.device, "address", nodeMAC.String(), "mtu", podMTU, "type", "veth",
				"peer", "name", "eth0", "address", mac.String(), "mtu", podMTU, "netns", p.path()),
			ip("link", "set", p.device, "up"))
	})
	gw4, gw6 := fmt.Sprintf("10.%d.0.254", n.number), fmt.Sprintf("fd00:%d::fe", n.number)
	p.do(t, func() error {
		return errors.Join(
			ip("link", "set", "eth0", "up"),
			ip("addr", "add", p.v4.String()+"/32", "dev", "eth0"),
			ip("addr", "add", p.v6.String()+"/128", "dev", "eth0", "nodad"),
			ip("neigh", "add", gw4, "lladdr", nodeMAC.String(), "dev", "eth0", "nud", "permanent"),
			ip("neigh", "add", gw6, "lladdr", nodeMAC.String(), "dev", "eth0", "nud", "permanent"),
			ip("route", "add", "default", "via", gw4, "dev", "eth0", "onlink"),
			ip("-6", "route", "add", "default", "via", gw6, "dev", "eth0", "onlink"))
	})
	n.do(t, func() error {
		p.ifindex = ifindexOf(t, p.device)
		var errs []error
		for _, a := range p.addrs() {
			errs = append(errs,
				ip("route", "add", a.String(), "dev", p.device),
				ip("neigh", "add", a.String(), "lladdr", mac.String(), "dev", p.device, "nud", "permanent"))
		}
		return errors.Join(append(errs, n.d.AttachPod(p.ifindex))...)
	})
	for _, a := range p.addrs() {
		require.NoError(t, n.d.Tables().Endpoints.Put(a, datapath.Endpoint{
			ID: p.id, Identity: p.identity, Ifindex: p.ifindex, MAC: mac, NodeMAC: nodeMAC,
		}))
		n.know(t, a, p.identity, netip.Addr{})
	}
	return p
}

// admit puts a policy in force: all egress, and these rows.
func (p *livePod) admit(t *testing.T, rows ...row) {
	t.Helper()
	tables := p.node.d.Tables()
	old, _ := tables.EndpointPolicy.Get(p.id)
	id := datapath.NewPolicyID(0, uint32(p.id)*100+uint32(old.Epoch)+1)
	rows = append(rows, row{
		Key:   datapath.PolicyKey{Direction: datapath.Egress, AnyProto: true},
		Value: datapath.PolicyRow{Allow: true, Cookie: cookieEgress},
	})
	for _, x := range rows {
		x.Key.Policy = id
		require.NoError(t, tables.Policy.Put(x.Key, x.Value))
	}
	require.NoError(t, tables.EndpointPolicy.Put(p.id, datapath.EndpointPolicy{Policy: id, Epoch: old.Epoch + 1}))
}

// serve answers on TCP and UDP port 80 and 81 with what it gets.
func (p *livePod) serve(t *testing.T) {
	t.Helper()
	for _, port := range []int{80, 81} {
		var l net.Listener
		var u net.PacketConn
		p.do(t, func() (err error) {
			if l, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", port)); err != nil {
				return err
			}
			u, err = net.ListenPacket("udp", fmt.Sprintf("[::]:%d", port))
			return err
		})
		t.Cleanup(func() { _ = l.Close(); _ = u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
			}
		}()
		go func() {
			b := make([]byte, 65536)
			for {
				n, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = u.WriteTo(b[:n], from)
			}
		}()
	}
}

// patience is how long something may take that should happen; refusal how long to wait for what should not.
const (
	patience = 15 * time.Second
	refusal  = 300 * time.Millisecond
)

func dial(t *testing.T, from *netns, network string, to netip.Addr, port uint16, timeout time.Duration) (net.Conn, error) {
	t.Helper()
	var c net.Conn
	var dialErr error
	from.do(t, func() error {
		c, dialErr = net.DialTimeout(network, netip.AddrPortFrom(to, port).String(), timeout)
		return nil
	})
	return c, dialErr
}

// exchange sends a message and reads it back.
func exchange(c net.Conn, message string, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, message)
		sent <- err
	}()
	b := make([]byte, len(message))
	_, err := io.ReadFull(c, b)
	if err := errors.Join(<-sent, err); err != nil {
		return err
	}
	if string(b) != message {
		return fmt.Errorf("got %q back", b)
	}
	return nil
}

func reach(t *testing.T, from *netns, network string, to netip.Addr, port uint16, timeout time.Duration) error {
	t.Helper()
	c, err := dial(t, from, network, to, port, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	return exchange(c, "hello", timeout)
}

// waitEvent waits for an event.
func (n *liveNode) waitEvent(t *testing.T, what string, match func(datapath.Event) bool) datapath.Event {
	t.Helper()
	var found datapath.Event
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, e := range n.events {
			if match(e) {
				found = e
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond, "no event: %s", what)
	return found
}

func anyFrom(class datapath.Class, proto uint8, port uint16) row {
	return allowPort(class, proto, port, cookieHTTP)
}

func admitPort80() []row {
	return []row{anyFrom(0, datapath.ProtoTCP, 80), anyFrom(0, datapath.ProtoUDP, 80)}
}

func TestLivePodsOfOneNode(t *testing.T) {
	for _, classic := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "classic TC"}[classic], func(t *testing.T) {
			needBPF(t)
			n := newLiveNode(t, 1, Config{ClassicTC: classic})
			a, b := n.addPod(t), n.addPod(t)
			b.serve(t)
			for _, to := range b.addrs() {
				require.Error(t, reach(t, a.netns, "tcp", to, 80, refusal), "no policy is in force")
			}
			a.admit(t)
			b.admit(t, admitPort80()...)
			for _, to := range b.addrs() {
				for _, network := range []string{"tcp", "udp"} {
					require.NoError(t, reach(t, a.netns, network, to, 80, patience), "%s %s", network, to)
					require.Error(t, reach(t, a.netns, network, to, 81, refusal), "%s %s", network, to)
				}
				e := n.waitEvent(t, "drop", func(e datapath.Event) bool {
					return e.Type == datapath.EventDrop && e.Dst == netip.AddrPortFrom(to, 81) && e.Proto == datapath.ProtoTCP
				})
				require.Equal(t, datapath.ReasonPolicyDenied, e.Reason)
				require.WithinDuration(t, time.Now(), e.Time, time.Minute)
				n.waitEvent(t, "new", func(e datapath.Event) bool {
					return e.Type == datapath.EventNew && e.Dst == netip.AddrPortFrom(to, 80) && e.IngressCookie == cookieHTTP
				})
				n.waitEvent(t, "close", func(e datapath.Event) bool {
					return e.Type == datapath.EventClose && e.Packets[0] > 2 && e.Packets[1] > 1
				})
				// From the node itself.
				require.NoError(t, reach(t, n.netns, "tcp", to, 80, patience))
				require.Error(t, reach(t, n.netns, "tcp", to, 81, refusal))
			}

			c, err := dial(t, a.netns, "tcp", b.v4, 80, patience)
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, exchange(c, "one", patience))
			b.admit(t)
			require.Error(t, exchange(c, "two", refusal), "an established connection is cut")
			b.admit(t, admitPort80()...)
			require.NoError(t, exchange(c, "", patience))
			b2 := make([]byte, 3)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
			_, err = io.ReadFull(c, b2)
			require.NoError(t, err, "and mended by retransmission")
			require.Equal(t, "two", string(b2))
			large := make([]byte, 4<<20)
			require.NoError(t, exchange(c, string(large), patience), "bulk data passes")
		})
	}
}

// joinNodes connects two nodes by a cable with addresses of one family.
func joinNodes(t *testing.T, a, b *liveNode, underlayA, underlayB string) {
	t.Helper()
	a.do(t, func() error {
		return ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", b.path())
	})
	for _, n := range []struct {
		node      *liveNode
		own, peer string
	}{{a, underlayA, underlayB}, {b, underlayB, underlayA}} {
		own := netip.MustParsePrefix(n.own)
		args := []string{"addr", "add", n.own, "dev", "eth1"}
		if own.Addr().Is6() {
			args = append(args, "nodad")
		}
		n.node.do(t, func() error { return errors.Join(ip("link", "set", "eth1", "up"), ip(args...)) })
		n.node.underlay = own.Addr()
		require.NoError(t, n.node.d.Tables().Nodes.Put(netip.MustParsePrefix(n.peer).Addr(), datapath.Node{ID: 1}))
	}
}

func TestLivePodsOfTwoNodes(t *testing.T) {
	for name, underlay := range map[string][2]string{
		"IPv4 underlay": {"192.0.2.1/24", "192.0.2.2/24"},
		"IPv6 underlay": {"2001:db8::1/64", "2001:db8::2/64"},
	} {
		t.Run(name, func(t *testing.T) {
			needBPF(t)
			n1, n2 := newLiveNode(t, 1, Config{}), newLiveNode(t, 2, Config{})
			joinNodes(t, n1, n2, underlay[0], underlay[1])
			a, b := n1.addPod(t), n2.addPod(t)
			for i := range 2 {
				n1.know(t, b.addrs()[i], b.identity, n2.underlay)
				n2.know(t, a.addrs()[i], a.identity, n1.underlay)
			}
			// The nodes' own way to the pods of the other one.
			for _, x := range []struct{ from, to *liveNode }{{n1, n2}, {n2, n1}} {
				router4, router6 := addr(fmt.Sprintf("10.%d.0.254", x.to.number)), addr(fmt.Sprintf("fd00:%d::fe", x.to.number))
				x.from.know(t, router4, identity.RemoteNode, x.to.underlay)
				x.from.know(t, router6, identity.RemoteNode, x.to.underlay)
				x.from.do(t, func() error {
					return errors.Join(
						ip("route", "add", fmt.Sprintf("10.%d.0.0/24", x.to.number), "dev", "cilium_host",
							"src", fmt.Sprintf("10.%d.0.254", x.from.number)),
						ip("-6", "route", "add", fmt.Sprintf("fd00:%d::/64", x.to.number), "dev", "cilium_host",
							"src", fmt.Sprintf("fd00:%d::fe", x.from.number)),
						ip("link", "set", "cilium_host", "arp", "off"))
				})
			}
			a.admit(t)
			b.admit(t, admitPort80()...)
			b.serve(t)
			for _, to := range b.addrs() {
				for _, network := range []string{"tcp", "udp"} {
					require.NoError(t, reach(t, a.netns, network, to, 80, patience), "%s %s", network, to)
					require.Error(t, reach(t, a.netns, network, to, 81, refusal), "%s %s", network, to)
					require.NoError(t, reach(t, n1.netns, network, to, 80, patience), "%s %s from the node", network, to)
					require.Error(t, reach(t, n1.netns, network, to, 81, refusal), "%s %s from the node", network, to)
				}
				e := n2.waitEvent(t, "drop", func(e datapath.Event) bool {
					return e.Type == datapath.EventDrop && e.Dst == netip.AddrPortFrom(to, 81) && e.SrcIdentity == a.identity
				})
				require.Equal(t, datapath.PointFromOverlay, e.Point)
				n2.waitEvent(t, "drop of the node's", func(e datapath.Event) bool {
					return e.Type == datapath.EventDrop && e.Dst == netip.AddrPortFrom(to, 81) && e.SrcIdentity == identity.RemoteNode
				})
			}
			// Large datagrams are fragmented.
			big := string(make([]byte, 5000))
			for _, to := range b.addrs() {
				c, err := dial(t, a.netns, "udp", to, 80, patience)
				require.NoError(t, err)
				require.NoError(t, exchange(c, big, patience), "fragments to %s", to)
				require.NoError(t, c.Close())
			}
			c, err := dial(t, a.netns, "tcp", b.v6, 80, patience)
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, exchange(c, string(make([]byte, 4<<20)), patience), "bulk data passes")
		})
	}
}
