package engine_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

func onDevices(ss ...string) engine.DeviceAddresses {
	var d engine.DeviceAddresses
	for _, s := range ss {
		d.Addresses = append(d.Addresses, ip(s))
	}
	return d
}

func nodeWith(name string, addrs ...netip.Addr) cluster.NodeUpsert {
	return cluster.NodeUpsert{Node: cluster.Node{Name: name, Addresses: addrs}}
}

// An address of a device is the node's: in both tables, and flows that know it otherwise are judged anew.
func TestDeviceAddressesAreTheNodes(t *testing.T) {
	n := newNode(t, newRegistry())
	n.apply(onDevices("192.0.2.1", "203.0.113.1"), nodeWith("node1", ip("192.0.2.1")))
	assert.Empty(t, n.log, "before the first lists are complete")
	n.apply(cluster.Synced{})
	host := datapath.Endpoint{Identity: identity.Host, Host: true}
	for _, a := range []string{"192.0.2.1", "203.0.113.1"} {
		assert.Equal(t, host, n.rows[engine.Endpoints][ip(a)], a)
		assert.Equal(t, identity.Host, n.identityOf(a), a)
	}
	n.log = nil
	n.apply(onDevices("192.0.2.1", "203.0.113.2"))
	n.judgedAnew("203.0.113.1")
	n.judgedAnew("203.0.113.2")
	assert.Nil(t, n.rows[engine.Endpoints][ip("203.0.113.1")])
	assert.Equal(t, identity.WorldIPv4, n.identityOf("203.0.113.1"))
	n.log = nil
	n.apply(onDevices("203.0.113.2", "192.0.2.1"), nodeWith("node1", ip("192.0.2.1")))
	assert.Empty(t, n.log, "nothing is new")
	n.apply(onDevices())
	assert.Equal(t, host, n.rows[engine.Endpoints][ip("192.0.2.1")], "the cluster says that it is the node's")
}

// An API server at an address of a device is on this node.
func TestAPIServerOnADevice(t *testing.T) {
	n := withServer(t)
	n.apply(apiServers("a", "203.0.113.1"))
	toAPI := func() string { // what the node is for a rule that lets pods out to API servers alone
		p := allowFrom(t, "out", policy.Peer{Entity: policy.EntityKubeAPIServer})
		p.Specs[0].IsolateIngress, p.Specs[0].IsolateEgress = false, true
		p.Specs[0].Rules[0].Ref.Direction = datapath.Egress
		n.apply(cluster.PolicyUpsert{Policy: p})
		return n.verdict(1, datapath.Egress, identity.Host, datapath.ProtoTCP, 80)
	}
	require.True(t, n.identityOf("203.0.113.1").IsLocal())
	require.Equal(t, "denied", toAPI())
	n.apply(onDevices("203.0.113.1"))
	require.Equal(t, identity.Host, n.identityOf("203.0.113.1"))
	assert.Equal(t, "allowed", toAPI())
	n.apply(onDevices())
	require.True(t, n.identityOf("203.0.113.1").IsLocal())
	assert.Equal(t, "denied", toAPI())
}

// Whatever comes in whatever order, an address is a pod's, a node's or a device's, in this order.
func TestWhoseAnAddressIs(t *testing.T) {
	var all []netip.Addr
	for i := range 4 {
		all = append(all, ip(fmt.Sprintf("192.0.2.%d", i+1)))
	}
	rapid.Check(t, func(t *rapid.T) {
		subset := func(of []netip.Addr) (out []netip.Addr) {
			for _, a := range of {
				if rapid.Bool().Draw(t, a.String()) {
					out = append(out, a)
				}
			}
			return out
		}
		n := newNode(nil, newRegistry())
		n.apply(nodeWith("node1", ip("192.0.2.100")), pod("web", "web", "node1"))
		live := false
		var onDevice, ofSelf, ofOther, remote []netip.Addr
		local, name := netip.Addr{}, ""
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				onDevice = subset(all)
				n.apply(engine.DeviceAddresses{Addresses: onDevice})
			case 2: // two nodes have no address in common
				ofSelf = subset(all[:2])
				n.apply(nodeWith("node1", append([]netip.Addr{ip("192.0.2.100")}, ofSelf...)...))
			case 3:
				if ofOther = subset(all[2:]); len(ofOther) == 0 {
					n.apply(cluster.NodeDelete{Name: "node2"})
				} else {
					n.apply(nodeWith("node2", ofOther...))
				}
			case 4:
				if local.IsValid() {
					n.apply(engine.Detach{ID: 1})
					local = netip.Addr{}
				} else {
					local = rapid.SampledFrom(all).Draw(t, "pod")
					name = rapid.SampledFrom([]string{"web", "unknown"}).Draw(t, "name")
					n.apply(engine.Attach{Pod: cluster.Name{Namespace: "shop", Name: name}, ID: 1, Ifindex: 5, IPs: []netip.Addr{local}})
				}
			case 5:
				name := cluster.Name{Namespace: "shop", Name: "remote"}
				if remote = subset(all); len(remote) == 0 {
					n.apply(cluster.EndpointDelete{Name: name})
				} else {
					n.apply(cluster.EndpointUpsert{Endpoint: cluster.Endpoint{Name: name, Identity: 4000, IPs: remote, Node: "node3"}})
				}
			case 6:
				n.apply(cluster.Synced{})
				live = true
			}
			if !live {
				continue
			}
			for _, a := range all {
				row, _ := n.rows[engine.Endpoints][a].(datapath.Endpoint)
				own := slices.Contains(ofSelf, a) || !slices.Contains(ofOther, a) && !slices.Contains(remote, a) && slices.Contains(onDevice, a)
				switch {
				case a == local && name == "unknown": // no row is its own yet
					require.Zero(t, row.ID)
				case a == local:
					require.EqualValues(t, 1, row.ID, "%s is a pod's", a)
				case own:
					require.Equal(t, datapath.Endpoint{Identity: identity.Host, Host: true}, row, "%s is the node's", a)
					require.Equal(t, identity.Host, n.identityOf(a.String()), "%s", a)
				default:
					require.Zero(t, row, "%s is not here", a)
					require.NotEqual(t, identity.Host, n.identityOf(a.String()), "%s", a)
				}
			}
		}
	})
}
