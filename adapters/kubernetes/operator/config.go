package operator

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/weirnet/weir/core/ipam"
)

// Where pods' addresses come from.
const (
	// IPAMClusterPool says that the operator divides the cluster's pod CIDRs among the nodes.
	IPAMClusterPool = "cluster-pool"
	// IPAMKubernetes says that a node's pod CIDRs are those of its Node.
	IPAMKubernetes = "kubernetes"
	// IPAMDelegated says that another CNI plugin gives addresses to pods.
	IPAMDelegated = "delegated-plugin"
)

// Config is what the operator takes from the cilium-config ConfigMap and its flags. A duration of zero
// switches a periodic duty off.
type Config struct {
	Debug bool

	Kubeconfig, Server string // both empty: the service account of the pod
	QPS                float32
	Burst              int
	ServeAddr          string // of /healthz
	MetricsAddr        string // of /metrics; empty: none are served

	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	SkipCRDs bool

	IPAM         string
	PodV4, PodV6 ipam.ClusterRange // of cluster-pool, for the families that are enabled

	IdentityGC, IdentityTimeout time.Duration
	EndpointGC, NodeGC          time.Duration

	// UnmanagedPods is the time between searches for pods of UnmanagedSelector that are older than the network.
	UnmanagedPods     time.Duration
	UnmanagedSelector string

	EndpointSlices bool
	SliceSize      int

	Namespace   string // of the agents' pods and the Lease
	AgentLabels string // selector of the agents' pods
	TaintKey    string
	RemoveTaint bool // from nodes whose agent is ready
	SetTaint    bool // on nodes whose agent is there and not ready
	SetNetwork  bool // condition NetworkUnavailable=False on nodes whose agent is ready
}

// Setting is a key of the configuration; the command has a flag of the same name.
type Setting struct {
	Key, Default, Help string
	set                func(*draft, string) error
}

// draft is a Config of which some parts are still to be put together.
type draft struct {
	Config
	v4, v6         bool
	v4CIDR, v6CIDR []netip.Prefix
	v4Mask, v6Mask int
	metrics        bool
}

