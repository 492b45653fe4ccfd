package conntest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/ports"
)

// deploy makes the pods and waits for them.
func (r *Runner) deploy(ctx context.Context) error {
	nodes, err := r.p.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if err := r.choose(nodes); err != nil {
		return err
	}
	if r.layout.Image, err = r.image(ctx); err != nil {
		return err
	}
	name, ns := r.p.Cluster(), r.o.Namespace
	if r.o.ForceDeploy {
		r.out.Say("🔥 [%s] Deleting connectivity check deployments...", name)
		if err := r.deleteNamespaces(ctx); err != nil {
			return err
		}
	}
	// Those of a run that was cut off would keep the pods from talking.
	if err := r.p.DeletePolicies(ctx, ns); err != nil {
		return fmt.Errorf("remove policies of an earlier run from namespace %s: %w", ns, err)
	}
	for _, d := range r.layout.Objects() {
		r.out.Say("✨ [%s] Deploying %s...", name, d.Name)
		err := r.p.Apply(ctx, d)
		if err != nil && d.Optional && ctx.Err() == nil {
			r.out.Warn("%s: %v; going on without it", d.Name, err)
		} else if err != nil {
			return fmt.Errorf("deploy %s: %w", d.Name, err)
		}
	}
	return r.awaitPods(ctx)
}

func (r *Runner) deleteNamespaces(ctx context.Context) error {
	var errs []error
	for _, ns := range connectivity.Namespaces(r.o.Namespace) {
		if err := r.p.DeleteNamespace(ctx, ns); err != nil {
			errs = append(errs, fmt.Errorf("namespace %s: %w", ns, err))
		}
	}
	return errors.Join(errs...)
}

// choose picks the nodes for the pods.
func (r *Runner) choose(nodes []connectivity.Node) error {
	var fit, unfit []string
	for _, n := range nodes {
		if n.Unfit == "" {
			fit = append(fit, n.Name)
		} else {
			unfit = append(unfit, n.Name+": "+n.Unfit)
		}
	}
	if len(fit) == 0 {
		return fmt.Errorf("no node can take test pods (%s)", cmp.Or(strings.Join(unfit, "; "), "there are none"))
	}
	o := r.o
	r.layout = connectivity.Layout{
		Namespace: o.Namespace, Node: fit[0], NamespaceLabels: o.NamespaceLabels, PodAnnotations: o.PodAnnotations,
		Tolerations: o.Tolerations, NodeSelector: o.NodeSelector,
		// Later runs leave these pods alone: whatever changed them would end their connections.
		Disruption: o.Disruption.Include && o.Disruption.Setup, DisruptionInterval: o.Disruption.Interval,
	}
	switch {
	case o.SingleNode:
	case len(fit) == 1:
		r.out.Say("ℹ️  Single-node environment detected, enabling single-node connectivity test")
	default:
		r.layout.OtherNode = fit[1]
	}
	return nil
}

func (r *Runner) image(ctx context.Context) (string, error) {
	if r.o.Image != "" {
		return r.o.Image, nil
	}
	image, err := r.p.Image(ctx)
	if errors.Is(err, ports.ErrNotFound) {
		return "", fmt.Errorf("which image the test pods shall run is not known: %w; --image names one", err)
	}
	return image, err
}

// awaitPods waits until every pod of the layout is ready.
func (r *Runner) awaitPods(ctx context.Context) error {
	for _, d := range r.layout.Deployments() {
		r.out.Say("⌛ [%s] Waiting for deployment %s/%s to become ready...", r.p.Cluster(), r.layout.NamespaceOf(d), d)
	}
	return r.await(ctx, r.o.DeployTimeout, 500*time.Millisecond, func(ctx context.Context) (string, error) {
		var pods []connectivity.Pod
		for _, ns := range connectivity.Namespaces(r.o.Namespace) {
			list, err := r.p.Pods(ctx, ns)
			if err != nil {
				return "", fmt.Errorf("list pods: %w", err)
			}
			pods = append(pods, list...)
		}
		r.world.Pods = nil
		for _, role := range append(r.layout.Deployments(), connectivity.RoleHostNetns) {
			ready := 0
			problem := "there is no such pod yet"
			for _, p := range pods {
				switch {
				case p.Role != role:
				case p.Ready:
					ready++
					r.world.Pods = append(r.world.Pods, p)
				default:
					problem = p.Name.String() + ": " + cmp.Or(p.Problem, "not ready")
				}
			}
			// Pods on the nodes' own network are wanted where the other pods are; elsewhere they may
			// not find room.
			if ready == 0 || role == connectivity.RoleHostNetns && !r.hostsServed() {
				return role + ": " + problem, nil
			}
		}
		r.world.Pods = r.useful(r.world.Pods)
		return "", nil
	})
}

func (r *Runner) hostsServed() bool {
	for _, n := range []string{r.layout.Node, r.layout.OtherNode} {
		if n != "" && !slices.ContainsFunc(r.world.Pods, func(p connectivity.Pod) bool { return p.HostNetwork && p.Node == n }) {
			return false
		}
	}
	return true
}

// useful leaves out the pods on nodes that have no other test pods: they add nothing but time.
func (r *Runner) useful(pods []connectivity.Pod) []connectivity.Pod {
	pods = slices.DeleteFunc(pods, func(p connectivity.Pod) bool {
		return p.HostNetwork && p.Node != r.layout.Node && p.Node != r.layout.OtherNode
	})
	slices.SortFunc(pods, func(a, b connectivity.Pod) int { return cmp.Compare(a.Name.String(), b.Name.String()) })
	return pods
}

