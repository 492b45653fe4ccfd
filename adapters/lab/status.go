package lab

import (
	"context"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

// statusTimeout bounds the wait for one agent's answer.
const statusTimeout = 2 * time.Second

// Datapath implements ports.Lab.
func (l *Lab) Datapath() string { return "ebpf" }

// Nodes implements ports.Lab.
func (l *Lab) Nodes(ctx context.Context) ([]ports.LabNode, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	var out []ports.LabNode
	for _, n := range l.st.Nodes {
		x := ports.LabNode{Name: n.Name, Addresses: n.Addresses, PodCIDRs: n.PodCIDRs}
		switch {
		case !n.Agent.alive():
			x.Problem = "the agent does not run"
		default:
			x.PID = n.Agent.PID
			actx, cancel := context.WithTimeout(ctx, statusTimeout)
			if err := l.agent(n.Name).Ready(actx); err != nil {
				x.Problem = err.Error()
			} else {
				x.Ready = true
			}
			cancel()
		}
		out = append(out, x)
	}
	return out, nil
}

// Pods implements ports.Lab. Identities come from the agents; one that does not answer leaves them 0.
func (l *Lab) Pods(ctx context.Context) ([]ports.LabPod, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	pods, err := l.pods()
	if err != nil {
		return nil, err
	}
	ids := map[cluster.Name]identity.ID{}
	for _, n := range l.st.Nodes {
		if !n.Agent.alive() {
			continue
		}
		actx, cancel := context.WithTimeout(ctx, statusTimeout)
		list, err := l.agent(n.Name).Endpoints(actx)
		cancel()
		if err != nil {
			continue
		}
		for _, e := range list {
			ids[e.Pod] = e.Identity
		}
	}
	out := make([]ports.LabPod, 0, len(pods))
	for _, p := range pods {
		x := ports.LabPod{
			Name: p.Name, Node: p.Node, IPs: p.IPs, Ports: p.Ports, HostNetwork: p.HostNetwork, Identity: ids[p.Name],
		}
		if p.Server.alive() {
			x.PID = p.Server.PID
		}
		out = append(out, x)
	}
	return out, nil
}
