package config_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/config"
)

func TestTableIsSound(t *testing.T) {
	ks := config.Keys()
	require.Greater(t, len(ks), 350)
	for i, k := range ks {
		if i > 0 {
			assert.Less(t, ks[i-1].Name, k.Name, "sorted, each once")
		}
		assert.NoError(t, k.Check(k.Default), "the default of %s", k.Name)
		assert.NotEmpty(t, k.Means, k.Name)
		assert.NotEmpty(t, k.Values(), k.Name)
		assert.LessOrEqual(t, k.Min, k.Max, k.Name)
		if k.Kind == config.Enum {
			assert.NotEmpty(t, k.Allowed, k.Name)
		}
		assert.False(t, k.Restart && k.Effect != config.Obeyed, k.Name)
		got, ok := config.Lookup(k.Name)
		assert.True(t, ok)
		assert.Equal(t, k, got)
	}
	_, ok := config.Lookup("zzz")
	assert.False(t, ok)
	ks[0].Name = "changed"
	assert.NotEqual(t, "changed", config.Keys()[0].Name, "the table cannot be changed")
}

// What an ordinary installation of Cilium's chart writes is taken without complaint.
var usual = map[string]string{
	"agent-not-ready-taint-key": "node.cilium.io/agent-not-ready", "arping-refresh-period": "30s", "auto-direct-node-routes": "false",
	"bpf-distributed-lru": "false", "bpf-events-drop-enabled": "true", "bpf-events-policy-verdict-enabled": "true", "bpf-events-trace-enabled": "true",
	"bpf-lb-acceleration": "disabled", "bpf-lb-algorithm-annotation": "false", "bpf-lb-external-clusterip": "false", "bpf-lb-map-max": "65536",
	"bpf-lb-mode-annotation": "false", "bpf-lb-sock": "false", "bpf-lb-source-range-all-types": "false", "bpf-map-dynamic-size-ratio": "0.0025",
	"bpf-policy-map-max": "16384", "bpf-root": "/sys/fs/bpf", "cgroup-root": "/run/cilium/cgroupv2", "cilium-endpoint-gc-interval": "5m0s",
	"cluster-id": "0", "cluster-name": "default", "cluster-pool-ipv4-cidr": "10.0.0.0/8", "cluster-pool-ipv4-mask-size": "24",
	"clustermesh-enable-endpoint-sync": "false", "clustermesh-enable-mcs-api": "false", "cni-exclusive": "true", "cni-log-file": "/var/run/cilium/cilium-cni.log",
	"controller-group-metrics": "write-cni-file sync-host-ips", "custom-cni-conf": "false", "datapath-mode": "veth", "debug": "false", "debug-verbose": "",
	"default-lb-service-ipam": "lbipam", "direct-routing-skip-unreachable": "false", "dnsproxy-enable-transparent-mode": "true",
	"egress-gateway-reconciliation-trigger-interval": "1s", "enable-auto-protect-node-port-range": "true", "enable-bpf-clock-probe": "false",
	"enable-endpoint-health-checking": "true", "enable-health-check-nodeport": "true", "enable-health-checking": "true", "enable-hubble": "true",
	"enable-ipv4": "true", "enable-ipv4-big-tcp": "false", "enable-ipv4-masquerade": "true", "enable-ipv6": "false", "enable-ipv6-masquerade": "true",
	"enable-k8s-networkpolicy": "true", "enable-k8s-terminating-endpoint": "true", "enable-l2-neigh-discovery": "true", "enable-l7-proxy": "true",
	"enable-lb-ipam": "true", "enable-local-redirect-policy": "false", "enable-metrics": "true", "enable-node-port": "false", "enable-policy": "default",
	"enable-policy-secrets-sync": "true", "enable-runtime-device-detection": "true", "enable-sctp": "false", "enable-source-ip-verification": "true",
	"enable-svc-source-range-check": "true", "enable-tcx": "true", "enable-vtep": "false", "enable-well-known-identities": "false",
	"enable-xt-socket-fallback": "true", "envoy-access-log-buffer-size": "4096", "external-envoy-proxy": "true", "hubble-disable-tls": "false",
	"hubble-listen-address": ":4244", "hubble-socket-path": "/var/run/cilium/hubble.sock", "identity-allocation-mode": "crd", "identity-gc-interval": "15m0s",
	"identity-heartbeat-timeout": "30m0s", "install-no-conntrack-iptables-rules": "false", "ipam": "cluster-pool", "ipam-cilium-node-update-rate": "15s",
	"k8s-client-burst": "20", "k8s-client-qps": "10", "k8s-require-ipv4-pod-cidr": "false", "k8s-require-ipv6-pod-cidr": "false", "kube-proxy-replacement": "false",
	"max-connected-clusters": "255", "mesh-auth-enabled": "true", "monitor-aggregation": "medium", "monitor-aggregation-flags": "all",
	"monitor-aggregation-interval": "5s", "nat-map-stats-entries": "32", "node-port-bind-protection": "true", "nodeport-addresses": "", "nodes-gc-interval": "5m0s",
	"operator-api-serve-addr": "127.0.0.1:9234", "policy-cidr-match-mode": "", "preallocate-bpf-maps": "false", "procfs": "/host/proc",
	"proxy-connect-timeout": "2", "proxy-idle-timeout-seconds": "60", "remove-cilium-node-taints": "true", "routing-mode": "tunnel",
	"service-no-backend-response": "reject", "set-cilium-is-up-condition": "true", "set-cilium-node-taints": "true", "synchronize-k8s-nodes": "true",
	"tofqdns-min-ttl": "0", "tunnel-protocol": "vxlan", "unmanaged-pod-watcher-interval": "15", "write-cni-conf-when-ready": "/host/etc/cni/net.d/05-cilium.conflist",
	"vtep-cidr": "", "identity-management-mode": "agent", "enable-ipv6-big-tcp": "false", "tunnel-source-port-range": "0-0", "kube-proxy-replacement-healthz-bind-address": "",
}