// Settings lists every key that the operator reads, in the order of the help.
func Settings() []Setting {
	return []Setting{
		{"debug", "false", "log more", boolean(func(d *draft) *bool { return &d.Debug })},
		{"k8s-kubeconfig-path", "", "kubeconfig file (empty: the pod's service account)", text(func(d *draft) *string { return &d.Kubeconfig })},
		{"k8s-api-server", "", "URL of the API server (empty: what the kubeconfig or the environment says)", text(func(d *draft) *string { return &d.Server })},
		{"operator-k8s-client-qps", "100", "requests to the API server a second", rate(func(d *draft) *float32 { return &d.QPS })},
		{"operator-k8s-client-burst", "200", "requests to the API server at once", number(1, 10000, func(d *draft, n int) { d.Burst = n })},
		{"operator-api-serve-addr", ":9234", "address on which /healthz is served", text(func(d *draft) *string { return &d.ServeAddr })},
		{"enable-metrics", "true", "serve metrics", boolean(func(d *draft) *bool { return &d.metrics })},
		{"operator-prometheus-serve-addr", ":9963", "address on which /metrics is served", text(func(d *draft) *string { return &d.MetricsAddr })},
		{"leader-election-lease-duration", "15s", "time after which another replica takes over from one that is silent", duration(time.Second, func(d *draft) *time.Duration { return &d.LeaseDuration })},
		{"leader-election-renew-deadline", "10s", "time after which a leader that cannot renew its lease stops", duration(time.Second, func(d *draft) *time.Duration { return &d.RenewDeadline })},
		{"leader-election-retry-period", "2s", "time between looks at the lease", duration(100*time.Millisecond, func(d *draft) *time.Duration { return &d.RetryPeriod })},
		{"skip-crd-creation", "false", "do not install the custom resource definitions", boolean(func(d *draft) *bool { return &d.SkipCRDs })},
		{"ipam", IPAMClusterPool, "where pods' addresses come from: cluster-pool, kubernetes or delegated-plugin", setIPAM},
		{"enable-ipv4", "true", "pods have IPv4 addresses", boolean(func(d *draft) *bool { return &d.v4 })},
		{"enable-ipv6", "false", "pods have IPv6 addresses", boolean(func(d *draft) *bool { return &d.v6 })},
		{"cluster-pool-ipv4-cidr", "10.0.0.0/8", "IPv4 CIDRs that nodes' pod CIDRs are taken from", cidrs(func(d *draft) *[]netip.Prefix { return &d.v4CIDR })},
		{"cluster-pool-ipv4-mask-size", "24", "length of a node's IPv4 pod CIDR", number(1, 30, func(d *draft, n int) { d.v4Mask = n })},
		{"cluster-pool-ipv6-cidr", "fd00::/104", "IPv6 CIDRs that nodes' pod CIDRs are taken from", cidrs(func(d *draft) *[]netip.Prefix { return &d.v6CIDR })},
		{"cluster-pool-ipv6-mask-size", "120", "length of a node's IPv6 pod CIDR", number(1, 126, func(d *draft, n int) { d.v6Mask = n })},
		{"identity-gc-interval", "15m", "time between searches for identities that nothing uses (0: never)", duration(0, func(d *draft) *time.Duration { return &d.IdentityGC })},
		{"identity-heartbeat-timeout", "30m", "time that an identity has to be unused before it goes", duration(time.Second, func(d *draft) *time.Duration { return &d.IdentityTimeout })},
		{"cilium-endpoint-gc-interval", "5m", "time between searches for endpoints without a pod (0: never)", duration(0, func(d *draft) *time.Duration { return &d.EndpointGC })},
		{"nodes-gc-interval", "5m", "time between searches for CiliumNodes without a Node, and time that one is kept (0: for ever)", duration(0, func(d *draft) *time.Duration { return &d.NodeGC })},
		{"unmanaged-pod-watcher-interval", "15s", "time between searches for pods that started before the network and have to be made anew (0: never); a number alone is seconds", setUnmanaged},
		{"pod-restart-selector", "k8s-app=kube-dns", "label selector of pods that are made anew when they started before the network", setSelector},
		{"enable-cilium-endpoint-slice", "false", "publish endpoints in slices too", boolean(func(d *draft) *bool { return &d.EndpointSlices })},
		{"ces-max-ciliumendpoints-per-ces", "100", "endpoints in a slice", number(1, 1000, func(d *draft, n int) { d.SliceSize = n })},
		{"cilium-pod-namespace", cmp.Or(os.Getenv("CILIUM_K8S_NAMESPACE"), "kube-system"), "namespace of the agents' pods and of the lease", text(func(d *draft) *string { return &d.Namespace })},
		{"cilium-pod-labels", "k8s-app=cilium", "label selector of the agents' pods", text(func(d *draft) *string { return &d.AgentLabels })},
		{"agent-not-ready-taint-key", "node.cilium.io/agent-not-ready", "key of the taint of nodes whose agent is not ready", text(func(d *draft) *string { return &d.TaintKey })},
		{"remove-cilium-node-taints", "true", "remove the taint once the agent is ready", boolean(func(d *draft) *bool { return &d.RemoveTaint })},
		{"set-cilium-node-taints", "true", "put the taint on a node whose agent is there and not ready", boolean(func(d *draft) *bool { return &d.SetTaint })},
		{"set-cilium-is-up-condition", "true", "set the condition NetworkUnavailable=False once the agent is ready", boolean(func(d *draft) *bool { return &d.SetNetwork })},
	}
}

// NewConfig makes a Config of values by key; keys that are missing have their default, and those of
// others (the agents share the ConfigMap) are not looked at. The error names every key whose value is not
// allowed.
func NewConfig(values map[string]string) (Config, error) {
	var d draft
	var errs []error
	for _, s := range Settings() {
		v, ok := values[s.Key]
		if !ok {
			v = s.Default
		}
		if err := s.set(&d, strings.TrimSpace(v)); err != nil {
			errs = append(errs, fmt.Errorf("configuration: %s %q: %w", s.Key, v, err))
		}
	}
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
	}
	return d.finish()
}

