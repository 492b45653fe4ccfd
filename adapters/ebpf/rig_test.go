package ebpf

import (
	"errors"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// What TC programs return.
const (
	tcOK       = 0
	tcShot     = 2
	tcRedirect = 7
)

// rig is a node for test runs of the programs: two pods A and B, the node itself, pod R on another node,
// and the world. A may open TCP connections to port 80 of B and send it echo requests; every pod may send
// to everybody.
type rig struct {
	*netns
	d *Datapath
	ports.Tables
	ring    *ringbuf.Reader
	overlay uint32
	network uint32 // the device on which other nodes are neighbours
	a, b    pod
	nextPol uint32
}

type pod struct {
	id       datapath.EndpointID
	identity identity.ID
	ifindex  uint32
	mac      datapath.MAC
	nodeMAC  datapath.MAC
}

// family holds the addresses of everybody in one family.
type family struct {
	name                            string
	a, b, host, remote, world, free netip.Addr
}

var families = []family{
	{
		"IPv4", netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.254"),
		netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("10.1.0.77"),
	},
	{
		"IPv6", netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fd00:1::2"), netip.MustParseAddr("fd00:1::fe"),
		netip.MustParseAddr("fd00:2::1"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("fd00:1::77"),
	},
}

const (
	remoteIdentity = 2001

	cookieEgress  = 11
	cookieHTTP    = 22
	cookieEcho    = 23
	cookieRemote  = 24
	cookieDenying = 25 | 1<<31
)

var (
	otherNode = netip.MustParseAddr("192.0.2.2")
	tunnelTo  = [2]uint32{remoteIdentity, 0xc0000202} // VNI and sender of packets from otherNode
)

// newRig opens a datapath whose tunnel keys come from skb->cb, in a namespace of its own.
func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigWith(t, func(r *rig, c *Config) { c.DirectIfindex = r.network })
}

// newRigWith says what the device to other nodes, r.network, is for.
func newRigWith(t testing.TB, configure func(*rig, *Config)) *rig {
	t.Helper()
	needBPF(t)
	ns := newNetns(t)
	ns.enter(t)
	for _, dev := range []string{"lxca", "lxcb", "over", "net"} {
		mustIP(t, "link", "add", dev, "type", "veth", "peer", "name", dev+"p")
	}
	mustIP(t, "link", "set", "net", "address", "ee:ee:ee:ee:ee:ee") // whom the frames are for
	r := &rig{netns: ns, overlay: ifindexOf(t, "over")}
	r.network = ifindexOf(t, "net")
	r.a = pod{1, 1001, ifindexOf(t, "lxca"), datapath.MAC{2, 0, 0, 0, 0, 0xa}, datapath.MAC{2, 0, 0, 0, 1, 0xa}}
	r.b = pod{2, 1002, ifindexOf(t, "lxcb"), datapath.MAC{2, 0, 0, 0, 0, 0xb}, datapath.MAC{2, 0, 0, 0, 1, 0xb}}
	config := Config{BPFFS: newBPFFS(t), Sizes: smallSizes, OverlayIfindex: r.overlay}
	configure(r, &config)
	d, err := open(config,
		map[string]any{"test_tunnel_from_cb": uint8(1)}, ebpf.ProgramOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	r.d, r.Tables = d, d.Tables()
	r.ring, err = ringbuf.NewReader(d.maps[mapEvents])
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.ring.Close()) })

	for _, f := range families {
		r.putPod(t, f.a, r.a)
		r.putPod(t, f.b, r.b)
		require.NoError(t, r.Endpoints.Put(f.host, datapath.Endpoint{Identity: identity.Host, Host: true}))
		for addr, c := range map[netip.Addr]datapath.IPCache{
			f.a: {Identity: r.a.identity}, f.b: {Identity: r.b.identity}, f.host: {Identity: identity.Host},
			f.remote: {Identity: remoteIdentity, Tunnel: otherNode},
		} {
			require.NoError(t, r.IPCache.Put(netip.PrefixFrom(addr, addr.BitLen()), c))
		}
	}
	require.NoError(t, r.Nodes.Put(otherNode, datapath.Node{ID: 2}))
	for i, id := range []identity.ID{r.a.identity, r.b.identity, remoteIdentity} {
		k := datapath.ClassKey{Generation: policyGeneration, Identity: id}
		require.NoError(t, r.Classes.Put(k, datapath.Class(i+1)))
	}
	r.setPolicy(t, r.a.id)
	r.setPolicy(t, r.b.id, r.defaultRows()...)
	return r
}

