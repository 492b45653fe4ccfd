package playground

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// Policies implements ports.Playground.
func (p *Playground) Policies(ctx context.Context, node string) ([]policy.Ref, error) {
	var answer struct {
		Policies []struct{ Kind, Namespace, Name string } `json:"policies"`
	}
	if err := p.askJSON(ctx, node, &answer, "policy", "get"); err != nil {
		return nil, err
	}
	var out []policy.Ref
	for _, o := range answer.Policies {
		out = append(out, policy.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
	}
	return out, nil
}

// Status implements ports.Playground.
func (p *Playground) Status(ctx context.Context, node string) (ports.Status, error) {
	var s ports.Status
	err := p.askJSON(ctx, node, &s, "status")
	return s, err
}

// Known implements ports.Playground.
func (p *Playground) Known(ctx context.Context, node string) ([]netip.Addr, error) {
	var cache map[string][]string
	if err := p.askJSON(ctx, node, &cache, "bpf", "ipcache", "list"); err != nil {
		return nil, err
	}
	var out []netip.Addr
	for text := range cache {
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.IsSingleIP() {
			out = append(out, prefix.Addr())
		}
	}
	var endpoints []ports.EndpointInfo
	if err := p.askJSON(ctx, node, &endpoints, "endpoint", "list"); err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		if e.State == "ready" {
			out = append(out, e.IPs...)
		}
	}
	return out, nil
}

// Serves implements ports.Playground.
func (p *Playground) Serves(ctx context.Context, node string) (nodePorts, hostPorts bool, err error) {
	var services []ports.ServiceInfo
	if err := p.askJSON(ctx, node, &services, "service", "list"); err != nil {
		return false, false, err
	}
	for _, s := range services {
		nodePorts = nodePorts || s.Type == string(lb.NodePort)
		hostPorts = hostPorts || s.Type == string(lb.HostPort)
	}
	return nodePorts, hostPorts, nil
}

// kubeletPort is one that every node listens on, whoever asks.
const kubeletPort = 10250

// Outside implements ports.Playground. A machine that gets no answer from any node's kubelet is taken for one that
// a firewall keeps out.
func (p *Playground) Outside(ctx context.Context) (addrs []netip.Addr, why string, err error) {
	nodes, err := p.Nodes(ctx)
	if err != nil {
		return nil, "", err
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, "", fmt.Errorf("addresses of this machine: %w", err)
	}
	mine := map[netip.Addr]bool{}
	for _, a := range own {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			mine[prefix.Addr().Unmap()] = true
		}
	}
	job := connectivity.Job{Parallel: len(nodes)}
	for _, n := range nodes {
		for _, a := range n.Addresses {
			if mine[a] {
				return nil, "this machine is node " + n.Name, nil
			}
			job.Probes = append(job.Probes, connectivity.Timed{Probe: connectivity.Probe{Kind: connectivity.TCP, Addr: a, Port: kubeletPort}, Timeout: 3 * time.Second})
		}
	}
	if p.o.Local == nil {
		return nil, "nobody can ask from this machine", nil
	}
	answered := false
	for i, o := range p.o.Local(ctx, job) {
		if o.Result != connectivity.Answered && o.Result != connectivity.Refused {
			continue
		}
		answered = true
		a := towards(job.Probes[i].Addr)
		if a.IsValid() && !slices.ContainsFunc(addrs, func(b netip.Addr) bool { return b.Is6() == a.Is6() }) {
			addrs = append(addrs, a)
		}
	}
	if !answered {
		return nil, "this machine gets no answer from the nodes", nil
	}
	return addrs, "", nil
}

// towards is the address that this machine has for another one; the zero Addr if it has none. No packet is sent.
func towards(to netip.Addr) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, kubeletPort)))
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// flowsShown bounds the flows of a node that Evidence quotes: the latest tell what is wrong.
const flowsShown = "20"

// Evidence implements ports.Playground.
func (p *Playground) Evidence(ctx context.Context, node string, since time.Time, addrs []netip.Addr) (string, error) {
	args := []string{"observe", "--print-policy-names", "--since", since.UTC().Format(time.RFC3339), "--last", flowsShown}
	for _, a := range addrs {
		args = append(args, "--ip", a.String())
	}
	flows, err1 := p.ask(ctx, node, args...)
	var endpoints []ports.EndpointInfo
	err2 := p.askJSON(ctx, node, &endpoints, "endpoint", "list")
	return string(flows) + describe(endpoints), errors.Join(err1, err2)
}

// describe writes a line for each endpoint.
func describe(endpoints []ports.EndpointInfo) string {
	word := map[bool]string{true: "enforced", false: "open"}
	var b strings.Builder
	for _, e := range endpoints {
		fmt.Fprintf(&b, "endpoint %d %s %v identity %s %s: ingress %s, egress %s\n", e.ID, e.Pod, e.IPs, e.Identity, e.State, word[e.Ingress], word[e.Egress])
	}
	return b.String()
}
