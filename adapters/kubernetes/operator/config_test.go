package operator

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfigDefaults(t *testing.T) {
	t.Setenv("CILIUM_K8S_NAMESPACE", "")
	c, err := NewConfig(nil)
	require.NoError(t, err)
	require.Equal(t, IPAMClusterPool, c.IPAM)
	require.Equal(t, "[10.0.0.0/8]/24", text4(c))
	require.Empty(t, c.PodV6.CIDRs, "IPv6 is off")
	require.Equal(t, 15*time.Minute, c.IdentityGC)
	require.Equal(t, 30*time.Minute, c.IdentityTimeout)
	require.Equal(t, 5*time.Minute, c.EndpointGC)
	require.Equal(t, 5*time.Minute, c.NodeGC)
	require.Equal(t, "kube-system", c.Namespace)
	require.Equal(t, "k8s-app=cilium", c.AgentLabels)
	require.True(t, c.RemoveTaint && c.SetTaint && c.SetNetwork)
	require.False(t, c.EndpointSlices)
	require.Equal(t, 15*time.Second, c.LeaseDuration)
	require.Equal(t, ":9234", c.ServeAddr)
	t.Setenv("CILIUM_K8S_NAMESPACE", "network")
	c, err = NewConfig(nil)
	require.NoError(t, err)
	require.Equal(t, "network", c.Namespace)
}

func text4(c Config) string {
	s := "["
	for _, p := range c.PodV4.CIDRs {
		s += p.String()
	}
	return s + "]/" + map[int]string{24: "24", 26: "26"}[c.PodV4.MaskSize]
}

func TestConfigOfAConfigMap(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "..2026_01_01")
	require.NoError(t, os.Mkdir(data, 0o700))
	for key, value := range map[string]string{
		"enable-ipv6": "true", "cluster-pool-ipv4-cidr": "10.1.0.0/16 10.2.0.0/16", "cluster-pool-ipv4-mask-size": "26", "identity-gc-interval": "15m0s",
		"cluster-pool-ipv6-cidr": "fd00:1::/104,fd00:2::/104\n", "bpf-map-dynamic-size-ratio": "0.0025", "operator-k8s-client-qps": "12.5",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(data, key), []byte(value), 0o600))
		require.NoError(t, os.Symlink(filepath.Join(data, key), filepath.Join(dir, key)))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	values, err := ReadConfigDir(dir)
	require.NoError(t, err)
	require.Len(t, values, 7)
	c, err := NewConfig(values)
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")}, c.PodV4.CIDRs)
	require.Equal(t, 26, c.PodV4.MaskSize)
	require.Len(t, c.PodV6.CIDRs, 2)
	require.EqualValues(t, 12.5, c.QPS)
}

func TestConfigRefusals(t *testing.T) {
	for _, c := range []struct {
		values map[string]string
		says   string
	}{
		{map[string]string{"ipam": "eni"}, `ipam "eni": want one of cluster-pool, kubernetes, delegated-plugin`},
		{map[string]string{"enable-ipv4": "false"}, "enable-ipv4 and enable-ipv6 are both false"},
		{map[string]string{"enable-ipv4": "yes please"}, `enable-ipv4 "yes please": want true or false`},
		{map[string]string{"cluster-pool-ipv4-cidr": "10.0.0.0"}, `"10.0.0.0" is no CIDR`},
		{map[string]string{"cluster-pool-ipv4-cidr": ""}, "cluster-pool-ipv4-cidr is empty"},
		{map[string]string{"cluster-pool-ipv6-cidr": " ", "enable-ipv6": "true"}, "cluster-pool-ipv6-cidr is empty"},
		{map[string]string{"cluster-pool-ipv4-cidr": "fd00::/104"}, "not of this family"},
		{map[string]string{"cluster-pool-ipv4-cidr": "10.0.0.0/16 10.0.1.0/24"}, "overlaps"},
		{map[string]string{"cluster-pool-ipv4-mask-size": "31"}, "want a whole number from 1 to 30"},
		{map[string]string{"cluster-pool-ipv4-mask-size": "7"}, "mask size 7: shorter"},
		{map[string]string{"identity-gc-interval": "15"}, "want a duration"},
		{map[string]string{"identity-heartbeat-timeout": "0s"}, "at least 1s"},
		{map[string]string{"leader-election-renew-deadline": "15s"}, "leader-election-*"},
		{map[string]string{"leader-election-retry-period": "6s"}, "leader-election-*"},
		{map[string]string{"operator-k8s-client-qps": "0"}, "want a number above 0"},
		{map[string]string{"ipam": "x", "debug": "y"}, `debug "y"`},
	} {
		_, err := NewConfig(c.values)
		require.ErrorContains(t, err, c.says, "%v", c.values)
	}
	_, err := ReadConfigDir("/does/not/exist")
	require.ErrorContains(t, err, "read configuration")
}
