package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/ports"
)

// simulation is a lab of fakes: the real agents on kernels in this process.
type simulation struct {
	c       *fakes.Cluster
	mu      sync.Mutex
	traffic *simTraffic
}

var _ ports.Lab = (*simulation)(nil)

// servesAll has the agents of fakes serve what takes kube-proxy's place.
var servesAll = config.NodePorts{Replacement: true, Enabled: true, HostPorts: true, First: 30000, Last: 32767}

// newSimulation builds a lab of fakes with n nodes and applies the manifests. A finding that is no
// warning is an error.
func newSimulation(ctx context.Context, n int, files []ports.LabManifest) (ports.Lab, error) {
	c, err := fakes.New(func(node string, d fakes.Deps) fakes.Agent {
		return runtime.New(runtime.Config{Node: node, Datapath: "fake", SocketLB: true, NodePorts: servesAll}, runtime.Deps(d))
	}, fakes.Options{Nodes: n, Seed: uint64(time.Now().UnixNano())})
	if err != nil {
		return nil, err
	}
	findings, err := c.ApplyFiles(ctx, files...)
	for _, f := range findings {
		if !f.Warning {
			err = errors.Join(err, errors.New(f.String()))
		}
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &simulation{c: c}, nil
}

func (l *simulation) Datapath() string { return "fake" }

func (l *simulation) Nodes(ctx context.Context) ([]ports.LabNode, error) {
	var out []ports.LabNode
	for _, n := range l.c.Nodes() {
		x := ports.LabNode{Name: n.Name, Addresses: n.Addresses, PodCIDRs: n.PodCIDRs}
		if a := n.Agent(); a == nil {
			x.Problem = "the agent does not run"
		} else {
			x.PID = os.Getpid()
			err := a.Ready(ctx)
			if x.Ready = err == nil; err != nil {
				x.Problem = err.Error()
			}
		}
		out = append(out, x)
	}
	return out, nil
}

func (l *simulation) Pods(context.Context) ([]ports.LabPod, error) {
	var out []ports.LabPod
	for _, p := range l.c.Pods() {
		x := ports.LabPod{Name: p.Name, Node: p.Node, IPs: p.IPs, Ports: p.Ports, HostNetwork: p.HostNetwork, Identity: p.Identity}
		if p.Running {
			x.PID = os.Getpid()
		}
		out = append(out, x)
	}
	return out, nil
}

func (l *simulation) Apply(ctx context.Context, files []ports.LabManifest) ([]cluster.Finding, error) {
	return l.c.ApplyFiles(ctx, files...)
}

func (l *simulation) Delete(ctx context.Context, files []ports.LabManifest) ([]cluster.Finding, error) {
	return l.c.DeleteFiles(ctx, files...)
}

// Probe implements ports.Lab. A row is allowed if packets passed on any family.
func (l *simulation) Probe(ctx context.Context, q ports.LabProbe) ([]ports.LabResult, error) {
	protocols, err := simProtocols(q.Protocols)
	if err != nil {
		return nil, err
	}
	pods := slices.DeleteFunc(l.c.Pods(), func(p fakes.PodInfo) bool { return !p.Running })
	for _, n := range slices.Concat(q.From, q.To) {
		if !slices.ContainsFunc(pods, func(p fakes.PodInfo) bool { return p.Name == n }) {
			return nil, fmt.Errorf("probe: pod %s: %w", n, ports.ErrNotFound)
		}
	}
	var out []ports.LabResult
	for _, from := range pods {
		if len(q.From) > 0 && !slices.Contains(q.From, from.Name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if q.Service != (cluster.Name{}) {
			rows, err := l.probeService(from, q, protocols)
			if err != nil {
				return nil, err
			}
			out = append(out, rows...)
			continue
		}
		for _, to := range pods {
			if to.Name == from.Name || len(q.To) > 0 && !slices.Contains(q.To, to.Name) {
				continue
			}
			out = append(out, l.probePair(from, to, q, protocols)...)
		}
	}
	return out, nil
}

func (l *simulation) probePair(from, to fakes.PodInfo, q ports.LabProbe, protocols []string) []ports.LabResult {
	numbers := to.Ports
	if q.Port != 0 {
		numbers = []uint16{q.Port}
	}
	var out []ports.LabResult
	for _, port := range numbers {
		for _, p := range protocols {
			if p != "ICMP" {
				out = append(out, l.measure(from, to.Name.String(), answers(to), sameFamilies(from, to.IPs), port, p, q.Rules))
			}
		}
	}
	if slices.Contains(protocols, "ICMP") {
		out = append(out, l.measure(from, to.Name.String(), answers(to), sameFamilies(from, to.IPs), 0, "ICMP", q.Rules))
	}
	return out
}

func (l *simulation) probeService(from fakes.PodInfo, q ports.LabProbe, protocols []string) ([]ports.LabResult, error) {
	type key struct {
		port     uint16
		protocol string
	}
	addrs := map[key][]netip.Addr{}
	var order []key
	frontends, err := l.frontends(q.Service)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	for _, f := range frontends {
		k := key{f.Port, datapath.ProtoName(f.Proto)}
		if q.Port != 0 && q.Port != k.port || !slices.Contains(protocols, k.protocol) {
			continue
		}
		if addrs[k] == nil {
			order = append(order, k)
		}
		addrs[k] = append(addrs[k], f.Addr)
	}
	var out []ports.LabResult
	for _, k := range order {
		out = append(out, l.measure(from, q.Service.String(), "", sameFamilies(from, addrs[k]), k.port, k.protocol, q.Rules))
	}
	return out, nil
}

// measure probes one row. expect is who has to answer; empty: whoever does.
func (l *simulation) measure(from fakes.PodInfo, to, expect string, addrs []netip.Addr, port uint16, protocol string, rules bool) ports.LabResult {
	r := ports.LabResult{From: from.Name.String(), To: to, Port: port, Protocol: protocol, Verdict: ports.LabDenied}
	if len(addrs) == 0 {
		r.Note = "no common address family"
		return r
	}
	var notes, verdicts []string
	passed := 0
	for _, a := range addrs {
		v := l.c.ProbeAddr(r.From, a, port, protocol)
		word := ports.LabDenied
		if v.Allowed {
			word = ports.LabAllowed
			passed++
		}
		verdicts = append(verdicts, a.String()+" "+word)
		if by := v.Answer.By; expect != "" && by != "" && by != expect {
			notes = append(notes, fmt.Sprintf("%s: %s answered", a, by))
		}
		if v.Answer.Err != nil {
			notes = append(notes, fmt.Sprintf("%s: %v", a, v.Answer.Err))
		}
		if rules && v.Egress != nil {
			r.EgressRule = v.Egress.String()
		}
		if rules && v.Ingress != nil {
			r.IngressRule = v.Ingress.String()
		}
	}
	if passed > 0 {
		r.Verdict = ports.LabAllowed
	}
	if passed > 0 && passed < len(addrs) {
		notes = append([]string{"the families differ: " + strings.Join(verdicts, ", ")}, notes...)
	}
	r.Note = strings.Join(notes, "; ")
	return r
}

// answers is who answers at a pod's addresses: on its node's own network that is the node.
func answers(p fakes.PodInfo) string {
	if p.HostNetwork {
		return p.Node
	}
	return p.Name.String()
}

// frontends are the keys under which a service is dialled.
func (l *simulation) frontends(name cluster.Name) ([]datapath.ServiceKey, error) {
	var out []datapath.ServiceKey
	found := false
	for _, e := range l.c.Objects().Snapshot() {
		if s, ok := e.(cluster.ServiceUpsert); ok && cluster.Name(s.Service.Name) == name {
			found = true
			for _, f := range s.Service.Frontends {
				out = append(out, datapath.ServiceKey{Addr: f.Addr, Port: f.Port, Proto: f.Proto})
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("service %s: %w", name, ports.ErrNotFound)
	}
	return out, nil
}

// Connects implements ports.Lab.
func (l *simulation) Connects(ctx context.Context, from, service cluster.Name, n int) (map[cluster.Name]int, error) {
	i := slices.IndexFunc(l.c.Pods(), func(p fakes.PodInfo) bool { return p.Name == from && p.Running })
	if i < 0 {
		return nil, fmt.Errorf("connects: pod %s: %w", from, ports.ErrNotFound)
	}
	pod := l.c.Pods()[i]
	frontends, err := l.frontends(service)
	if err != nil {
		return nil, fmt.Errorf("connects: %w", err)
	}
	frontends = slices.DeleteFunc(frontends, func(f datapath.ServiceKey) bool {
		return f.Proto != datapath.ProtoTCP || len(sameFamilies(pod, []netip.Addr{f.Addr})) == 0
	})
	if len(frontends) == 0 {
		return nil, fmt.Errorf("connects: service %s has no TCP port on an address that %s can dial", service, from)
	}
	port := frontends[0].Port
	frontends = slices.DeleteFunc(frontends, func(f datapath.ServiceKey) bool { return f.Port != port })
	counts := map[cluster.Name]int{}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v := l.c.ProbeAddr(from.String(), frontends[i%len(frontends)].Addr, port, "TCP")
		name, err := cluster.ParseName(v.Answer.By)
		if err != nil || !v.Answer.Connected {
			name = cluster.Name{}
		}
		counts[name]++
	}
	return counts, nil
}

// LastDrops implements ports.Lab.
func (l *simulation) LastDrops(ctx context.Context, n int) ([]flow.Flow, error) {
	if n < 1 {
		return nil, errors.New("last drops: at least one must be asked for")
	}
	out, err := l.c.Flows(ctx, flow.Query{Last: uint64(n), Allow: []flow.Filter{{Verdict: []string{"DROPPED"}}}})
	return out[max(0, len(out)-n):], err
}

func (l *simulation) KillAgent(_ context.Context, node string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	return l.c.KillAgent(node)
}

func (l *simulation) StartAgent(_ context.Context, node string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	return l.c.StartAgent(node)
}

func (l *simulation) checkNode(name string) error {
	if !slices.ContainsFunc(l.c.Nodes(), func(n *fakes.Node) bool { return n.Name == name }) {
		return fmt.Errorf("node %s: %w", name, ports.ErrNotFound)
	}
	return nil
}

// Down implements ports.Lab.
func (l *simulation) Down(ctx context.Context) error {
	_, err := l.StopTraffic(ctx)
	return errors.Join(err, l.c.Close())
}

// simProtocols checks protocol names; without any they are TCP and UDP.
func simProtocols(names []string) ([]string, error) {
	if len(names) == 0 {
		return []string{"TCP", "UDP"}, nil
	}
	var out []string
	for _, n := range names {
		p := strings.ToUpper(n)
		if p != "TCP" && p != "UDP" && p != "ICMP" {
			return nil, fmt.Errorf("probe: protocol %q: TCP, UDP or ICMP is allowed", n)
		}
		out = append(out, p)
	}
	return out, nil
}

// sameFamilies are the addresses of families that the source has, too.
func sameFamilies(from fakes.PodInfo, to []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range to {
		if slices.ContainsFunc(from.IPs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			out = append(out, a)
		}
	}
	return out
}

// byStream orders the counts of traffic.
func byStream(a, b ports.LabTraffic) int {
	return cmp.Or(strings.Compare(a.From.String(), b.From.String()), strings.Compare(a.To.String(), b.To.String()),
		a.Addr.Compare(b.Addr), strings.Compare(a.Protocol, b.Protocol))
}