// settle learns what there is to test, and waits until the network has taken in the new pods.
func (r *Runner) settle(ctx context.Context) error {
	w := &r.world
	w.Namespace, w.Outside, w.Other = r.o.Namespace, r.o.Outside, r.o.Other
	nodes, err := r.p.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	w.Nodes = slices.DeleteFunc(nodes, func(n connectivity.Node) bool {
		return n.Name != r.layout.Node && n.Name != r.layout.OtherNode
	})
	w.APIServers = nil
	servers, err := r.p.APIServers(ctx)
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	for _, s := range servers {
		w.APIServers = append(w.APIServers, s.Addr())
	}
	if len(w.Outside) == 0 {
		if w.Outside, err = r.apiServersOutside(ctx, nodes); err != nil {
			return err
		}
	}
	w.NoDNS = "there is no service kube-system/kube-dns"
	w.Services = nil
	for _, ns := range []string{r.o.Namespace, "default", "kube-system"} {
		list, err := r.p.Services(ctx, ns)
		if err != nil {
			return fmt.Errorf("list services of namespace %s: %w", ns, err)
		}
		w.Services = append(w.Services, list...)
		if ns == "kube-system" && slices.ContainsFunc(list, func(s connectivity.Service) bool { return s.Name.Name == "kube-dns" }) {
			w.NoDNS = ""
		}
	}
	if err := r.awaitKnown(ctx); err != nil {
		return err
	}
	r.warnOfOthers(ctx)
	if r.dropped, err = r.drops(ctx); err != nil {
		return err
	}
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	if w.NodePorts, w.HostPorts, err = r.p.Serves(ctx, r.layout.Node); err != nil {
		return fmt.Errorf("ask the agent of %s for its services: %w", r.layout.Node, err)
	}
	if w.FromOutside, w.NoOutside, err = r.p.Outside(ctx); err != nil {
		return fmt.Errorf("find out whether this machine is outside of the cluster: %w", err)
	}
	return nil
}

// warnOfOthers names policies for the whole cluster: they may apply to the test's pods, and expectations
// know nothing of them.
func (r *Runner) warnOfOthers(ctx context.Context) {
	list, err := r.p.Policies(ctx, r.layout.Node)
	if err != nil {
		return // the first test says it
	}
	for _, p := range list {
		if p.Namespace == "" {
			r.out.Warn("%s is in force; if it selects the test's pods, results are not what is expected", p)
		}
	}
}

// apiServersOutside are the API servers that are no nodes: the one place outside that every cluster has.
func (r *Runner) apiServersOutside(ctx context.Context, nodes []connectivity.Node) ([]netip.AddrPort, error) {
	list, err := r.p.APIServers(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	var out []netip.AddrPort
	for _, v6 := range []bool{false, true} {
		for _, a := range list {
			isNode := slices.ContainsFunc(nodes, func(n connectivity.Node) bool { return slices.Contains(n.Addresses, a.Addr()) })
			if a.Addr().Is6() == v6 && !isNode {
				out = append(out, a)
				break
			}
		}
	}
	return out, nil
}

// awaitKnown waits until every node with test pods has an identity for each of these.
func (r *Runner) awaitKnown(ctx context.Context) error {
	r.out.Say("⌛ [%s] Waiting for the agents to know the identities of all test pods...", r.p.Cluster())
	return r.await(ctx, r.o.PolicyTimeout, 200*time.Millisecond, func(ctx context.Context) (string, error) {
		for _, n := range r.testNodes() {
			known, err := r.p.Known(ctx, n)
			if err != nil {
				return fmt.Sprintf("agent of %s: %v", n, err), nil
			}
			for _, p := range r.world.Pods {
				for _, a := range p.IPs {
					if !p.HostNetwork && !slices.Contains(known, a) {
						return fmt.Sprintf("node %s has no identity for %s (%s)", n, p.Name, a), nil
					}
				}
			}
		}
		return "", nil
	})
}

func (r *Runner) testNodes() (out []string) {
	for _, n := range r.world.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// warmUp waits until services and names work: what still fails then is left to the tests to show.
func (r *Runner) warmUp(ctx context.Context) error {
	for _, what := range []struct{ scenario, text string }{
		{"pod-to-service", "the echo services to answer"},
		{"pod-to-api-server", "pods to reach service default/kubernetes"},
		{"dns", "pods to reach the DNS server"},
	} {
		f, err := connectivity.NewFilter([]string{"^no-policies$/^" + what.scenario + "$"})
		if err != nil {
			return err
		}
		steps, err := connectivity.Plan(r.world, f)
		if err != nil {
			return err
		}
		if len(steps) == 0 || len(steps[0].Actions) == 0 {
			continue
		}
		r.out.Say("⌛ [%s] Waiting for %s...", r.p.Cluster(), what.text)
		err = r.await(ctx, r.o.PolicyTimeout, 500*time.Millisecond, func(ctx context.Context) (string, error) {
			actions := steps[0].Actions
			outcomes, err := r.carryOut(ctx, actions, func() {})
			if err != nil {
				return err.Error(), nil
			}
			for i, a := range actions {
				if problem := connectivity.Judge(a, outcomes[i]); problem != "" {
					return fmt.Sprintf("%s: %s", a, problem), nil
				}
			}
			return "", nil
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.out.Warn("%v; going on, so that the tests show what is wrong", err)
		}
	}
	return nil
}

// await asks until nothing is missing any more.
func (r *Runner) await(ctx context.Context, patience, pause time.Duration, missing func(context.Context) (string, error)) error {
	deadline := r.now().Add(patience)
	for {
		what, err := missing(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case what == "":
			return nil
		case r.now().After(deadline):
			return fmt.Errorf("not ready after %s: %s", patience, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