func (d *draft) finish() (Config, error) {
	if !d.metrics {
		d.MetricsAddr = ""
	}
	if !d.v4 && !d.v6 {
		return Config{}, errors.New("configuration: enable-ipv4 and enable-ipv6 are both false: pods need one of them")
	}
	if d.v4 {
		d.PodV4 = ipam.ClusterRange{CIDRs: d.v4CIDR, MaskSize: d.v4Mask}
	}
	if d.v6 {
		d.PodV6 = ipam.ClusterRange{CIDRs: d.v6CIDR, MaskSize: d.v6Mask}
	}
	if d.IPAM == IPAMClusterPool {
		if d.v4 && len(d.v4CIDR) == 0 {
			return Config{}, errors.New("configuration: cluster-pool-ipv4-cidr is empty: with enable-ipv4 and ipam cluster-pool it names the pods' range")
		}
		if d.v6 && len(d.v6CIDR) == 0 {
			return Config{}, errors.New("configuration: cluster-pool-ipv6-cidr is empty: with enable-ipv6 and ipam cluster-pool it names the pods' range")
		}
		if _, err := ipam.NewClusterPool(d.PodV4, d.PodV6, 0); err != nil {
			return Config{}, fmt.Errorf("configuration: cluster-pool-ipv4-*, cluster-pool-ipv6-*: %w", err)
		}
	}
	if d.RenewDeadline >= d.LeaseDuration || d.RetryPeriod*2 > d.RenewDeadline {
		return Config{}, fmt.Errorf("configuration: leader-election-*: lease duration %s, renew deadline %s, retry period %s: each must be shorter than the one before, the last at most half of it",
			d.LeaseDuration, d.RenewDeadline, d.RetryPeriod)
	}
	return d.Config, nil
}

// ReadConfigDir reads a mounted ConfigMap: one file a key.
func ReadConfigDir(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	values := map[string]string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // the kubelet's own links
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if info, serr := os.Stat(filepath.Join(dir, e.Name())); serr == nil && info.IsDir() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		values[e.Name()] = string(b)
	}
	return values, nil
}

func boolean(field func(*draft) *bool) func(*draft, string) error {
	return func(d *draft, s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		*field(d) = b
		return nil
	}
}

func text(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, s string) error {
		*field(d) = s
		return nil
	}
}

func number(low, high int, set func(*draft, int)) func(*draft, string) error {
	return func(d *draft, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("want a whole number from %d to %d", low, high)
		}
		set(d, n)
		return nil
	}
}

func rate(field func(*draft) *float32) func(*draft, string) error {
	return func(d *draft, s string) error {
		n, err := strconv.ParseFloat(s, 32)
		if err != nil || !(n > 0 && n <= 10000) {
			return errors.New("want a number above 0, at most 10000")
		}
		*field(d) = float32(n)
		return nil
	}
}

func duration(low time.Duration, field func(*draft) *time.Duration) func(*draft, string) error {
	return func(d *draft, s string) error {
		v, err := time.ParseDuration(s)
		if err != nil || v < low {
			return fmt.Errorf("want a duration such as 30s or 5m, at least %s", low)
		}
		*field(d) = v
		return nil
	}
}

// cidrs reads prefixes that spaces or commas separate.
func cidrs(field func(*draft) *[]netip.Prefix) func(*draft, string) error {
	return func(d *draft, s string) error {
		for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\t' }) {
			p, err := netip.ParsePrefix(w)
			if err != nil {
				return fmt.Errorf("%q is no CIDR", w)
			}
			*field(d) = append(*field(d), p.Masked())
		}
		return nil
	}
}

// setUnmanaged reads a duration; old configurations have a number of seconds.
func setUnmanaged(d *draft, s string) error {
	if _, err := strconv.ParseUint(s, 10, 31); err == nil {
		s += "s"
	}
	return duration(0, func(d *draft) *time.Duration { return &d.UnmanagedPods })(d, s)
}

func setSelector(d *draft, s string) error {
	if _, err := labels.Parse(s); err != nil {
		return fmt.Errorf("want a label selector such as k8s-app=kube-dns: %w", err)
	}
	d.UnmanagedSelector = s
	return nil
}

func setIPAM(d *draft, s string) error {
	allowed := []string{IPAMClusterPool, IPAMKubernetes, IPAMDelegated}
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
	}
	d.IPAM = s
	return nil
}
