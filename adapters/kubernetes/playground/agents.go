package playground

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

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

// ServesNodePorts implements ports.Playground.
func (p *Playground) ServesNodePorts(ctx context.Context, node string) (bool, error) {
	var services []ports.ServiceInfo
	if err := p.askJSON(ctx, node, &services, "service", "list"); err != nil {
		return false, err
	}
	for _, s := range services {
		if s.Type == string(lb.NodePort) {
			return true, nil
		}
	}
	return false, nil
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
