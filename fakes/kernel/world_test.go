package kernel_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// Shorthands for addresses.
var (
	ip  = netip.MustParseAddr
	pfx = netip.MustParsePrefix
)

const (
	tcp = datapath.ProtoTCP
	udp = datapath.ProtoUDP
	syn = datapath.TCPSyn
	ack = datapath.TCPAck
	fin = datapath.TCPFin
	rst = datapath.TCPRst
)

// Identities of the world's pods.
const (
	idWeb identity.ID = 1001
	idDB  identity.ID = 1002
	idJob identity.ID = 1003
)

// Two policies of generation 0: everything passes, nothing passes but what a test adds.
var (
	polOpen   = datapath.NewPolicyID(0, 1)
	polClosed = datapath.NewPolicyID(0, 2)
)

const cookieOpen datapath.Cookie = 7

// Interfaces and endpoint ids of the pods: web and db on one, job on two.
const (
	ifWeb, ifDB, ifJob = 11, 12, 21
	epWeb, epDB, epJob = 101, 102, 201
	overlay            = kernel.DefaultOverlay
)

var (
	web4, web6 = ip("10.1.0.11"), ip("fd00:1::11")
	db4, db6   = ip("10.1.0.12"), ip("fd00:1::12")
	job4, job6 = ip("10.2.0.21"), ip("fd00:2::21")

	node1v4, node1v6 = ip("192.0.2.1"), ip("2001:db8::1")
	node2v4, node2v6 = ip("192.0.2.2"), ip("2001:db8::2")
	router1, router2 = ip("10.1.0.1"), ip("10.2.0.1")
	outside4         = ip("198.51.100.9")
	outside6         = ip("2001:db8:ffff::9")
)

// world is two nodes with three pods, a machine outside, and tables as an engine would fill them.
type world struct {
	t        *testing.T
	clock    *clock.Clock
	one, two *kernel.Kernel
	fabric   *kernel.Fabric
	epochs   map[datapath.EndpointID]datapath.Epoch
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, kernel.Options{})
}

func newWorldWith(t *testing.T, o kernel.Options) *world {
	t.Helper()
	w := &world{t: t, clock: clock.New(clock.Epoch), fabric: kernel.NewFabric(), epochs: map[datapath.EndpointID]datapath.Epoch{}}
	o.Clock = w.clock
	w.one, w.two = kernel.New(o), kernel.New(o)
	w.fabric.AddNode(kernel.NodeConfig{Name: "one", Kernel: w.one, Underlay: []netip.Addr{node1v4, node1v6}, Routers: []netip.Addr{router1}})
	w.fabric.AddNode(kernel.NodeConfig{Name: "two", Kernel: w.two, Underlay: []netip.Addr{node2v4, node2v6}, Routers: []netip.Addr{router2}})
	w.fabric.AddMachine("outside", outside4, outside6)
	w.pod("web", "one", w.one, epWeb, ifWeb, idWeb, web4, web6)
	w.pod("db", "one", w.one, epDB, ifDB, idDB, db4, db6)
	w.pod("job", "two", w.two, epJob, ifJob, idJob, job4, job6)
	for k, own := range map[*kernel.Kernel][]netip.Addr{w.one: {node1v4, node1v6, router1}, w.two: {node2v4, node2v6, router2}} {
		tb := k.Tables()
		for _, a := range own {
			w.ok(tb.Endpoints.Put(a, datapath.Endpoint{Identity: identity.Host, Host: true}))
		}
		for _, a := range []netip.Addr{node1v4, node1v6, node2v4, node2v6} {
			w.ok(tb.Nodes.Put(a, datapath.Node{ID: 1}))
			w.ok(tb.IPCache.Put(netip.PrefixFrom(a, a.BitLen()), datapath.IPCache{Identity: identity.RemoteNode}))
		}
		for _, r := range []struct {
			addr   netip.Addr
			id     identity.ID
			tunnel netip.Addr
			local  *kernel.Kernel
		}{
			{web4, idWeb, node1v4, w.one}, {web6, idWeb, node1v4, w.one}, {db4, idDB, node1v4, w.one}, {db6, idDB, node1v4, w.one},
			{job4, idJob, node2v4, w.two}, {job6, idJob, node2v4, w.two},
			{router1, identity.RemoteNode, node1v4, w.one}, {router2, identity.RemoteNode, node2v4, w.two},
		} {
			row := datapath.IPCache{Identity: r.id}
			if r.local != k {
				row.Tunnel = r.tunnel
			}
			w.ok(tb.IPCache.Put(netip.PrefixFrom(r.addr, r.addr.BitLen()), row))
		}
		for _, d := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
			w.allow(k, datapath.PolicyKey{Policy: polOpen, Direction: d, AnyProto: true}, cookieOpen)
		}
		// A row that matches no packet: an empty policy has at least one.
		w.allow(k, datapath.PolicyKey{Policy: polClosed, Direction: datapath.Egress, Proto: 255, Port: 65535, PortBits: 16}, 0)
	}
	w.enforce(w.one, epWeb, polOpen)
	w.enforce(w.one, epDB, polOpen)
	w.enforce(w.two, epJob, polOpen)
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	require.NoError(w.t, err)
}

func podMAC(ep datapath.EndpointID) datapath.MAC  { return datapath.MAC{2, 0, 0, 0, 0, byte(ep)} }
func nodeMAC(ep datapath.EndpointID) datapath.MAC { return datapath.MAC{2, 0, 0, 1, 0, byte(ep)} }