func TestUsualInstallation(t *testing.T) {
	for _, f := range config.Check(usual) {
		assert.Equal(t, config.Note, f.Severity, f.Message)
	}
	s, err := config.Parse(usual)
	require.NoError(t, err)
	assert.Equal(t, "/host/etc/cni/net.d", s.CNI.ConfDir)
	assert.Equal(t, "/sys/fs/bpf/weir", s.BPFFS)
	assert.Equal(t, config.IPAMClusterPool, s.IPAM)
	assert.True(t, s.IPv4 && !s.IPv6 && s.Masquerade.IPv4 && s.CNI.Exclusive)
	assert.False(t, s.SocketLB || s.Native)
	assert.EqualValues(t, 9879, s.HealthPort)
	assert.EqualValues(t, 10, s.QPS)
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		key, value string
		severity   config.Severity
		says       []string
	}{
		{"routing-mode", "direct", config.Refusal, []string{`routing-mode: "direct"`, "tunnel, native"}},
		{"mtu", "70000", config.Refusal, []string{`mtu: "70000"`, "0 to 65535"}},
		{"mtu", "-1", config.Refusal, []string{"0 to 65535"}},
		{"debug", "yes", config.Refusal, []string{`debug: "yes"`, "true, false"}},
		{"enable-wireguard", "true", config.Warning, []string{`enable-wireguard: "true" has no effect`, "not encrypted", "encrypt the nodes' network"}},
		{"enable-policy", "never", config.Refusal, []string{`enable-policy: "never" is refused`, "allowed: default"}},
		{"tunnel-protocol", "geneve", config.Refusal, []string{`"geneve" is refused`, "allowed: vxlan"}},
		{"kvstore", "etcd", config.Refusal, []string{"allowed: empty"}},
		{"policy-audit-mode", "1", config.Warning, []string{"policy is enforced"}},
		{"state-dir", "run", config.Refusal, []string{"an absolute path"}},
		{"identity-gc-interval", "soon", config.Refusal, []string{"a duration such as"}},
		{"ipv4-native-routing-cidr", "10.0.0.0", config.Refusal, []string{"an IP prefix such as"}},
		{"k8s-client-qps", "many", config.Refusal, []string{"0 to 10000"}},
		{"enable-bandwidth-manager", "true", config.Warning, []string{"has no effect", "not limited by this version"}},
		{"bpf-policy-map-max", "999", config.Note, []string{"has no effect", "use policy-table-size"}},
		{"enable-ipv4-masqerade", "true", config.Warning, []string{"unknown key", "is enable-ipv4-masquerade meant?"}},
		{"completely-else", "x", config.Warning, []string{`completely-else: unknown key (value "x") has no effect`}},
	} {
		fs := config.Check(map[string]string{c.key: c.value})
		require.Len(t, fs, 1, c.key)
		assert.Equal(t, c.severity, fs[0].Severity, fs[0].Message)
		for _, says := range c.says {
			assert.Contains(t, fs[0].Message, says)
		}
		_, err := config.Parse(map[string]string{c.key: c.value})
		assert.Equal(t, c.severity == config.Refusal, err != nil, "%v", err)
	}
	assert.Empty(t, config.Check(map[string]string{"debug": "1", "enable-wireguard": "False", "mtu": "", "bpf-policy-map-max": " 16384 ",
		"enable-k8s": "True", "disable-endpoint-crd": "0"}), "other spellings of what is true anyway, too")
}

