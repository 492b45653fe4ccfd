package porttest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// testTables runs the table suite on every table, with rows of both families.
func testTables(t *testing.T, open OpenDatapath) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	t.Run("endpoints", func(t *testing.T) {
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[netip.Addr, datapath.Endpoint] {
			return tables(t, open, Sizes{Endpoints: n}).Endpoints
		}, []ports.Row[netip.Addr, datapath.Endpoint]{
			{Key: a("10.1.0.2"), Value: datapath.Endpoint{ID: 1, Identity: 256, Ifindex: 7, MAC: datapath.MAC{2, 0, 0, 0, 0, 1}, NodeMAC: datapath.MAC{2, 0, 0, 0, 0, 2}}},
			{Key: a("fd00::1:2"), Value: datapath.Endpoint{ID: 65535, Identity: identity.MaxCluster, Ifindex: 1 << 30, MAC: datapath.MAC{0xfe, 255, 255, 255, 255, 255}, NodeMAC: datapath.MAC{2}}},
			{Key: a("192.0.2.1"), Value: datapath.Endpoint{Identity: identity.Host, Host: true}},
			{Key: a("2001:db8::1"), Value: datapath.Endpoint{Identity: identity.Init, ID: 3, Ifindex: 9}},
		})
	})
	t.Run("ep_policy", func(t *testing.T) {
		TestTable(t, Array, func(t *testing.T, _ int) ports.Table[datapath.EndpointID, datapath.EndpointPolicy] {
			return tables(t, open, Sizes{}).EndpointPolicy
		}, []ports.Row[datapath.EndpointID, datapath.EndpointPolicy]{
			{Key: 1, Value: datapath.EndpointPolicy{Policy: datapath.NewPolicyID(0, 1), Epoch: 1}},
			{Key: 65535, Value: datapath.EndpointPolicy{Policy: datapath.NewPolicyID(3, datapath.MaxPolicySerial), Epoch: 1<<32 - 1}},
			{Key: 77, Value: datapath.EndpointPolicy{Epoch: 4}},
		})
	})
	t.Run("ipcache", func(t *testing.T) {
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[netip.Prefix, datapath.IPCache] {
			return tables(t, open, Sizes{IPCache: n}).IPCache
		}, []ports.Row[netip.Prefix, datapath.IPCache]{
			{Key: p("0.0.0.0/0"), Value: datapath.IPCache{Identity: identity.WorldIPv4}},
			{Key: p("::/0"), Value: datapath.IPCache{Identity: identity.WorldIPv6}},
			{Key: p("10.0.0.0/8"), Value: datapath.IPCache{Identity: identity.MinLocal}},
			{Key: p("10.1.0.2/32"), Value: datapath.IPCache{Identity: 300, Tunnel: a("192.0.2.1")}},
			{Key: p("10.1.0.0/24"), Value: datapath.IPCache{Identity: identity.MaxLocal}},
			{Key: p("fd00::/16"), Value: datapath.IPCache{Identity: 301, Tunnel: a("2001:db8::1")}},
			{Key: p("fd00::1/128"), Value: datapath.IPCache{Identity: 302, Tunnel: a("192.0.2.2")}},
		})
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[netip.Prefix, datapath.IPCache] {
			return tables(t, open, Sizes{IPCache: n}).IPCache
		}, []ports.Row[netip.Prefix, datapath.IPCache]{
			{Key: p("fd00::2/128"), Value: datapath.IPCache{Identity: 303, NextHop: a("2001:db8::1")}},
			{Key: p("fd00::3/128"), Value: datapath.IPCache{Identity: 303, Tunnel: a("2001:db8::1")}},
			{Key: p("fd00::4/128"), Value: datapath.IPCache{Identity: 303}},
		})
		table := tables(t, open, Sizes{}).IPCache
		require.ErrorContains(t, table.Put(p("fd00::2/128"), datapath.IPCache{Identity: 303, NextHop: a("192.0.2.1")}), "family")
		require.ErrorContains(t, table.Put(p("10.1.0.3/32"), datapath.IPCache{Tunnel: a("192.0.2.1"), NextHop: a("192.0.2.1")}), "tunnel")
	})
	t.Run("classes", func(t *testing.T) {
		TestTable(t, Array, func(t *testing.T, _ int) ports.Table[datapath.ClassKey, datapath.Class] {
			return tables(t, open, Sizes{}).Classes
		}, []ports.Row[datapath.ClassKey, datapath.Class]{
			{Key: datapath.ClassKey{Generation: 0, Identity: identity.Host}, Value: 1},
			{Key: datapath.ClassKey{Generation: 3, Identity: identity.Host}, Value: 2},
			{Key: datapath.ClassKey{Generation: 0, Identity: identity.MaxCluster}, Value: 3},
			{Key: datapath.ClassKey{Generation: 0, Identity: identity.MinLocal}, Value: 4},
			{Key: datapath.ClassKey{Generation: 3, Identity: identity.MaxLocal}, Value: 1<<32 - 1},
		})
	})
	t.Run("policy", func(t *testing.T) { testPolicyTable(t, open) })
	t.Run("nodes", func(t *testing.T) {
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[netip.Addr, datapath.Node] {
			return tables(t, open, Sizes{Nodes: n}).Nodes
		}, []ports.Row[netip.Addr, datapath.Node]{
			{Key: a("192.0.2.1"), Value: datapath.Node{ID: 1}},
			{Key: a("2001:db8::1"), Value: datapath.Node{ID: 65535}},
			{Key: a("192.0.2.2"), Value: datapath.Node{ID: 2}},
		})
	})
	t.Run("services", func(t *testing.T) {
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[datapath.ServiceKey, datapath.Service] {
			return tables(t, open, Sizes{Services: n}).Services
		}, []ports.Row[datapath.ServiceKey, datapath.Service]{
			{Key: datapath.ServiceKey{Addr: a("10.96.0.10"), Port: 53, Proto: datapath.ProtoUDP}, Value: datapath.Service{ID: 1}},
			{Key: datapath.ServiceKey{Addr: a("10.96.0.10"), Port: 53, Proto: datapath.ProtoTCP}, Value: datapath.Service{ID: 2, AffinityTimeout: 10800}},
			{Key: datapath.ServiceKey{Addr: a("fd00:96::10"), Port: 65535, Proto: datapath.ProtoTCP}, Value: datapath.Service{ID: 1<<32 - 1}},
			{Key: datapath.ServiceKey{Addr: a("10.96.0.10"), Port: 53, Proto: datapath.ProtoUDP, Scope: datapath.External}, Value: datapath.Service{ID: 3, Count: 2}},
			{Key: datapath.ServiceKey{Addr: a("0.0.0.0"), Port: 30053, Proto: datapath.ProtoUDP}, Value: datapath.Service{ID: 4, Count: 7}},
			{Key: datapath.ServiceKey{Addr: a("::"), Port: 30053, Proto: datapath.ProtoUDP, Scope: datapath.External}, Value: datapath.Service{ID: 5, Count: 1, Local: true}},
		})
		services := tables(t, open, Sizes{}).Services
		require.ErrorContains(t, services.Put(datapath.ServiceKey{Addr: a("192.0.2.1"), Port: 1, Proto: datapath.ProtoTCP, Scope: datapath.External + 1}, datapath.Service{ID: 1}), "scope")
	})
	t.Run("slots", func(t *testing.T) {
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[datapath.SlotKey, uint32] {
			return tables(t, open, Sizes{Slots: n}).Slots
		}, []ports.Row[datapath.SlotKey, uint32]{
			{Key: datapath.SlotKey{Service: 1, Slot: 1}, Value: 1},
			{Key: datapath.SlotKey{Service: 1, Slot: 2}, Value: 2},
			{Key: datapath.SlotKey{Service: 1<<32 - 1, Slot: 65521}, Value: 1<<32 - 1},
		})
	})
	t.Run("backends", func(t *testing.T) {
		TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[uint32, datapath.Backend] {
			return tables(t, open, Sizes{Backends: n}).Backends
		}, []ports.Row[uint32, datapath.Backend]{
			{Key: 1, Value: datapath.Backend{Addr: a("10.1.0.2"), Port: 5353, Proto: datapath.ProtoUDP}},
			{Key: 2, Value: datapath.Backend{Addr: a("fd00::1:2"), Port: 65535, Proto: datapath.ProtoTCP}},
			{Key: 1<<32 - 1, Value: datapath.Backend{Addr: a("10.1.0.3"), Port: 1, Proto: datapath.ProtoTCP}},
		})
	})
}