func (w *world) pod(name, node string, k *kernel.Kernel, ep datapath.EndpointID, ifindex uint32, id identity.ID, addrs ...netip.Addr) {
	w.t.Helper()
	w.fabric.AddPod(kernel.PodConfig{Name: name, Node: node, Ifindex: ifindex, MAC: podMAC(ep), NodeMAC: nodeMAC(ep), Addrs: addrs})
	w.ok(k.AttachPod(ifindex))
	for _, a := range addrs {
		w.ok(k.Tables().Endpoints.Put(a, datapath.Endpoint{ID: ep, Identity: id, Ifindex: ifindex, MAC: podMAC(ep), NodeMAC: nodeMAC(ep)}))
	}
}

func (w *world) allow(k *kernel.Kernel, key datapath.PolicyKey, c datapath.Cookie) {
	w.t.Helper()
	w.ok(k.Tables().Policy.Put(key, datapath.PolicyRow{Allow: true, Cookie: c}))
}

// enforce puts a policy in force with the next epoch.
func (w *world) enforce(k *kernel.Kernel, ep datapath.EndpointID, p datapath.PolicyID) {
	w.t.Helper()
	w.epochs[ep]++
	w.ok(k.Tables().EndpointPolicy.Put(ep, datapath.EndpointPolicy{Policy: p, Epoch: w.epochs[ep]}))
}

// newPolicy names a policy that no table has yet.
func newPolicy(serial uint32) datapath.PolicyID { return datapath.NewPolicyID(0, 100+serial) }

// class puts an identity into a class of generation 0 on both nodes.
func (w *world) class(id identity.ID, c datapath.Class) {
	w.t.Helper()
	for _, k := range []*kernel.Kernel{w.one, w.two} {
		w.ok(k.Tables().Classes.Put(datapath.ClassKey{Identity: id}, c))
	}
}

// flow returns the only flow of a kernel.
func (w *world) flow(k *kernel.Kernel) datapath.Flow {
	w.t.Helper()
	flows, err := k.Flows()
	w.ok(err)
	require.Len(w.t, flows, 1)
	return flows[0]
}

func (w *world) noFlows(k *kernel.Kernel) {
	w.t.Helper()
	flows, err := k.Flows()
	w.ok(err)
	require.Empty(w.t, flows)
}

// door is a hook of a node with its interface.
type door struct {
	k       *kernel.Kernel
	hook    kernel.Hook
	ifindex uint32
	meta    kernel.Meta
}

func (w *world) fromWeb() door { return door{w.one, kernel.FromPod, ifWeb, kernel.Meta{}} }
func (w *world) fromDB() door  { return door{w.one, kernel.FromPod, ifDB, kernel.Meta{}} }
func (w *world) toWeb() door   { return door{w.one, kernel.ToPod, ifWeb, kernel.Meta{}} }
func (w *world) toDB() door    { return door{w.one, kernel.ToPod, ifDB, kernel.Meta{}} }
func (w *world) host() door    { return door{w.one, kernel.FromHost, 4, kernel.Meta{}} }

// tunnelled is node one's overlay device with a packet that node two sent for an identity.
func (w *world) tunnelled(id identity.ID) door {
	return door{w.one, kernel.FromOverlay, overlay, kernel.Meta{VNI: uint32(id), Remote: node2v4}}
}

func (d door) send(p packet.Packet) kernel.Result {
	return d.k.Inject(d.hook, d.ifindex, p.Bytes(), d.meta)
}

// passes asks for a verdict other than drop, and none of its events to be a drop.
func (d door) passes(t *testing.T, p packet.Packet, want kernel.Action) kernel.Result {
	t.Helper()
	res := d.send(p)
	require.Equal(t, want.String(), res.Action.String(), "%s at %s: %s", p, d.hook, res)
	require.NotNil(t, res.Frame)
	return res
}

// refuses asks for a drop with its event.
func (d door) refuses(t *testing.T, p packet.Packet, reason datapath.Reason) datapath.Event {
	t.Helper()
	return refused(t, d.send(p), reason)
}

func refused(t *testing.T, res kernel.Result, reason datapath.Reason) datapath.Event {
	t.Helper()
	require.Equal(t, kernel.Drop, res.Action, "%s", res)
	require.Equal(t, reason, res.Reason)
	require.Nil(t, res.Frame)
	require.Len(t, res.Events, 1)
	e := res.Events[0]
	require.Equal(t, datapath.EventDrop, e.Type)
	require.Equal(t, reason, e.Reason)
	return e
}

// eventTypes lists what a packet reported.
func eventTypes(res kernel.Result) []datapath.EventType {
	var out []datapath.EventType
	for _, e := range res.Events {
		out = append(out, e.Type)
	}
	return out
}

// at joins an address and a port.
func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// policyOf replaces the open policy of an endpoint by a new one with only these rows.
func (w *world) policyOf(k *kernel.Kernel, ep datapath.EndpointID, id datapath.PolicyID, rows map[datapath.PolicyKey]datapath.PolicyRow) {
	w.t.Helper()
	for key, row := range rows {
		key.Policy = id
		w.ok(k.Tables().Policy.Put(key, row))
	}
	w.enforce(k, ep, id)
}

type rows = map[datapath.PolicyKey]datapath.PolicyRow
