package nftables_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	gnft "github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/needs"
	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/adapters/nftables"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func inNetns(t *testing.T, ns string, f func(c *gnft.Conn) error) {
	t.Helper()
	require.NoError(t, netns.Do(netns.Path(ns), func() error {
		c, err := gnft.New()
		if err != nil {
			return err
		}
		if err := f(c); err != nil {
			return err
		}
		return c.Flush()
	}))
}

func TestContract(t *testing.T) {
	netnstest.Require(t)
	porttest.Masquerade(t, func(t *testing.T) porttest.MasqueradeRig {
		ns := netnstest.New(t)
		return porttest.MasqueradeRig{
			Masquerade: nftables.New(nftables.Config{Netns: netns.Path(ns)}),
			Disturb:    func() { inNetns(t, ns, func(c *gnft.Conn) error { c.FlushRuleset(); return nil }) },
		}
	})
}

var rules = ports.MasqueradeRules{
	Sources: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")},
	Inside:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.200.2.0/24"), netip.MustParsePrefix("fd01::/32"), netip.MustParsePrefix("fd02:2::/64")},
}

// Whatever somebody changes in the table, it is not taken for ours any more, and is restored.
func TestChangesOfOthersAreUndone(t *testing.T) {
	netnstest.Require(t)
	table := &gnft.Table{Name: nftables.TableName, Family: gnft.TableFamilyINet}
	chain := &gnft.Chain{Name: "postrouting", Table: table}
	for name, disturb := range map[string]func(*gnft.Conn) error{
		"chain flushed":   func(c *gnft.Conn) error { c.FlushChain(chain); return nil },
		"chain deleted":   func(c *gnft.Conn) error { c.FlushChain(chain); c.DelChain(chain); return nil },
		"set flushed":     func(c *gnft.Conn) error { c.FlushSet(&gnft.Set{Table: table, Name: "inside4"}); return nil },
		"table deleted":   func(c *gnft.Conn) error { c.DelTable(table); return nil },
		"rule of another": func(c *gnft.Conn) error { c.AddRule(&gnft.Rule{Table: table, Chain: chain}); return nil },
		"rule deleted": func(c *gnft.Conn) error {
			rs, err := c.GetRules(table, chain)
			if err != nil {
				return err
			}
			return c.DelRule(rs[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := netnstest.New(t)
			m := nftables.New(nftables.Config{Netns: netns.Path(ns)})
			require.NoError(t, m.SyncMasquerade(rules))
			inNetns(t, ns, disturb)
			got, err := m.Masqueraded()
			require.NoError(t, err)
			assert.False(t, got.Equal(rules))
			require.NoError(t, m.SyncMasquerade(rules))
			got, err = m.Masqueraded()
			require.NoError(t, err)
			assert.Equal(t, rules.Normal(), got)
		})
	}
}

// Tables of others are left alone, and nothing of ours is named as kube-proxy names its own: who restores
// the rules without those keeps ours.
func TestOthersAndNames(t *testing.T) {
	netnstest.Require(t)
	if _, err := exec.LookPath("nft"); err != nil {
		needs.Missing(t, "nft", "cannot list rules as an administrator does: "+err.Error())
	}
	ns := netnstest.New(t)
	inNetns(t, ns, func(c *gnft.Conn) error {
		c.AddTable(&gnft.Table{Name: "theirs", Family: gnft.TableFamilyINet})
		return nil
	})
	m := nftables.New(nftables.Config{Netns: netns.Path(ns)})
	require.NoError(t, m.SyncMasquerade(rules))
	out, err := exec.Command("ip", "netns", "exec", ns, "nft", "list", "ruleset").CombinedOutput()
	require.NoError(t, err, "nft: %s", out)
	assert.NotContains(t, strings.ToUpper(string(out)), "KUBE")
	assert.Contains(t, string(out), "table inet theirs")
	assert.Contains(t, string(out), `oifname != "lxc*" oifname != "cilium_*" ip saddr @pods4 ip daddr != @inside4 masquerade comment "weir masquerade"`)
	require.NoError(t, m.SyncMasquerade(ports.MasqueradeRules{}))
	inNetns(t, ns, func(c *gnft.Conn) error {
		ts, err := c.ListTables()
		require.Len(t, ts, 1)
		assert.Equal(t, "theirs", ts[0].Name)
		return err
	})
}

// lan is a pod on a node, and hosts outside on two of the node's devices.
func lan(t *testing.T) (node, pod, wan, lan string) {
	node, pod, wan, lan = netnstest.New(t), netnstest.New(t), netnstest.New(t), netnstest.New(t)
	script := fmt.Sprintf(`set -e
N="ip -n %[1]s"; P="ip -n %[2]s"; W="ip -n %[3]s"; L="ip -n %[4]s"
$N link add lxcpod type veth peer name eth0 netns %[2]s
$N link add wan0 type veth peer name eth0 netns %[3]s
$N link add lan0 type veth peer name eth0 netns %[4]s
for d in lxcpod wan0 lan0; do $N link set $d up; done
for c in "$P" "$W" "$L"; do $c link set eth0 up; $c link set lo up; done
$N addr add 10.1.0.1/24 dev lxcpod; $N addr add fd01::1/64 dev lxcpod nodad
$P addr add 10.1.0.2/24 dev eth0; $P addr add fd01::2/64 dev eth0 nodad
$P route add default via 10.1.0.1; $P route add default via fd01::1
$N addr add 10.200.1.1/24 dev wan0; $N addr add fd02:1::1/64 dev wan0 nodad
$W addr add 10.200.1.2/24 dev eth0; $W addr add fd02:1::2/64 dev eth0 nodad
$N addr add 10.200.2.1/24 dev lan0; $N addr add fd02:2::1/64 dev lan0 nodad
$L addr add 10.200.2.2/24 dev eth0; $L addr add fd02:2::2/64 dev eth0 nodad
$L route add 10.1.0.0/24 via 10.200.2.1; $L route add fd01::/64 via fd02:2::1
`, node, pod, wan, lan)
	out, err := exec.Command("bash", "-c", script).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, netns.Do(netns.Path(node), func() error {
		for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	}))
	return node, pod, wan, lan
}