// testPolicyTable uses rows that lie inside each other, as the compiler writes them.
func testPolicyTable(t *testing.T, open OpenDatapath) {
	id, last := datapath.NewPolicyID(0, 1), datapath.NewPolicyID(3, datapath.MaxPolicySerial)
	TestTable(t, Sparse, func(t *testing.T, n int) ports.Table[datapath.PolicyKey, datapath.PolicyRow] {
		return tables(t, open, Sizes{Policy: n}).Policy
	}, []ports.Row[datapath.PolicyKey, datapath.PolicyRow]{
		{Key: datapath.PolicyKey{Policy: id, Class: 1, AnyProto: true}, Value: datapath.PolicyRow{Allow: true}},
		{Key: datapath.PolicyKey{Policy: id, Class: 1, Direction: datapath.Egress, AnyProto: true}, Value: datapath.PolicyRow{Cookie: 1 << 31}},
		{Key: datapath.PolicyKey{Policy: id, Class: 1, Proto: datapath.ProtoTCP}, Value: datapath.PolicyRow{Allow: true, Cookie: 1}},
		{Key: datapath.PolicyKey{Policy: id, Class: 1, Proto: 0}, Value: datapath.PolicyRow{Allow: true, Cookie: 2}},
		{Key: datapath.PolicyKey{Policy: id, Class: 1, Proto: datapath.ProtoTCP, Port: 0x1f90, PortBits: 12}, Value: datapath.PolicyRow{Allow: true, Cookie: 3}},
		{Key: datapath.PolicyKey{Policy: id, Class: 1, Proto: datapath.ProtoTCP, Port: 8080, PortBits: 16}, Value: datapath.PolicyRow{Allow: true, ProxyPort: 15001, Cookie: 1<<32 - 1}},
		{Key: datapath.PolicyKey{Policy: id, Class: 2, Proto: datapath.ProtoTCP, Port: 8080, PortBits: 16}, Value: datapath.PolicyRow{Cookie: 5}},
		{Key: datapath.PolicyKey{Policy: last, Class: 1<<32 - 1, Direction: datapath.Egress, Proto: 255, Port: 65535, PortBits: 16}, Value: datapath.PolicyRow{Allow: true, Cookie: 6}},
	})
}
