package kernel_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
	"github.com/weirnet/weir/ports"
)

func TestKeysAreChecked(t *testing.T) {
	tb := kernel.New(kernel.Options{}).Tables()
	require.Error(t, tb.Nodes.Put(netip.Addr{}, datapath.Node{ID: 1}))
	require.Error(t, tb.Nodes.Put(ip("fe80::1%eth0"), datapath.Node{ID: 1}))
	require.NoError(t, tb.Nodes.Put(netip.AddrFrom16(node1v4.As16()), datapath.Node{ID: 1}))
	_, err := tb.Nodes.Get(node1v4)
	require.NoError(t, err, "IPv4 addresses are kept unmapped")
	require.Error(t, tb.IPCache.Put(netip.Prefix{}, datapath.IPCache{}))
	require.Error(t, tb.IPCache.Put(netip.MustParsePrefix("::ffff:10.0.0.0/104"), datapath.IPCache{}))
	require.ErrorContains(t, tb.Policy.Put(datapath.PolicyKey{PortBits: 17}, datapath.PolicyRow{}), "0 to 16")
	require.Error(t, tb.Policy.Put(datapath.PolicyKey{Direction: 2}, datapath.PolicyRow{}))
	require.Error(t, tb.Services.Put(datapath.ServiceKey{}, datapath.Service{}))
	require.ErrorContains(t, tb.Classes.Put(datapath.ClassKey{Generation: 4}, 1), "0 to 3")

	require.NoError(t, tb.Policy.Put(datapath.PolicyKey{Policy: 1, Proto: tcp, Port: 8085, PortBits: 12}, datapath.PolicyRow{Cookie: 1}))
	v, err := tb.Policy.Get(datapath.PolicyKey{Policy: 1, Proto: tcp, Port: 8080, PortBits: 12})
	require.NoError(t, err, "ports are compared as far as the prefix goes")
	require.Equal(t, datapath.Cookie(1), v.Cookie)
	require.NoError(t, tb.Policy.Put(datapath.PolicyKey{Policy: 1, AnyProto: true, Proto: 9, Port: 9, PortBits: 9}, datapath.PolicyRow{}))
	_, err = tb.Policy.Get(datapath.PolicyKey{Policy: 1, AnyProto: true})
	require.NoError(t, err)
}

func TestErrorsNameTableAndKey(t *testing.T) {
	tb := kernel.New(kernel.Options{Capacities: kernel.Capacities{Nodes: 1}}).Tables()
	_, err := tb.Nodes.Get(node1v4)
	require.EqualError(t, err, "nodes: get 192.0.2.1: not found")
	require.NoError(t, tb.Nodes.Put(node1v4, datapath.Node{}))
	err = tb.Nodes.Put(node2v4, datapath.Node{})
	require.EqualError(t, err, "nodes: put 192.0.2.2: 1 rows: no space left in table")
}

func TestFail(t *testing.T) {
	w := newWorld(t)
	tb := w.one.Tables()
	broken := errors.New("broken")
	var asked []string
	w.one.Fail(func(op, table string, key any) error {
		asked = append(asked, op+" "+table)
		return broken
	})
	before, err := w.two.Tables().Nodes.Dump()
	w.ok(err)
	require.ErrorIs(t, tb.Nodes.Put(node1v4, datapath.Node{ID: 99}), broken)
	require.ErrorIs(t, tb.Nodes.Delete(node1v4), broken)
	_, err = tb.Nodes.Get(node1v4)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "nodes: get 192.0.2.1")
	_, err = tb.Nodes.Dump()
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, w.one.BumpAll(), broken)
	require.ErrorIs(t, w.one.BumpAddr(web4), broken)
	require.ErrorIs(t, w.one.AttachPod(1), broken)
	require.ErrorIs(t, w.one.DetachPod(1), broken)
	_, err = w.one.AttachedPods()
	require.ErrorIs(t, err, broken)
	_, err = w.one.Flows()
	require.ErrorIs(t, err, broken)
	_, err = w.one.CollectFlows()
	require.ErrorIs(t, err, broken)
	_, err = w.one.FlushFlows()
	require.ErrorIs(t, err, broken)
	_, err = w.one.Counters()
	require.ErrorIs(t, err, broken)
	_, err = w.one.Lost()
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, w.one.Events(t.Context(), nil), broken)
	require.Equal(t, []string{"put nodes", "delete nodes", "get nodes", "dump nodes", "bump addr_epoch", "bump addr_epoch",
		"attach pods", "detach pods", "list pods", "list flows", "collect flows", "flush flows", "read counters", "read events", "read events"}, asked)
	w.one.Fail(nil)
	after, err := tb.Nodes.Dump()
	w.ok(err)
	require.Equal(t, before, after, "nothing had changed")
}