const policyGeneration = 2

func (r *rig) putPod(t testing.TB, addr netip.Addr, p pod) {
	t.Helper()
	require.NoError(t, r.Endpoints.Put(addr, datapath.Endpoint{
		ID: p.id, Identity: p.identity, Ifindex: p.ifindex, MAC: p.mac, NodeMAC: p.nodeMAC,
	}))
}

type row = ports.Row[datapath.PolicyKey, datapath.PolicyRow]

func allowPort(class datapath.Class, proto uint8, port uint16, cookie datapath.Cookie) row {
	return row{
		Key:   datapath.PolicyKey{Class: class, Proto: proto, Port: port, PortBits: 16},
		Value: datapath.PolicyRow{Allow: true, Cookie: cookie},
	}
}

func (r *rig) defaultRows() []row {
	return []row{
		allowPort(1, datapath.ProtoTCP, 80, cookieHTTP),
		allowPort(1, datapath.ProtoICMP, 8, cookieEcho),
		allowPort(1, datapath.ProtoICMPv6, 128, cookieEcho),
		allowPort(3, datapath.ProtoTCP, 80, cookieRemote),
		allowPort(3, datapath.ProtoUDP, 53, cookieRemote),
	}
}

// setPolicy writes a policy (all egress, and these rows) under a new id and puts it in force.
func (r *rig) setPolicy(t testing.TB, ep datapath.EndpointID, rows ...row) {
	t.Helper()
	r.nextPol++
	id := datapath.NewPolicyID(policyGeneration, r.nextPol)
	rows = append(rows, row{
		Key:   datapath.PolicyKey{Direction: datapath.Egress, AnyProto: true},
		Value: datapath.PolicyRow{Allow: true, Cookie: cookieEgress},
	})
	for _, x := range rows {
		x.Key.Policy = id
		require.NoError(t, r.Policy.Put(x.Key, x.Value))
	}
	require.NoError(t, r.EndpointPolicy.Put(ep, datapath.EndpointPolicy{Policy: id, Epoch: datapath.Epoch(r.nextPol)}))
}

// skb is the head of struct __sk_buff, as far as test runs take it in.
type skb struct {
	Len, PktType, Mark, Queue, Protocol, VlanPresent, VlanTci, VlanProto, Priority uint32
	IngressIfindex, Ifindex, TcIndex                                               uint32
	Cb                                                                             [5]uint32
}

// result is what a program did with a frame.
type result struct {
	code   uint32
	frame  []byte
	events []datapath.Event
}

func runOptions(frame []byte, ifindex uint32, tunnel ...uint32) *ebpf.RunOptions {
	ctx := skb{Ifindex: ifindex}
	copy(ctx.Cb[:], tunnel)
	return &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: ctx}
}

func (r *rig) run(t testing.TB, prog string, ifindex uint32, frame []byte, tunnel ...uint32) result {
	t.Helper()
	opts := runOptions(frame, ifindex, tunnel...)
	code, err := r.d.progs[prog].Run(opts)
	require.NoError(t, err)
	return result{code: code, frame: opts.DataOut, events: r.drain(t)}
}

func (r *rig) fromA(t testing.TB, frame []byte) result {
	t.Helper()
	return r.run(t, progFromPod, r.a.ifindex, frame)
}

func (r *rig) fromB(t testing.TB, frame []byte) result {
	t.Helper()
	return r.run(t, progFromPod, r.b.ifindex, frame)
}

