// Package playground lets the connectivity test run on a cluster of fakes: Deployments become pods at
// once, and probes are packets through the fake kernels.
package playground

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/ports"
)

// Other is a second address outside the cluster.
var Other = []netip.AddrPort{
	netip.MustParseAddrPort("172.30.0.2:0"), netip.MustParseAddrPort("[fd00:172:30::2]:0"),
}

// apiPort is where the API server listens, on fakes.Outside.
const apiPort = 6443

// Playground implements ports.Playground.
type Playground struct {
	c *fakes.Cluster

	mu       sync.Mutex
	services map[cluster.Name]connectivity.Service
	headless map[cluster.Name]map[string]string // selectors of services without addresses
	roles    map[cluster.Name]pod
	owned    map[string]object // policies with the test's label, by kind and name
	asked    []connectivity.Job
}

type pod struct {
	role   string
	labels map[string]string
}

var _ ports.Playground = (*Playground)(nil)

// system is what every cluster has: the service of its API server, and DNS.
const system = `
apiVersion: v1
kind: Namespace
metadata: {name: kube-system}
---
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec:
  clusterIPs: ["10.96.0.1", "fd00:10:96::1"]
  ports: [{name: https, port: 443, targetPort: 6443}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443}]
endpoints: [{addresses: [172.30.0.1]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes-6, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv6
ports: [{name: https, port: 6443}]
endpoints: [{addresses: ["fd00:172:30::1"]}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  selector: {k8s-app: kube-dns}
  clusterIPs: ["10.96.0.10", "fd00:10:96::a"]
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: v1
kind: Pod
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  nodeName: node1
  containers: [{name: dns, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53, protocol: TCP}]}]
`

// New makes a playground of a cluster: it gets an API server, outside, and DNS.
func New(c *fakes.Cluster) (*Playground, error) {
	p := &Playground{
		c: c, services: map[cluster.Name]connectivity.Service{}, headless: map[cluster.Name]map[string]string{},
		roles: map[cluster.Name]pod{}, owned: map[string]object{},
	}
	c.Fabric().Listen(fakes.Outside, datapath.ProtoTCP, apiPort)
	c.Fabric().AddMachine("outside-other", Other[0].Addr(), Other[1].Addr())
	return p, p.Apply(context.Background(), connectivity.Document{Name: "the cluster's own", Content: []byte(system)})
}

// Cluster implements ports.Playground.
func (p *Playground) Cluster() string { return "fake" }

// Image implements ports.Playground.
func (p *Playground) Image(context.Context) (string, error) { return "fake", nil }

// Nodes implements ports.Playground.
func (p *Playground) Nodes(context.Context) ([]connectivity.Node, error) {
	var out []connectivity.Node
	for _, n := range p.c.Nodes() {
		out = append(out, connectivity.Node{Name: n.Name, Addresses: slices.Clone(n.Addresses)})
	}
	return out, nil
}

// Pods implements ports.Playground.
func (p *Playground) Pods(_ context.Context, namespace string) ([]connectivity.Pod, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []connectivity.Pod
	for _, i := range p.c.Pods() {
		if known, ok := p.roles[i.Name]; ok && i.Name.Namespace == namespace {
			out = append(out, connectivity.Pod{
				Name: i.Name, Role: known.role, Node: i.Node, IPs: i.IPs, HostNetwork: i.HostNetwork, Ready: i.Running,
			})
		}
	}
	return out, nil
}

// Services implements ports.Playground.
func (p *Playground) Services(_ context.Context, namespace string) ([]connectivity.Service, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []connectivity.Service
	for _, s := range p.services {
		if s.Name.Namespace != namespace {
			continue
		}
		if p.headless[s.Name] == nil {
			for _, a := range p.c.Service(s.Name.String()) {
				if !slices.Contains(s.ClusterIPs, a.Addr()) && !slices.Contains(s.ExternalIPs, a.Addr()) && !slices.Contains(s.Ingress, a.Addr()) {
					s.ClusterIPs = append(s.ClusterIPs, a.Addr())
				}
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b connectivity.Service) int { return strings.Compare(a.Name.Name, b.Name.Name) })
	return out, nil
}

// APIServers implements ports.Playground.
func (p *Playground) APIServers(context.Context) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, a := range fakes.OutsideAddresses {
		out = append(out, netip.AddrPortFrom(a, apiPort))
	}
	return out, nil
}

// Policies implements ports.Playground.
func (p *Playground) Policies(ctx context.Context, node string) ([]policy.Ref, error) {
	a := p.c.Node(node).Agent()
	if a == nil {
		return nil, fmt.Errorf("node %s: %w", node, ports.ErrClosed)
	}
	info, err := a.Policies(ctx)
	if err != nil {
		return nil, err
	}
	var out []policy.Ref
	for _, o := range info.Policies {
		out = append(out, o.Ref)
	}
	return out, nil
}

// Status implements ports.Playground.
func (p *Playground) Status(ctx context.Context, node string) (ports.Status, error) {
	a := p.c.Node(node).Agent()
	if a == nil {
		return ports.Status{}, fmt.Errorf("node %s: %w", node, ports.ErrClosed)
	}
	return a.Status(ctx)
}