func TestViolations(t *testing.T) {
	p1, p2 := datapath.NewPolicyID(0, 1), datapath.NewPolicyID(0, 2)
	row := datapath.PolicyKey{Policy: p1, AnyProto: true}
	classRow := datapath.PolicyKey{Policy: p1, Class: 3, AnyProto: true}
	web := datapath.ClassKey{Identity: idWeb}
	key := datapath.ServiceKey{Addr: vip4, Port: 80, Proto: tcp}
	slot := datapath.SlotKey{Service: 1, Slot: 1}
	backend := datapath.Backend{Addr: db4, Port: 1, Proto: tcp}
	type step func(ports.Tables) error
	put := map[string]step{
		"row": func(tb ports.Tables) error { return tb.Policy.Put(row, datapath.PolicyRow{Allow: true}) },
		"row of p2": func(tb ports.Tables) error {
			return tb.Policy.Put(datapath.PolicyKey{Policy: p2, AnyProto: true}, datapath.PolicyRow{})
		},
		"other row":    func(tb ports.Tables) error { return tb.Policy.Put(row, datapath.PolicyRow{}) },
		"no row":       func(tb ports.Tables) error { return tb.Policy.Delete(row) },
		"class row":    func(tb ports.Tables) error { return tb.Policy.Put(classRow, datapath.PolicyRow{Allow: true}) },
		"no class row": func(tb ports.Tables) error { return tb.Policy.Delete(classRow) },
		"class":        func(tb ports.Tables) error { return tb.Classes.Put(web, 3) },
		"no class":     func(tb ports.Tables) error { return tb.Classes.Delete(web) },
		"p1": func(tb ports.Tables) error {
			return tb.EndpointPolicy.Put(1, datapath.EndpointPolicy{Policy: p1, Epoch: 1})
		},
		"p2": func(tb ports.Tables) error {
			return tb.EndpointPolicy.Put(1, datapath.EndpointPolicy{Policy: p2, Epoch: 2})
		},
		"p2 too early": func(tb ports.Tables) error {
			return tb.EndpointPolicy.Put(1, datapath.EndpointPolicy{Policy: p2, Epoch: 1})
		},
		"no policy":  func(tb ports.Tables) error { return tb.EndpointPolicy.Delete(1) },
		"endpoint 0": func(tb ports.Tables) error { return tb.EndpointPolicy.Put(0, datapath.EndpointPolicy{Epoch: 1}) },
		"backend":    func(tb ports.Tables) error { return tb.Backends.Put(5, backend) },
		"other backend": func(tb ports.Tables) error {
			return tb.Backends.Put(5, datapath.Backend{Addr: db6, Port: 1, Proto: tcp})
		},
		"no backend":     func(tb ports.Tables) error { return tb.Backends.Delete(5) },
		"backend 0":      func(tb ports.Tables) error { return tb.Backends.Put(0, backend) },
		"slot":           func(tb ports.Tables) error { return tb.Slots.Put(slot, 5) },
		"slot 0":         func(tb ports.Tables) error { return tb.Slots.Put(datapath.SlotKey{Service: 1}, 5) },
		"no slot":        func(tb ports.Tables) error { return tb.Slots.Delete(slot) },
		"service":        func(tb ports.Tables) error { return tb.Services.Put(key, datapath.Service{ID: 1, Count: 1}) },
		"empty service":  func(tb ports.Tables) error { return tb.Services.Put(key, datapath.Service{ID: 1}) },
		"no service":     func(tb ports.Tables) error { return tb.Services.Delete(key) },
		"pod":            func(tb ports.Tables) error { return tb.Endpoints.Put(web4, datapath.Endpoint{ID: 1, Ifindex: 2}) },
		"pod without if": func(tb ports.Tables) error { return tb.Endpoints.Put(web4, datapath.Endpoint{ID: 1}) },
		"host": func(tb ports.Tables) error {
			return tb.Endpoints.Put(node1v4, datapath.Endpoint{Host: true, Identity: identity.Host})
		},
		"host with id": func(tb ports.Tables) error { return tb.Endpoints.Put(node1v4, datapath.Endpoint{Host: true, ID: 1}) },
		"no host":      func(tb ports.Tables) error { return tb.Endpoints.Delete(node1v4) },
	}
	for _, c := range []struct {
		steps string
		want  []string // a part of each violation
	}{
		{steps: "row, p1, row, row of p2, p2, no row, no policy"},
		{steps: "p1", want: []string{"policy 1 has no row"}},
		{steps: "row, p1, no row", want: []string{"delete {policy 1 class 0 ingress any}: the policy is in force"}},
		{steps: "row, p1, other row", want: []string{"change {policy 1 class 0 ingress any}"}},
		{steps: "row, p1, class row, class, no class, no class row"},
		{steps: "row, p1, class, class row", want: []string{"put {policy 1 class 3"}},
		{steps: "row, p1, class row, class, no class row", want: []string{"delete {policy 1 class 3"}},
		{steps: "row, row of p2, p1, p2 too early", want: []string{"policy 2 comes with epoch 1, the endpoint id already had 1"}},
		{steps: "row, p1, no policy, p1", want: []string{"epoch 1, the endpoint id already had 1"}},
		{steps: "endpoint 0", want: []string{"no endpoint has id 0"}},
		{steps: "backend, slot, service, empty service, no slot, no backend, no service"},
		{steps: "slot", want: []string{"backend 5 does not exist"}},
		{steps: "service", want: []string{"slot 1 of service 1 does not exist"}},
		{steps: "slot, service", want: []string{"backend 5 does not exist", "names backend 5, which does not exist"}},
		{steps: "backend, slot, no backend", want: []string{"backends: delete 5: a slot names it"}},
		{steps: "backend, slot, other backend", want: []string{"backends: change 5"}},
		{steps: "backend, slot, service, no slot", want: []string{"service 10.96.0.10:80/TCP counts it"}},
		{steps: "backend, slot, service, no service, no slot, no backend"},
		{steps: "backend 0", want: []string{"count from 1"}},
		{steps: "backend, slot 0", want: []string{"count from 1"}},
		{steps: "pod, host, no host"},
		{steps: "pod without if", want: []string{"a pod has endpoint id 1 and ifindex 0"}},
		{steps: "host with id", want: []string{"the node's address has endpoint id 1"}},
	} {
		t.Run(c.steps, func(t *testing.T) {
			k := kernel.New(kernel.Options{})
			for _, name := range strings.Split(c.steps, ", ") {
				require.NoError(t, put[name](k.Tables()), name)
			}
			got := k.Violations()
			require.Len(t, got, len(c.want), "%q", got)
			for i, part := range c.want {
				require.Contains(t, got[i], part)
			}
		})
	}
}

