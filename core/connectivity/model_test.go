package connectivity

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/matrix"
	"github.com/weirnet/weir/core/policy"
)

// bed is a made-up cluster of two nodes, as the model and as the policy engine see it.
type bed struct {
	world  World
	events []cluster.Event
}

func addrsOf(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func newBed(t *testing.T, nodes int) bed {
	t.Helper()
	const ns = DefaultNamespace
	b := bed{world: World{
		Namespace: ns,
		Outside:   []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443"), netip.MustParseAddrPort("[2001:db8::1]:443")},
		Other:     []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:0"), netip.MustParseAddrPort("[2001:db8::2]:0")},
		NodePorts: true, HostPorts: true, Connections: true,
		APIServers: addrsOf("192.0.2.77"), FromOutside: addrsOf("192.0.2.200", "2001:db8::200"),
	}}
	b.apiServers(netip.MustParseAddrPort("192.0.2.77:6443"))
	names := []string{"n1", "n2"}[:nodes]
	for i, n := range names {
		addrs := addrsOf(fmt.Sprintf("172.18.0.%d", i+1), fmt.Sprintf("fc00::%d", i+1))
		b.world.Nodes = append(b.world.Nodes, Node{Name: n, Addresses: addrs})
		b.events = append(b.events, cluster.NodeUpsert{Node: cluster.Node{Name: n, Addresses: addrs}})
	}
	for _, space := range append(Namespaces(ns), "kube-system") {
		b.events = append(b.events, cluster.NamespaceUpsert{Namespace: cluster.Namespace{Name: space, Labels: map[string]string{"kubernetes.io/metadata.name": space}}})
	}
	l := Layout{Namespace: ns, Image: "weir:test", Node: "n1"}
	if nodes > 1 {
		l.OtherNode = "n2"
	}
	host := 0
	addPod := func(name cluster.Name, role, node string, labels map[string]string, ports []policy.NamedPort) {
		host++
		p := Pod{Name: name, Role: role, Node: node, Ready: true, IPs: addrsOf(fmt.Sprintf("10.0.0.%d", host), fmt.Sprintf("fd00::%d", host))}
		c := cluster.Pod{Name: name, Labels: labels, ServiceAccount: role, Node: node, Ports: ports, Ready: true}
		if role == RoleHostNetns {
			p.HostNetwork, c.HostNetwork = true, true
			p.IPs = b.world.Nodes[slices.Index(names, node)].Addresses
		}
		c.IPs = p.IPs
		b.events = append(b.events, cluster.PodUpsert{Pod: c})
		if name.Namespace != "kube-system" {
			b.world.Pods = append(b.world.Pods, p)
		}
	}
	named := []policy.NamedPort{
		{Name: portNameHTTP, Proto: datapath.ProtoTCP, Port: PortHTTP}, {Name: "http-8081", Proto: datapath.ProtoTCP, Port: PortAlternative},
		{Name: "http-8082", Proto: datapath.ProtoTCP, Port: PortBeyond}, {Name: "udp-8080", Proto: datapath.ProtoUDP, Port: PortHTTP},
	}
	for _, role := range l.Deployments() {
		node := "n1"
		if role == RoleClient3 || role == RoleEchoOtherNode {
			node = "n2"
		}
		addPod(cluster.Name{Namespace: l.NamespaceOf(role), Name: role + "-x"}, role, node, podLabels(role), named)
	}
	for _, n := range names {
		addPod(cluster.Name{Namespace: ns, Name: "host-netns-" + n}, RoleHostNetns, n, podLabels(RoleHostNetns), nil)
	}
	addPod(cluster.Name{Namespace: "kube-system", Name: "coredns"}, "coredns", "n1", map[string]string{"k8s-app": "kube-dns"}, nil)
	for i, s := range []cluster.Name{
		{Namespace: ns, Name: RoleEchoSameNode}, {Namespace: ns, Name: RoleEchoOtherNode}, {Namespace: "default", Name: "kubernetes"},
		{Namespace: ns, Name: ExternalIPService}, {Namespace: ns, Name: LoadBalancerService},
	} {
		b.world.Services = append(b.world.Services, Service{
			Name: s, Type: "NodePort", ClusterIPs: addrsOf(fmt.Sprintf("10.96.0.%d", i+1), fmt.Sprintf("fd96::%d", i+1)),
			ExternalIPs: addrsOf(externalIPs...), Ingress: addrsOf(loadBalancerIPs...),
			Ports: []ServicePort{{Name: portNameHTTP, Port: 8080, NodePort: uint16(30000 + i)}, {Name: portNameUDP, Port: 8080, NodePort: uint16(30100 + i)}},
		})
	}
	slices.SortFunc(b.world.Pods, func(x, y Pod) int { return strings.Compare(x.Name.Name, y.Name.Name) })
	return b
}

// apiServers makes these what the service default/kubernetes leads to.
func (b *bed) apiServers(list ...netip.AddrPort) {
	slice := lb.Slice{Service: cluster.APIServerService, Name: "kubernetes"}
	b.world.APIServers = nil
	for _, o := range list {
		b.world.APIServers = append(b.world.APIServers, o.Addr())
		slice.Backends = append(slice.Backends, lb.Backend{Addr: o.Addr(), Port: o.Port()})
	}
	b.events = append(b.events, cluster.BackendsUpsert{Slice: slice})
}

// decode reads the objects of documents and fails on any finding, warnings included.
func decode(t *testing.T, docs ...Document) (out []manifest.Object) {
	t.Helper()
	for _, d := range docs {
		for _, part := range manifest.SplitYAML(d.Content) {
			doc, err := yaml.YAMLToJSONStrict(part)
			require.NoError(t, err, d.Name)
			o, findings := manifest.Decode(d.Name, doc)
			require.Empty(t, findings, d.Name)
			out = append(out, o)
		}
	}
	return out
}

// Every expectation is held against the rules as their documentation says: the verdict, and which side it
// is that drops.
func TestExpectationsAreThoseOfThePolicies(t *testing.T) {
	for _, nodes := range []int{1, 2, -2} { // negative: what is outside is the API server
		b := newBed(t, max(nodes, -nodes))
		if nodes < 0 {
			b.apiServers(b.world.Outside...)
		}
		steps, err := Plan(b.world, Filter{})
		require.NoError(t, err)
		require.Len(t, steps, len(Tests()))
		for _, s := range steps {
			require.Empty(t, s.Skip, s.Test.Name)
			if s.Test.Check != "" {
				continue
			}
			require.NotEmpty(t, s.Actions, s.Test.Name)
			w := matrix.New(b.events)
			assembler := manifest.NewAssembler()
			for _, o := range decode(t, s.Policies...) {
				for _, e := range assembler.Put(o) {
					w.Apply(e)
				}
			}
			seen := map[Verdict]bool{}
			for _, a := range s.Actions {
				seen[a.Expect] = true
				for _, row := range b.rows(t, w, a) {
					got := Allowed
					switch {
					case !row.Egress.Allowed:
						got = DropEgress
					case !row.Ingress.Allowed:
						got = DropIngress
					}
					assert.Equal(t, a.Expect, got, "%s %s/%s: %s: egress: %s, ingress: %s", s.Test.Name, a.Scenario, a.Name, a, row.Egress, row.Ingress)
				}
			}
			if len(s.Policies) > 0 && nodes > 1 && s.Test.Name != "all-entities-deny" && s.Test.Name != "client-egress-to-cidr-deny-default" {
				assert.Len(t, seen, 2, "%s: a policy that lets everything pass or nothing proves little", s.Test.Name)
			}
		}
	}
}

// rows asks the policy engine about an action: about each pod that it may lead to.
func (b bed) rows(t *testing.T, w *matrix.World, a Action) (out []matrix.Row) {
	proto := map[Kind]uint8{HTTP: datapath.ProtoTCP, TCP: datapath.ProtoTCP, UDP: datapath.ProtoUDP, DNS: datapath.ProtoUDP, ICMP: datapath.ProtoICMP}[a.Probe.Kind]
	var to []string
	switch {
	case a.ToRole == RoleDNS:
		to = []string{"kube-system/coredns"}
	case a.ToRole == RoleAPIServer:
		to = []string{b.world.APIServers[0].String()} // behind the service
	case a.Answerers != nil:
		for _, p := range b.world.Pods {
			if slices.Contains(a.Answerers, p.Name.Name) {
				to = append(to, p.Name.String())
			}
		}
	default:
		to = []string{a.Probe.Addr.String()}
	}
	if a.Probe.Name != "" && a.Probe.Kind != DNS && !b.asks(t, w, a).Egress.Allowed {
		return []matrix.Row{b.asks(t, w, a)} // without the name there is no connection
	}
	from := a.From.String()
	if a.From == FromOutside {
		addr, _ := pick(b.world.FromOutside, a.Probe.Addr.Is6())
		from = addr.String()
	}
	for _, end := range to {
		row, err := w.Judge(from, end, proto, a.Port)
		require.NoError(t, err)
		out = append(out, row)
	}
	return out
}

// asks is the question to the DNS server that a name takes.
func (b bed) asks(t *testing.T, w *matrix.World, a Action) matrix.Row {
	row, err := w.Judge(a.From.String(), "kube-system/coredns", datapath.ProtoUDP, 53)
	require.NoError(t, err)
	return row
}

func TestPoliciesAreDecodedWithoutFindings(t *testing.T) {
	b := newBed(t, 2)
	used := map[string]bool{}
	for _, test := range Tests() {
		docs, skip, err := test.documents(b.world)
		require.NoError(t, err)
		require.Empty(t, skip)
		for i, d := range docs {
			used[test.Policies[i]] = true
			refs, err := PolicyRefs(d)
			require.NoError(t, err, d.Name)
			var want []policy.Ref
			for _, o := range decode(t, d) {
				require.True(t, o.Valid(), d.Name)
				if o.Kind != manifest.KindCiliumCIDRGroup {
					want = append(want, policy.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
				}
				if o.Namespace == "" {
					require.Contains(t, string(d.Content), NamespaceLabel+": "+DefaultNamespace+"\n", "%s: nobody would find it again", d.Name)
					require.True(t, strings.HasPrefix(o.Name, DefaultNamespace+"-"), "%s: two tests at once would have one %s", d.Name, o.Key)
				}
			}
			require.Equal(t, want, refs, d.Name)
			require.Contains(t, string(d.Content), OwnerLabel, d.Name)
		}
	}
	require.NoError(t, fs.WalkDir(policyFiles, "policies", func(path string, d fs.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, "policies/"); err == nil && !d.IsDir() {
			assert.True(t, used[name], "%s is used by no test", name)
		}
		return err
	}))
}

func TestTestsAreWellFormed(t *testing.T) {
	names := map[string]bool{}
	usedScenarios := map[string]bool{}
	for _, test := range Tests() {
		assert.False(t, names[test.Name], "%s is there twice", test.Name)
		names[test.Name] = true
		assert.NotEmpty(t, test.Summary, test.Name)
		assert.NotEqual(t, test.Check == "", len(test.Scenarios) == 0, "%s: want either scenarios or a check", test.Name)
		for _, s := range test.Needs {
			assert.Contains(t, test.Scenarios, s, test.Name)
		}
		seen := map[string]bool{}
		for _, s := range test.Scenarios {
			_, ok := findScenario(s)
			assert.True(t, ok, "%s: no scenario %s", test.Name, s)
			assert.False(t, seen[s], "%s: scenario %s is there twice", test.Name, s)
			seen[s], usedScenarios[s] = true, true
		}
	}
	for _, a := range AbsentTests() {
		assert.False(t, names[a.Name], "%s is there, or twice among those that are not", a.Name)
		names[a.Name] = true
		assert.NotEmpty(t, a.Why, a.Name)
	}
	for _, s := range Scenarios() {
		assert.True(t, usedScenarios[s], "scenario %s is in no test", s)
	}
}

// Without node ports, DNS, addresses outside or a second family, what needs them is left out with a reason.
func TestPlanLeavesOutWhatIsNotThere(t *testing.T) {
	b := newBed(t, 2)
	b.world.NodePorts, b.world.HostPorts, b.world.NoDNS, b.world.Outside, b.world.Other = false, false, "no DNS here", nil, nil
	for i := range b.world.Pods {
		if !b.world.Pods[i].HostNetwork { // nodes may have a family that pods lack
			b.world.Pods[i].IPs = b.world.Pods[i].IPs[:1]
		}
	}
	steps, err := Plan(b.world, Filter{})
	require.NoError(t, err)
	why := map[string]string{}
	for _, s := range steps {
		for _, sk := range s.Skipped {
			why[sk.Scenario] = sk.Why
		}
		for _, a := range s.Actions {
			assert.False(t, a.Probe.Addr.Is6(), "%s: the pods have no IPv6", a)
		}
		if s.Test.Name == "to-cidr-external" {
			assert.Contains(t, s.Skip, "--external-ip")
			assert.Empty(t, s.Policies)
		}
		if s.Test.Name == "echo-ingress-from-outside" {
			assert.Equal(t, "the agents serve no node ports", s.Skip, "its other scenarios prove nothing about the outside")
			assert.Empty(t, s.Actions)
		}
	}
	assert.Equal(t, "the agents serve no node ports", why["pod-to-local-nodeport"])
	assert.Equal(t, "the agents serve no node ports", why["outside-to-nodeport"])
	assert.Equal(t, "the agents serve no node ports", why["from-cidr-to-pod"])
	assert.Equal(t, "the agents serve no host ports", why["pod-to-hostport"])
	assert.Equal(t, "no DNS here", why["dns"])
	assert.Equal(t, "no DNS here", why["pod-to-headless-service"])
	assert.Contains(t, why["pod-to-world"], "--external-ip")
	assert.NotContains(t, why, "pod-to-service")
}

func TestNoPoliciesCoversEveryWay(t *testing.T) {
	b := newBed(t, 2)
	steps, err := Plan(b.world, Filter{})
	require.NoError(t, err)
	require.Equal(t, "no-policies", steps[0].Test.Name)
	require.Empty(t, steps[0].Skipped)
	count := map[string]int{}
	for _, a := range steps[0].Actions {
		count[a.Scenario+" "+a.Probe.family()]++
		require.NotEmpty(t, a.Nodes, "%s", a)
	}
	for _, s := range steps[0].Test.Scenarios {
		assert.Positive(t, count[s+" ipv4"], s)
		assert.Positive(t, count[s+" ipv6"], s)
	}
}

func TestObjects(t *testing.T) {
	l := Layout{
		Namespace: "net", Image: "weir:1", Node: "n1", OtherNode: "n2", NamespaceLabels: map[string]string{"team": "net"},
		PodAnnotations: map[string]string{"a": "b"}, Tolerations: []string{"dedicated"}, NodeSelector: map[string]string{"disk": "ssd"},
	}
	kinds := map[string]int{}
	for _, d := range l.Objects() {
		var o struct {
			Kind     string
			Metadata struct {
				Name, Namespace string
				Labels          map[string]string
			}
		}
		require.NoError(t, json.Unmarshal(d.Content, &o), d.Name)
		kinds[o.Kind]++
		assert.Equal(t, "true", o.Metadata.Labels[OwnerLabel], d.Name)
		if o.Kind == "Namespace" {
			assert.Equal(t, "net", o.Metadata.Labels["team"])
		} else {
			assert.Contains(t, []string{"net", "net-ccnp1"}, o.Metadata.Namespace, d.Name)
		}
		text := string(d.Content)
		if o.Kind == "Deployment" || o.Kind == "DaemonSet" {
			for _, want := range []string{"weir:1", "dedicated", "ssd", `"a": "b"`, "NET_RAW"} {
				assert.Contains(t, text, want, d.Name)
			}
		}
		if o.Metadata.Name == RoleClient3 || o.Metadata.Name == RoleEchoOtherNode {
			if o.Kind == "Deployment" {
				assert.Contains(t, text, `"n2"`, d.Name)
			}
		}
	}
	assert.Equal(t, map[string]int{"Namespace": 2, "ServiceAccount": 6, "Service": 5, "Deployment": 6, "DaemonSet": 1}, kinds)
	l.OtherNode = ""
	for _, d := range l.Objects() {
		assert.NotContains(t, string(d.Content), "other-node", d.Name)
	}
}

// The kubelet puts the service's main address there, of whichever family that is.
func TestHeldConnectionsGoToEitherFamily(t *testing.T) {
	l := Layout{Namespace: "net", Image: "weir:1", Node: "n1", Disruption: true, DisruptionInterval: time.Second}
	i := slices.IndexFunc(l.Objects(), func(d Document) bool { return d.Name == "deployment "+RoleDisruptClient })
	require.GreaterOrEqual(t, i, 0)
	var o struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []struct{ Args []string } }
			}
		}
	}
	require.NoError(t, json.Unmarshal(l.Objects()[i].Content, &o))
	args := o.Spec.Template.Spec.Containers[0].Args
	for _, a := range addrsOf("10.96.0.5", "fd00:96::5") {
		to := strings.ReplaceAll(args[len(args)-1], "$(TEST_CONN_DISRUPT_SERVER_SERVICE_HOST)", a.String())
		host, port, err := net.SplitHostPort(to)
		require.NoError(t, err)
		assert.Equal(t, []string{a.String(), "8080"}, []string{host, port})
	}
}
