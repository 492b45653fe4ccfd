package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// IPAM modes.
const (
	IPAMKubernetes  = "kubernetes"
	IPAMClusterPool = "cluster-pool"
	IPAMDelegated   = "delegated-plugin"
)

// Settings is a configuration as the agent uses it.
type Settings struct {
	Debug       bool
	ClusterName string

	RunDir   string // sockets and the state of endpoints
	BPFFS    string // directory for programs and tables
	Cgroup   string // cgroup v2 directory whose sockets get service load balancing
	SocketLB bool   // Cgroup is used at all
	// AllowRootCgroup lets Cgroup be the root of the hierarchy: every socket of the machine.
	AllowRootCgroup bool

	Kubeconfig      string
	APIServer       string // overrides the kubeconfig's; "" is the kubeconfig's or the pod's
	QPS             float32
	Burst           int
	EndpointSlices  bool
	IPAM            string
	Routers         []netip.Addr // of pods, with IPAMDelegated
	IPv4, IPv6      bool
	Native          bool // routing without a tunnel
	DirectRoutes    bool
	TunnelPort      uint16
	MTU             int // of pods, in bytes; 0 is found out
	Masquerade      Masquerade
	NodePorts       NodePorts
	FlowBuffer      int
	FlowTableRows   uint32
	PolicyTableRows uint32
	HealthPort      uint16 // 0 is none
	CNI             CNI

	CleanState, CleanBPFState bool
}

// Masquerade says which pods' traffic leaves with the node's address.
type Masquerade struct {
	IPv4, IPv6 bool
	// NativeCIDRs are destinations that see the pods' own addresses.
	NativeCIDRs []netip.Prefix
	// Devices limits it to these; none is all that are not ours.
	Devices []string
}

// NodePorts says what of services is served to the network, and of pods at their node.
type NodePorts struct {
	Replacement bool // of kube-proxy, as a whole
	Enabled     bool // node ports, and services' addresses from outside
	HostPorts   bool
	Topology    bool // backends are chosen by the hints of EndpointSlices
	// Devices are those that lead to the network; a + at the end stands for the rest of a name. None: found out.
	Devices     []string
	First, Last uint16 // range of node ports
	Protect     bool   // the range is not for connections of the node's own
	Health      bool   // load balancers are told which nodes have backends
	// Healthz is where the node's health is told in kube-proxy's place; the zero value: nowhere.
	Healthz netip.AddrPort
}

// CNI says what the agent installs for container runtimes.
type CNI struct {
	Binary    string // the plugin in the agent's image
	BinDir    string // where the plugin goes; "" installs none
	ConfDir   string // where the network configuration goes; "" installs none
	Exclusive bool   // configurations of others are put aside
	Uninstall bool   // taken away when the agent stops
	LogFile   string
	Chaining  string // "none" or "portmap"
	ReadConf  string // a configuration to install instead of ours; "" is ours
}