func TestDumpText(t *testing.T) {
	k := kernel.New(kernel.Options{})
	tb := k.Tables()
	require.Empty(t, k.DumpText())
	for _, err := range []error{
		tb.Endpoints.Put(web4, datapath.Endpoint{ID: epWeb, Identity: idWeb, Ifindex: ifWeb, MAC: podMAC(epWeb), NodeMAC: nodeMAC(epWeb)}),
		tb.Endpoints.Put(node1v4, datapath.Endpoint{Host: true, Identity: identity.Host}),
		tb.IPCache.Put(pfx("10.2.0.21/32"), datapath.IPCache{Identity: idJob, Tunnel: node2v4}),
		tb.IPCache.Put(pfx("0.0.0.0/0"), datapath.IPCache{Identity: identity.WorldIPv4}),
		tb.Classes.Put(datapath.ClassKey{Generation: 1, Identity: idJob}, 2),
		tb.Policy.Put(datapath.PolicyKey{Policy: datapath.NewPolicyID(1, 4), Direction: datapath.Egress, AnyProto: true}, datapath.PolicyRow{Allow: true, Cookie: 1}),
		tb.Policy.Put(datapath.PolicyKey{Policy: datapath.NewPolicyID(1, 4), Class: 2, Proto: tcp, Port: 80, PortBits: 16}, datapath.PolicyRow{Cookie: 1 << 31, ProxyPort: 9}),
		tb.EndpointPolicy.Put(epWeb, datapath.EndpointPolicy{Policy: datapath.NewPolicyID(1, 4), Epoch: 1}),
		tb.Nodes.Put(node2v4, datapath.Node{ID: 2}),
		tb.Backends.Put(1, datapath.Backend{Addr: db6, Port: 53, Proto: udp}),
		tb.Slots.Put(datapath.SlotKey{Service: 7, Slot: 1}, 1),
		tb.Services.Put(datapath.ServiceKey{Addr: vip6, Port: 53, Proto: udp}, datapath.Service{ID: 7, Count: 1, AffinityTimeout: 60}),
	} {
		require.NoError(t, err)
	}
	k.Inject(kernel.FromPod, ifWeb, packet.UDP(at(web4, 1), at(job4, 53), "").Bytes(), kernel.Meta{})
	require.Equal(t, `endpoints 10.1.0.11 endpoint 101 identity 1001 ifindex 11 mac 02:00:00:00:00:65 node-mac 02:00:00:01:00:65
endpoints 192.0.2.1 host identity host
ep_policy 101 policy 1.4 epoch 1
ipcache 0.0.0.0/0 identity world-ipv4
ipcache 10.2.0.21/32 identity 1003 tunnel 192.0.2.2
classes generation 1 identity 1003 class 2
policy 1.4 class 0 egress any allow cookie 0x1
policy 1.4 class 2 ingress TCP 80/16 deny cookie 0x80000000 proxy 9
nodes 192.0.2.2 node 2
services [fd00:96::10]:53/UDP service 7 count 1 affinity 60s
slots service 7 slot 1 backend 1
backends 1 [fd00:1::12]:53/UDP
flows UDP 10.1.0.11:1 > 10.2.0.21:53 identities 1001 > 1003 egress 0x1 to overlay back to pod packets 1 0
`, k.DumpText())
	require.Empty(t, k.Violations())
}
