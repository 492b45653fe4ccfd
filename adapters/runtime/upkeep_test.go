package runtime_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/fakes/clock"
	fakecluster "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/masquerade"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/fakes/servicehealth"
	"github.com/weirnet/weir/ports"
)

// clusterEnd is the cluster as an agent writes to it.
type clusterEnd struct{ labels []labels.Set }

func (*clusterEnd) PublishNode(context.Context, cluster.Node) error         { return nil }
func (*clusterEnd) PublishEndpoint(context.Context, cluster.Endpoint) error { return nil }
func (*clusterEnd) WithdrawEndpoint(context.Context, cluster.Name, string) error {
	return nil
}
func (c *clusterEnd) Allocate(_ context.Context, ls labels.Set) (identity.ID, error) {
	c.labels = append(c.labels, ls)
	return identity.ID(1000 + len(c.labels)), nil
}
func (*clusterEnd) Collect(context.Context, time.Duration) ([]identity.ID, error) { return nil, nil }
func (*clusterEnd) Watch(context.Context, func(cluster.Event)) error              { return nil }
func (*clusterEnd) Findings() []cluster.Finding                                   { return nil }

// upkeep is an agent that is driven by hand.
type upkeep struct {
	*runtime.Stepper
	t      *testing.T
	clock  *clock.Clock
	net    *network.Network
	kernel *kernel.Kernel
	masq   *masquerade.Masquerade
	end    *clusterEnd
	health *servicehealth.ServiceHealth
}

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func newUpkeep(t *testing.T, cfg runtime.Config) *upkeep {
	t.Helper()
	u := &upkeep{t: t, clock: clock.New(time.Unix(1_700_000_000, 0)), net: network.New(), masq: masquerade.New(), health: servicehealth.New(), end: &clusterEnd{}}
	cfg.Node, cfg.MTU = "n1", 1450
	k := kernel.New(kernel.Options{})
	u.kernel = k
	store := fakecluster.New()
	u.Stepper = runtime.NewStepper(cfg, runtime.Deps{
		Source: u.end, Publisher: u.end, Identities: u.end, Attachments: store.Node("n1").NewAttachments(), Network: u.net, Masquerade: u.masq, ServiceHealth: u.health,
		OpenDatapath: func(ports.OverlayLinks) (ports.Datapath, error) { return k, nil },
		Clock:        u.clock, Log: slog.New(slog.DiscardHandler),
	})
	return u
}

func (u *upkeep) feed(evs ...cluster.Event) {
	u.t.Helper()
	for _, ev := range evs {
		require.NoError(u.t, u.Feed(context.Background(), ev))
		u.Settle()
		u.CarryOut(context.Background())
		u.Settle()
	}
}

// pass lets time go by, second by second, as the loop lives through it.
func (u *upkeep) pass(d time.Duration) {
	for end := u.clock.Now().Add(d); u.clock.Now().Before(end); {
		u.clock.Advance(time.Second)
		u.Housekeep()
		u.Settle()
	}
}

func nodeEvent(name, addr string, podCIDRs ...string) cluster.NodeUpsert {
	return cluster.NodeUpsert{Node: cluster.Node{Name: name, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, PodCIDRs: prefixes(podCIDRs...)}}
}

func podEvent(name string) cluster.PodUpsert {
	return cluster.PodUpsert{Pod: cluster.Pod{Name: cluster.Name{Namespace: "shop", Name: name}, Node: "n1"}}
}

// attach does what the plugin does.
func (u *upkeep) attach(container, pod string) ports.Reservation {
	u.t.Helper()
	u.net.AddNetns("/run/netns/" + container)
	res, err := u.Reserve(ports.ReserveRequest{ContainerID: container, Interface: "eth0", Netns: "/run/netns/" + container,
		Pod: cluster.Name{Namespace: "shop", Name: pod}})
	require.NoError(u.t, err)
	st, err := u.net.CreatePodLink(ports.PodLink{Netns: "/run/netns/" + container, Interface: "eth0", HostName: res.HostDevice,
		MTU: res.MTU, Addresses: res.Addresses, Gateways: res.Gateways})
	require.NoError(u.t, err)
	require.NoError(u.t, u.Activate(container, "eth0", st))
	u.Settle()
	u.CarryOut(context.Background())
	u.Settle()
	return res
}

func (u *upkeep) containers() (out []string) {
	for _, e := range u.Endpoints() {
		out = append(out, e.ContainerID)
	}
	return out
}