// Parse turns a configuration into settings. The error joins everything that is refused; keys that
// nobody knows are no error (see Check).
func Parse(values map[string]string) (Settings, error) {
	var errs []error
	for _, f := range Check(values) {
		if f.Severity == Refusal {
			errs = append(errs, errors.New(f.Message))
		}
	}
	if len(errs) > 0 {
		return Settings{}, errors.Join(errs...)
	}
	v := reader{values}
	s := Settings{
		Debug:           v.yes("debug"),
		ClusterName:     v.text("cluster-name"),
		RunDir:          v.first("run-dir", "state-dir"),
		BPFFS:           v.text("bpffs"),
		Cgroup:          v.first("cgroup", "cgroup-root"),
		SocketLB:        v.yes("kube-proxy-replacement") || v.yes("bpf-lb-sock"),
		AllowRootCgroup: v.yes("allow-root-cgroup"),
		Kubeconfig:      v.text("k8s-kubeconfig-path"),
		APIServer:       v.first("k8s-api-server", "k8s-api-server-urls"),
		QPS:             float32(v.float("k8s-client-qps")),
		Burst:           int(v.int("k8s-client-burst")),
		EndpointSlices:  v.yes("enable-cilium-endpoint-slice"),
		IPAM:            v.text("ipam"),
		IPv4:            v.yes("enable-ipv4"),
		IPv6:            v.yes("enable-ipv6"),
		Native:          v.text("routing-mode") == "native",
		DirectRoutes:    v.yes("auto-direct-node-routes"),
		TunnelPort:      uint16(v.int("tunnel-port")),
		MTU:             int(v.int("mtu")),
		FlowBuffer:      int(v.int("hubble-event-buffer-capacity")),
		FlowTableRows:   uint32(v.int("flow-table-size")),
		PolicyTableRows: uint32(v.int("policy-table-size")),
		HealthPort:      uint16(v.int("agent-health-port")),
		CleanState:      v.yes("clean-cilium-state"),
		CleanBPFState:   v.yes("clean-cilium-bpf-state"),
		Masquerade: Masquerade{
			IPv4: v.yes("enable-ipv4-masquerade"), IPv6: v.yes("enable-ipv6-masquerade"),
			Devices: v.list("egress-masquerade-interfaces"),
		},
		NodePorts: NodePorts{
			Replacement: v.yes("kube-proxy-replacement"),
			Enabled:     v.yes("kube-proxy-replacement") || v.yes("enable-node-port"),
			HostPorts:   (v.yes("kube-proxy-replacement") || v.yes("enable-host-port")) && v.text("cni-chaining-mode") != "portmap",
			Topology:    v.yes("enable-service-topology"),
			Devices:     v.list("devices"), First: 30000, Last: 32767,
			Protect: v.yes("enable-auto-protect-node-port-range"), Health: v.yes("enable-health-check-nodeport"),
		},
		CNI: CNI{
			Binary: v.text("cni-binary"), BinDir: v.text("cni-bin-dir"), ConfDir: v.text("cni-conf-dir"),
			Exclusive: v.yes("cni-exclusive"), Uninstall: v.yes("cni-uninstall"), LogFile: v.text("cni-log-file"),
			Chaining: v.text("cni-chaining-mode"), ReadConf: v.text("read-cni-conf"),
		},
	}
	errs = s.NodePorts.read(v)
	if s.BPFFS == "" {
		s.BPFFS = path.Join(v.text("bpf-root"), "weir")
	}
	if b := v.text("flow-buffer"); b != "" {
		s.FlowBuffer = int(v.int("flow-buffer"))
	}
	if v.yes("custom-cni-conf") {
		s.CNI.ConfDir = ""
	} else if s.CNI.ConfDir == "" {
		if f := v.text("write-cni-conf-when-ready"); f != "" {
			s.CNI.ConfDir = path.Dir(f)
		}
	}
	for _, k := range []string{"ipv4-native-routing-cidr", "ipv6-native-routing-cidr"} {
		if p := v.text(k); p != "" {
			n := netip.MustParsePrefix(p).Masked()
			if n.Addr().Is4() != (k[3] == '4') {
				errs = append(errs, fmt.Errorf("%s: %q is of the other family", k, p))
			}
			s.Masquerade.NativeCIDRs = append(s.Masquerade.NativeCIDRs, n)
		}
	}
	for _, k := range []string{"local-router-ipv4", "local-router-ipv6"} {
		if r := v.text(k); r != "" {
			a := netip.MustParseAddr(r)
			if a.Is4() != (k[len(k)-1] == '4') {
				errs = append(errs, fmt.Errorf("%s: %q is of the other family", k, r))
			}
			s.Routers = append(s.Routers, a)
		}
	}
	return s, errors.Join(append(errs, s.agree(v)...)...)
}

// agree finds what does not go together.
func (s Settings) agree(v reader) (errs []error) {
	if s.DirectRoutes && !s.Native {
		errs = append(errs, errors.New("auto-direct-node-routes: needs routing-mode native"))
	}
	if s.IPAM == IPAMDelegated {
		if len(s.Routers) == 0 {
			errs = append(errs, errors.New("ipam: delegated-plugin needs local-router-ipv4 or local-router-ipv6: the pods' gateway"))
		}
		if !s.Native {
			errs = append(errs, errors.New("ipam: delegated-plugin needs routing-mode native: who gives the addresses has to route them"))
		}
		if s.CNI.ConfDir != "" && s.CNI.ReadConf == "" {
			errs = append(errs, errors.New("ipam: delegated-plugin needs read-cni-conf, a network configuration in which the plugin weir-cni has an ipam section; or custom-cni-conf: true, when somebody else installs one"))
		}
	}
	if s.MTU != 0 && s.MTU < 1280 {
		errs = append(errs, fmt.Errorf("mtu: %d is too small; allowed: 1280 (what IPv6 needs) to 65535, or 0", s.MTU))
	}
	if !s.IPv4 && !s.IPv6 {
		errs = append(errs, errors.New("enable-ipv4, enable-ipv6: at least one must be true"))
	}
	if n := s.ClusterName; !clusterName(n) {
		errs = append(errs, fmt.Errorf("cluster-name: %q; allowed: 1 to 32 lower case letters, digits and dashes, a letter or digit first and last", n))
	}
	return errs
}

func clusterName(n string) bool {
	ok := n != "" && len(n) <= 32 && n[0] != '-' && n[len(n)-1] != '-'
	for _, r := range n {
		ok = ok && (r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	}
	return ok
}

// reader reads values that were checked.
type reader struct{ values map[string]string }

func (r reader) text(name string) string {
	k, ok := Lookup(name)
	if !ok {
		panic("config: no such key: " + name)
	}
	return k.effective(r.values)
}

// first is the first of several keys that says something.
func (r reader) first(names ...string) string {
	for _, n := range names {
		if v := r.text(n); v != "" {
			return v
		}
	}
	return ""
}

func (r reader) yes(name string) bool { return r.text(name) == "true" }

func (r reader) int(name string) int64 {
	n, _ := strconv.ParseInt(r.text(name), 10, 64)
	return n
}

func (r reader) float(name string) float64 {
	f, _ := strconv.ParseFloat(r.text(name), 64)
	return f
}

func (r reader) list(name string) []string {
	return strings.FieldsFunc(r.text(name), func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' })
}