func TestWhatDoesNotGoTogether(t *testing.T) {
	for says, values := range map[string]map[string]string{
		"needs routing-mode native": {"auto-direct-node-routes": "true"},
		"1000 is too small":         {"mtu": "1000"},
		"at least one must be true": {"enable-ipv4": "false", "enable-ipv6": "false"},
		`cluster-name: "A"`:         {"cluster-name": "A"},
		"of the other family":       {"ipv6-native-routing-cidr": "10.0.0.0/8"},
	} {
		_, err := config.Parse(values)
		assert.ErrorContains(t, err, says)
	}
	_, err := config.Parse(map[string]string{"cluster-name": "-x", "mtu": "7", "debug": "?"})
	assert.ErrorContains(t, err, "debug")
}

func TestOwnNamesCountBeforeCiliums(t *testing.T) {
	s, err := config.Parse(map[string]string{"run-dir": "/a", "state-dir": "/b", "bpffs": "/c", "bpf-root": "/d", "flow-buffer": "7",
		"hubble-event-buffer-capacity": "8", "cgroup": "/e", "cni-conf-dir": "/f", "write-cni-conf-when-ready": "/g/h",
		"egress-masquerade-interfaces": "eth0, wan+", "ipv4-native-routing-cidr": "10.1.2.3/8"})
	require.NoError(t, err)
	assert.Equal(t, []any{"/a", "/c", 7, "/e", "/f"}, []any{s.RunDir, s.BPFFS, s.FlowBuffer, s.Cgroup, s.CNI.ConfDir})
	assert.Equal(t, []string{"eth0", "wan+"}, s.Masquerade.Devices)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, s.Masquerade.NativeCIDRs)
	s, err = config.Parse(map[string]string{"custom-cni-conf": "true", "cni-conf-dir": "/f"})
	require.NoError(t, err)
	assert.Empty(t, s.CNI.ConfDir)
}

func TestCompare(t *testing.T) {
	was := map[string]string{"debug": "false", "mtu": "1400", "bpf-policy-map-max": "1", "x": "1"}
	is := map[string]string{"debug": "true", "bpf-policy-map-max": "2", "identity-gc-interval": "1m", "enable-ipv4": "TRUE", "x": "2"}
	assert.Equal(t, []config.Change{
		{Key: "bpf-policy-map-max", Was: "1", Is: "2"},
		{Key: "debug", Was: "false", Is: "true", Applies: true},
		{Key: "identity-gc-interval", Was: "15m0s", Is: "1m"},
		{Key: "mtu", Was: "1400", Is: "0", Applies: true, Restart: true},
	}, config.Compare(was, is))
	assert.Empty(t, config.Compare(is, is))
}

// Whatever the values are: nothing panics, and what Check refuses Parse refuses.
func FuzzParse(f *testing.F) {
	f.Add("mtu", "1500", "routing-mode", "native")
	f.Add("ipv4-native-routing-cidr", "10.0.0.0/8", "egress-masquerade-interfaces", "a,,b c")
	f.Add("cluster-name", "\xff", "k8s-client-qps", "NaN")
	f.Add("unmanaged", "", "agent-health-port", "1e3")
	for k, v := range usual {
		f.Add(k, v, "state-dir", "/x")
	}
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		values := map[string]string{k1: v1, k2: v2}
		refused := false
		for _, finding := range config.Check(values) {
			refused = refused || finding.Severity == config.Refusal
			if !strings.HasPrefix(finding.Message, finding.Key+": ") {
				t.Fatalf("%q does not name %q", finding.Message, finding.Key)
			}
		}
		s, err := config.Parse(values)
		if refused && err == nil {
			t.Fatalf("%q is refused and parsed", values)
		}
		if err == nil && (!strings.HasPrefix(s.RunDir, "/") || !strings.HasPrefix(s.BPFFS, "/") || s.QPS < 0 || s.QPS > 10000) {
			t.Fatalf("%q gives %+v", values, s)
		}
		if c := config.Compare(values, values); len(c) > 0 {
			t.Fatalf("%q differs from itself: %v", values, c)
		}
	})
}

func TestDelegatedAddressesNeedMore(t *testing.T) {
	values := map[string]string{"ipam": "delegated-plugin", "cni-conf-dir": "/x"}
	_, err := config.Parse(values)
	for _, says := range []string{"needs local-router-ipv4", "needs routing-mode native", "needs read-cni-conf"} {
		assert.ErrorContains(t, err, says)
	}
	values["local-router-ipv4"], values["routing-mode"], values["read-cni-conf"] = "169.254.23.1", "native", "/y"
	s, err := config.Parse(values)
	require.NoError(t, err)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("169.254.23.1")}, s.Routers)
	values["local-router-ipv4"] = "fd00::1"
	_, err = config.Parse(values)
	assert.ErrorContains(t, err, "other family")
}