func TestTraffic(t *testing.T) {
	netnstest.Require(t)
	node, pod, wan, lan := lan(t)
	netnstest.Serve(t, wan)
	netnstest.Serve(t, lan)
	m := nftables.New(nftables.Config{Netns: netns.Path(node)})
	require.NoError(t, m.SyncMasquerade(rules))
	for _, network := range []string{"tcp", "udp"} {
		assert.Equal(t, "10.200.1.1", seen(t, pod, network, "10.200.1.2"), "outside, "+network)
		assert.Equal(t, "fd02:1::1", seen(t, pod, network, "fd02:1::2"), "outside, "+network)
		assert.Equal(t, "10.1.0.2", seen(t, pod, network, "10.200.2.2"), "inside, "+network)
		assert.Equal(t, "fd01::2", seen(t, pod, network, "fd02:2::2"), "inside, "+network)
	}
	assert.NoError(t, netnstest.Ping(pod, "ip4:icmp", "10.200.1.2", 8, 0))
	assert.NoError(t, netnstest.Ping(pod, "ip6:ipv6-icmp", "fd02:1::2", 128, 129))
	// Only by the other device: outside is not reached any more, as it does not know the way back.
	limited := rules
	limited.Inside, limited.Devices = nil, []string{"lan+"}
	require.NoError(t, m.SyncMasquerade(limited))
	assert.Equal(t, "10.200.2.1", seen(t, pod, "tcp", "10.200.2.2"))
	assert.Equal(t, "fd02:2::1", seen(t, pod, "tcp", "fd02:2::2"))
	assert.Error(t, netns.Do(netns.Path(pod), func() error {
		c, err := net.DialTimeout("tcp", "10.200.1.2:7", 300*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	}))
}

func seen(t *testing.T, ns, network, address string) string {
	t.Helper()
	as, err := netnstest.SeenAs(ns, network, address)
	require.NoError(t, err)
	return as
}