func TestLeakedEndpointsAreReleased(t *testing.T) {
	u := newUpkeep(t, runtime.Config{LeakGrace: 5 * time.Minute})
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop"}},
		podEvent("lives"), podEvent("unplugged"), podEvent("deleted"), podEvent("back"), cluster.Synced{})
	u.attach("c-lives", "lives")
	unplugged := u.attach("c-unplugged", "unplugged")
	deleted := u.attach("c-deleted", "deleted")
	u.attach("c-back", "back")
	_, err := u.Reserve(ports.ReserveRequest{ContainerID: "c-never", Interface: "eth0", Pod: cluster.Name{Namespace: "shop", Name: "lives"}})
	require.NoError(t, err)
	u.pass(6 * time.Minute)
	require.Len(t, u.containers(), 5, "nobody is leaked")

	require.NoError(t, u.net.DeletePodLink(unplugged.HostDevice))
	u.feed(cluster.PodDelete{Name: cluster.Name{Namespace: "shop", Name: "deleted"}}, cluster.PodDelete{Name: cluster.Name{Namespace: "shop", Name: "back"}})
	u.pass(4 * time.Minute)
	require.Len(t, u.containers(), 5, "not yet")
	u.feed(podEvent("back"))
	u.pass(2 * time.Minute)
	assert.ElementsMatch(t, []string{"c-lives", "c-back", "c-never"}, u.containers())
	_, _, ok := u.net.Pod(deleted.HostDevice)
	assert.False(t, ok, "the link goes before the address")
	u.pass(10 * time.Minute)
	assert.ElementsMatch(t, []string{"c-lives", "c-back"}, u.containers(), "a reservation without link lasts longer")
	links, err := u.net.PodLinks()
	require.NoError(t, err)
	assert.Len(t, links, 2)
}

func TestNobodyIsLeakedWhileALinkStaysOrTheListIsUnknown(t *testing.T) {
	u := newUpkeep(t, runtime.Config{LeakGrace: time.Minute})
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop"}}, podEvent("a"))
	u.attach("c", "a")
	u.feed(cluster.PodDelete{Name: cluster.Name{Namespace: "shop", Name: "a"}})
	u.pass(10 * time.Minute)
	assert.Len(t, u.containers(), 1, "the lists are not complete")
	u.net.Fail(func(op, _ string) error {
		if op == "DeletePodLink" {
			return errors.New("busy")
		}
		return nil
	})
	u.feed(cluster.Synced{})
	u.pass(10 * time.Minute)
	assert.Len(t, u.containers(), 1, "its link stays, and so does its address")
	u.net.Fail(nil)
	u.pass(2 * time.Minute)
	assert.Empty(t, u.containers())

	off := newUpkeep(t, runtime.Config{})
	off.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop"}}, podEvent("a"), cluster.Synced{})
	off.attach("c", "a")
	off.feed(cluster.PodDelete{Name: cluster.Name{Namespace: "shop", Name: "a"}})
	off.pass(time.Hour)
	assert.Len(t, off.containers(), 1, "nobody asked for it")
}

func TestMasqueradingFollowsTheCluster(t *testing.T) {
	u := newUpkeep(t, runtime.Config{Masquerade: config.Masquerade{IPv4: true, NativeCIDRs: prefixes("192.0.2.0/24"), Devices: []string{"eth0"}}})
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24", "fd01::/64"), nodeEvent("n2", "192.0.2.2", "10.1.1.0/24"))
	assert.Zero(t, u.masq.Syncs(), "not before the cluster is known: what others made may be right")
	u.feed(cluster.Synced{})
	u.pass(time.Second)
	have := func(sources, inside []string) {
		t.Helper()
		got, err := u.masq.Masqueraded()
		require.NoError(t, err)
		assert.Equal(t, ports.MasqueradeRules{Sources: prefixes(sources...), Inside: prefixes(inside...), Devices: []string{"eth0"}}.Normal(), got)
	}
	have([]string{"10.1.0.0/24"}, []string{"10.1.0.0/23", "192.0.2.0/24", "fd01::/64"})
	s, err := u.Status()
	require.NoError(t, err)
	assert.Equal(t, "nftables [IPv4: Enabled, IPv6: Disabled]", s.Masquerade)

	u.feed(nodeEvent("n3", "192.0.2.3", "10.7.0.0/24"))
	u.pass(2 * time.Second)
	have([]string{"10.1.0.0/24"}, []string{"10.1.0.0/23", "10.7.0.0/24", "192.0.2.0/24", "fd01::/64"})
	u.feed(cluster.NodeDelete{Name: "n2"})
	u.pass(2 * time.Second)
	have([]string{"10.1.0.0/24"}, []string{"10.1.0.0/24", "10.7.0.0/24", "192.0.2.0/24", "fd01::/64"})

	u.masq.Flush()
	u.pass(5 * time.Second)
	have([]string{"10.1.0.0/24"}, []string{"10.1.0.0/24", "10.7.0.0/24", "192.0.2.0/24", "fd01::/64"})

	u.masq.Fail(func() error { return errors.New("masquerade: no nftables here") })
	u.pass(5 * time.Second)
	s, err = u.Status()
	require.NoError(t, err)
	assert.Equal(t, []string{"masquerade: no nftables here"}, s.Problems)
	u.masq.Fail(nil)
	u.pass(5 * time.Second)
	s, err = u.Status()
	require.NoError(t, err)
	assert.Empty(t, s.Problems)
}