// Logs implements ports.Playground. Fakes write none.
func (p *Playground) Logs(context.Context, func(pod, line string)) error { return nil }

// Known implements ports.Playground.
func (p *Playground) Known(_ context.Context, node string) ([]netip.Addr, error) {
	n := p.c.Node(node)
	if n.Agent() == nil {
		return nil, fmt.Errorf("node %s: the agent does not run: %w", node, ports.ErrClosed)
	}
	t := n.Kernel.Tables()
	var out []netip.Addr
	cached, err := t.IPCache.Dump()
	if err != nil {
		return nil, err
	}
	for _, r := range cached {
		if r.Key.IsSingleIP() {
			out = append(out, r.Key.Addr())
		}
	}
	local, err := t.Endpoints.Dump()
	if err != nil {
		return nil, err
	}
	for _, r := range local {
		out = append(out, r.Key)
	}
	return out, nil
}

// Serves implements ports.Playground.
func (p *Playground) Serves(ctx context.Context, node string) (nodePorts, hostPorts bool, err error) {
	a := p.c.Node(node).Agent()
	if a == nil {
		return false, false, fmt.Errorf("node %s: %w", node, ports.ErrClosed)
	}
	list, err := a.Services(ctx)
	serves := func(kind lb.Type) bool {
		return slices.ContainsFunc(list, func(s ports.ServiceInfo) bool { return s.Type == string(kind) })
	}
	return serves(lb.NodePort), serves(lb.HostPort), err
}

// Outside implements ports.Playground.
func (p *Playground) Outside(context.Context) ([]netip.Addr, string, error) {
	return slices.Clone(fakes.OutsideAddresses), "", nil
}

// Evidence implements ports.Playground.
func (p *Playground) Evidence(ctx context.Context, node string, since time.Time, addrs []netip.Addr) (string, error) {
	flows, err := p.c.Flows(ctx, flow.Query{})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range flows {
		involved := slices.Contains(addrs, f.Event.Src.Addr()) || slices.Contains(addrs, f.Event.Dst.Addr())
		if f.Node == node && involved && !f.Time.Before(since) {
			fmt.Fprintf(&b, "%s %s -> %s %s\n", datapath.ProtoName(f.Event.Proto), f.Event.Src, f.Event.Dst, f.Verdict)
		}
	}
	return b.String(), nil
}

// Probe implements ports.Playground.
func (p *Playground) Probe(_ context.Context, from cluster.Name, job connectivity.Job) ([]connectivity.Outcome, error) {
	p.mu.Lock()
	p.asked = append(p.asked, job)
	_, known := p.roles[from]
	p.mu.Unlock()
	who := from.String()
	if from == connectivity.FromOutside {
		who, known = fakes.Outside, true
	}
	if !known {
		return nil, fmt.Errorf("pod %s: %w", from, ports.ErrNotFound)
	}
	var out []connectivity.Outcome
	for i, t := range job.Probes {
		o := p.probe(who, t.Probe)
		o.Index = i
		out = append(out, o)
	}
	return out, nil
}

// Jobs are all that pods were asked to do.
func (p *Playground) Jobs() []connectivity.Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *Playground) probe(from string, q connectivity.Probe) connectivity.Outcome {
	var o connectivity.Outcome
	addr := q.Addr
	if q.Name != "" {
		asked := p.c.ProbeAddr(from, p.c.Service("kube-system/kube-dns")[0].Addr(), 53, "UDP")
		if o.Result = result(asked); o.Result != connectivity.Answered {
			return o
		}
		if o.Addrs = p.lookup(q.Name, q.IPv6); len(o.Addrs) == 0 {
			o.Result = connectivity.Unresolved
			return o
		}
		addr = o.Addrs[0]
	}
	protocol := "TCP"
	switch q.Kind {
	case connectivity.DNS:
		return o
	case connectivity.UDP:
		protocol = "UDP"
	case connectivity.ICMP:
		protocol = "ICMP"
	}
	v := p.c.ProbeAddr(from, addr, q.Port, protocol)
	o.Result = result(v)
	_, o.By, _ = strings.Cut(v.Answer.By, "/")
	return o
}

func result(v fakes.Verdict) connectivity.Result {
	switch {
	case v.Answer.Connected:
		return connectivity.Answered
	case v.Answer.Refused, v.Answer.Err != nil:
		return connectivity.Refused
	}
	return connectivity.Silent
}

// lookup is what the cluster's DNS says of a service.
func (p *Playground) lookup(name string, v6 bool) (out []netip.Addr) {
	parts := strings.Split(name, ".")
	if len(parts) < 3 {
		return nil
	}
	service := cluster.Name{Namespace: parts[1], Name: parts[0]}
	var addrs []netip.Addr
	p.mu.Lock()
	selector, isHeadless := p.headless[service]
	_, exists := p.services[service]
	roles := p.roles
	switch {
	case isHeadless:
		for _, i := range p.c.Pods() {
			if i.Name.Namespace == service.Namespace && selects(selector, roles[i.Name].labels) {
				addrs = append(addrs, i.IPs...)
			}
		}
	case exists:
		for _, a := range p.c.Service(service.String()) {
			addrs = append(addrs, a.Addr())
		}
	}
	p.mu.Unlock()
	for _, a := range addrs {
		if a.Is6() == v6 && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}