func (r *rig) fromOverlay(t testing.TB, frame []byte) result {
	t.Helper()
	return r.run(t, progFromOverlay, r.overlay, frame, tunnelTo[:]...)
}

// drain reads the events that are there.
func (r *rig) drain(t testing.TB) []datapath.Event {
	t.Helper()
	var out []datapath.Event
	require.NoError(t, r.ring.Flush())
	for {
		rec, err := r.ring.Read()
		if errors.Is(err, ringbuf.ErrFlushed) {
			return out
		}
		require.NoError(t, err)
		require.Len(t, rec.RawSample, int(unsafe.Sizeof(rawEvent{})))
		var raw rawEvent
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)), rec.RawSample)
		out = append(out, newEvent(&raw))
	}
}

// Expectations.

func (x result) dropped(t testing.TB, reason datapath.Reason, msg ...any) datapath.Event {
	t.Helper()
	require.EqualValues(t, tcShot, x.code, msg...)
	require.Len(t, x.events, 1, msg...)
	require.Equal(t, datapath.EventDrop, x.events[0].Type, msg...)
	require.Equal(t, reason, x.events[0].Reason, msg...)
	require.NotZero(t, x.events[0].Timestamp, msg...)
	return x.events[0]
}

// silent is a packet that passed and was not worth an event.
func (x result) silent(t testing.TB, code uint32, msg ...any) {
	t.Helper()
	require.EqualValues(t, code, x.code, msg...)
	require.Empty(t, x.events, msg...)
}

func (x result) opened(t testing.TB, code uint32, point datapath.Point) datapath.Event {
	t.Helper()
	require.EqualValues(t, code, x.code)
	require.NotEmpty(t, x.events)
	require.Equal(t, datapath.EventNew, x.events[0].Type)
	require.Equal(t, point, x.events[0].Point)
	return x.events[0]
}

// delivered checks the Ethernet header of what goes to a pod.
func (x result) delivered(t testing.TB, p pod) {
	t.Helper()
	require.EqualValues(t, tcRedirect, x.code)
	require.Equal(t, p.mac[:], x.frame[:6])
	require.Equal(t, p.nodeMAC[:], x.frame[6:12])
}

// tunnelled checks the Ethernet header of what goes to another node.
func (x result) tunnelled(t testing.TB) {
	t.Helper()
	require.EqualValues(t, tcRedirect, x.code)
	require.Equal(t, datapath.OverlayMAC[:], x.frame[:6])
	require.NotEqual(t, datapath.OverlayMAC[:], x.frame[6:12])
}

// flow returns the only entry of the flow table.
func (r *rig) flow(t testing.TB) datapath.Flow {
	t.Helper()
	flows, err := r.d.Flows()
	require.NoError(t, err)
	require.Len(t, flows, 1)
	return flows[0]
}

func (r *rig) noFlows(t testing.TB) {
	t.Helper()
	flows, err := r.d.Flows()
	require.NoError(t, err)
	require.Empty(t, flows)
}

// expireFlows lets all entries expire.
func (r *rig) expireFlows(t testing.TB) {
	t.Helper()
	r.editFlows(t, func(f *rawFlow) { f.ExpiresNs, f.Side[0].Tick, f.Side[1].Tick = 1, 0, 0 })
}

func (r *rig) editFlows(t testing.TB, edit func(*rawFlow)) {
	t.Helper()
	rows, err := dump[rawFlowKey, rawFlow](r.d.maps[mapFlows])
	require.NoError(t, err)
	for _, x := range rows {
		edit(&x.value)
		require.NoError(t, r.d.maps[mapFlows].Put(&x.key, &x.value))
	}
}

// lives checks an entry's lifetime; the clock is coarse.
func lives(t testing.TB, f datapath.Flow, seconds int) {
	t.Helper()
	require.InDelta(t, float64(seconds), f.Expires.Seconds(), (2 * time.Second).Seconds())
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func eachFamily(t *testing.T, f func(t *testing.T, r *rig, x family)) {
	for _, x := range families {
		t.Run(x.name, func(t *testing.T) { f(t, newRig(t), x) })
	}
}