// While it waits the agent says for what, and who has to see to it.
func TestWhatTheAgentWaitsFor(t *testing.T) {
	for mode, says := range map[string]string{
		config.IPAMKubernetes:  "waiting for podCIDR: node n1 has none in spec.podCIDRs; kube-controller-manager assigns it",
		config.IPAMClusterPool: "waiting for podCIDR: the CiliumNode n1 has none in spec.ipam.podCIDRs; weir-operator assigns it",
	} {
		u := newUpkeep(t, runtime.Config{IPAM: mode, NoIPv6: true, Notes: func() ([]string, []string) { return []string{"API server: away"}, []string{"beware"} }})
		_, err := u.Reserve(ports.ReserveRequest{ContainerID: "c", Interface: "eth0"})
		assert.ErrorContains(t, err, "there is no node n1")
		u.feed(cluster.NodeUpsert{Node: cluster.Node{Name: "n1"}})
		_, err = u.Reserve(ports.ReserveRequest{ContainerID: "c", Interface: "eth0"})
		assert.ErrorContains(t, err, "node n1 has no address in its status")
		u.feed(nodeEvent("n1", "192.0.2.1", "fd01::/64"))
		s, err := u.Status()
		require.NoError(t, err)
		require.Len(t, s.Problems, 2)
		assert.Equal(t, "API server: away", s.Problems[0])
		assert.Contains(t, s.Problems[1], says)
		assert.Equal(t, []string{"beware"}, s.Warnings)
		u.feed(nodeEvent("n1", "192.0.2.1", "fd01::/64", "10.1.0.0/24"))
		res, err := u.Reserve(ports.ReserveRequest{ContainerID: "c", Interface: "eth0"})
		require.NoError(t, err)
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("10.1.0.2")}, res.Addresses, "the other family is not wanted")
	}
}

func TestClusterNameIsALabel(t *testing.T) {
	u := newUpkeep(t, runtime.Config{Cluster: "blue"})
	u.feed(nodeEvent("n1", "192.0.2.1", "10.1.0.0/24"), cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop"}}, podEvent("a"), cluster.Synced{})
	u.attach("c", "a")
	require.Len(t, u.end.labels, 1)
	assert.Contains(t, u.end.labels[0].Strings(), "k8s:io.cilium.k8s.policy.cluster=blue")
}

// With delegated addresses a node needs no ranges; each address is taken as it is given, once.
func TestDelegatedAddresses(t *testing.T) {
	u := newUpkeep(t, runtime.Config{
		IPAM: config.IPAMDelegated, Routers: []netip.Addr{netip.MustParseAddr("169.254.23.1")}, Masquerade: config.Masquerade{IPv4: true}, LeakGrace: time.Minute,
	})
	u.feed(nodeEvent("n1", "192.0.2.1"), cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: "shop"}}, podEvent("a"), cluster.Synced{})
	ask := func(container string, ips ...string) (ports.Reservation, error) {
		r := ports.ReserveRequest{ContainerID: container, Interface: "eth0", Pod: cluster.Name{Namespace: "shop", Name: "a"}}
		for _, ip := range ips {
			r.IPs = append(r.IPs, netip.MustParseAddr(ip))
		}
		return u.Reserve(r)
	}
	_, err := ask("a")
	assert.ErrorContains(t, err, "needs an ipam section")
	res, err := ask("a", "203.0.113.7")
	require.NoError(t, err)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("203.0.113.7")}, res.Addresses)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("169.254.23.1")}, res.Gateways)
	again, err := ask("a", "203.0.113.7")
	require.NoError(t, err)
	assert.Equal(t, res, again)
	for _, wrong := range []string{"203.0.113.7", "169.254.23.1"} {
		_, err = ask("b", wrong)
		assert.ErrorIs(t, err, ports.ErrConflict, wrong)
	}
	_, err = ask("b", "fd00::7")
	assert.ErrorContains(t, err, "no local router of its family")
	u.pass(5 * time.Second)
	got, err := u.masq.Masqueraded()
	require.NoError(t, err)
	assert.Equal(t, prefixes("203.0.113.7/32"), got.Sources)
	require.NoError(t, u.Release("a", "eth0"))
	_, err = ask("b", "203.0.113.7")
	require.NoError(t, err)
}
