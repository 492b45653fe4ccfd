package config_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/config"
)

func TestNodePortsFollowKubeProxyReplacement(t *testing.T) {
	parse := func(values map[string]string) config.NodePorts {
		s, err := config.Parse(values)
		require.NoError(t, err)
		return s.NodePorts
	}
	usual := config.NodePorts{Devices: []string{}, First: 30000, Last: 32767, Protect: true, Health: true}
	assert.Equal(t, usual, parse(nil), "kube-proxy has them")
	all := usual
	all.Replacement, all.Enabled, all.HostPorts = true, true, true
	assert.Equal(t, all, parse(map[string]string{"kube-proxy-replacement": "true"}))
	all.HostPorts = false
	assert.Equal(t, all, parse(map[string]string{"kube-proxy-replacement": "true", "cni-chaining-mode": "portmap"}), "one plugin is enough")
	assert.True(t, parse(map[string]string{"enable-node-port": "true"}).Enabled)
	assert.True(t, parse(map[string]string{"enable-service-topology": "true"}).Topology)
	one := parse(map[string]string{"enable-host-port": "true", "devices": "eth0, wan+", "node-port-range": "20000-20100",
		"enable-auto-protect-node-port-range": "false", "enable-health-check-nodeport": "false",
		"kube-proxy-replacement-healthz-bind-address": "0.0.0.0:10256"})
	assert.Equal(t, config.NodePorts{HostPorts: true, Devices: []string{"eth0", "wan+"}, First: 20000, Last: 20100,
		Healthz: netip.MustParseAddrPort("0.0.0.0:10256")}, one)
	assert.Equal(t, uint16(32000), parse(map[string]string{"node-port-range": "30000,32000"}).Last)
}

func TestNodePortValues(t *testing.T) {
	for key, values := range map[string][]string{
		"node-port-range": {"30000", "32767,30000", "0,5", "1,70000", "a-b", "1,2,3"},
		"devices":         {"a-device-of-some-length", "eth/0"},
		"kube-proxy-replacement-healthz-bind-address": {"10256", "0.0.0.0", "host:10256", "0.0.0.0:0"},
	} {
		for _, v := range values {
			_, err := config.Parse(map[string]string{key: v})
			assert.ErrorContains(t, err, key+": ", v)
		}
	}
	fs := config.Check(map[string]string{"nodeport-addresses": "10.0.0.0/8"})
	require.Len(t, fs, 1)
	assert.Equal(t, config.Warning, fs[0].Severity, "who asks for it must not believe to have it")
}
