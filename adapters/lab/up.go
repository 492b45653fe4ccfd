package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// How packets reach the pods of other nodes.
const (
	RoutingTunnel = "tunnel"
	RoutingNative = "native"
)

// Up builds a lab with n nodes and applies the manifests. Node objects among them shape the nodes; if they
// are more than n, all of them are built. Without Node objects the nodes have the names, and the prefixes,
// that Pod objects ask for. Findings and error are as for Apply. ports.ErrConflict if the
// lab exists. After any other error nothing of the lab is left.
func (l *Lab) Up(ctx context.Context, n int, files []ports.LabManifest) ([]cluster.Finding, error) {
	if n < 1 || n > MaxNodes {
		return nil, fmt.Errorf("%d nodes: 1 to %d are allowed", n, MaxNodes)
	}
	if r := l.o.Routing; r != "" && r != RoutingTunnel && r != RoutingNative {
		return nil, fmt.Errorf("routing %q: allowed are %s and %s", r, RoutingTunnel, RoutingNative)
	}
	if err := Check(); err != nil {
		return nil, err
	}
	for _, b := range [][2]string{{l.o.AgentPath, "weir-agent"}, {l.o.CNIPath, "weir-cni"}} {
		if _, err := l.binary(b[0], b[1]); err != nil {
			return nil, err
		}
	}
	objects, findings := parse(files)
	good, bad := l.validate(objects)
	findings = append(findings, bad...)
	nodes, nodeObjects, bad := planNodes(n, ofKind(good, "Node"), ofKind(good, "Pod"))
	findings = append(findings, bad...)
	if len(nodes) > MaxNodes {
		return findings, fmt.Errorf("%d nodes in the manifests: 1 to %d are allowed", len(nodes), MaxNodes)
	}

	held, err := l.claim()
	if err != nil {
		return findings, err
	}
	defer held.Close()
	err = l.build(ctx, nodes, nodeObjects)
	if err == nil {
		var more []cluster.Finding
		rest := withoutNodes(good)
		more, err = l.apply(ctx, rest)
		findings = append(findings, more...)
	}
	if err != nil {
		return findings, errors.Join(err, l.down(context.WithoutCancel(ctx)))
	}
	return findings, nil
}

// claim takes the lab's name: its run directory exists from now on, locked.
func (l *Lab) claim() (*os.File, error) {
	if err := os.MkdirAll(l.o.Root, 0o755); err != nil {
		return nil, fmt.Errorf("lab %q: %w", l.o.Name, err)
	}
	err := os.Mkdir(l.dir, 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("lab %q: %w: it exists, or was not cleared away (weir lab status, weir lab down)", l.o.Name, ports.ErrConflict)
	}
	if err != nil {
		return nil, fmt.Errorf("lab %q: %w", l.o.Name, err)
	}
	held, err := lock(l.dir, func() error {
		return fmt.Errorf("lab %q: %w: another command works on it", l.o.Name, ports.ErrConflict)
	})
	if err != nil {
		return nil, err
	}
	left, err := listNetns(l.netnsPrefix())
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("lab %q: %w: network namespace %s is left (weir lab down clears it away)", l.o.Name, ports.ErrConflict, left[0])
	}
	if err != nil {
		held.Close()
		os.Remove(l.dir)
		return nil, err
	}
	return held, nil
}

func (l *Lab) build(ctx context.Context, nodes []*nodeState, objects []*object) error {
	for _, d := range []string{l.clusterDir(), l.podsDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	root, err := ensureCgroupRoot(filepath.Join(l.dir, "cgroup2"))
	if err != nil {
		return err
	}
	l.st = &state{Version: stateVersion, Name: l.o.Name, Cgroup: filepath.Join(root, "weir-"+l.o.Name), Routing: l.o.Routing, Nodes: nodes}
	if err := l.saveState(); err != nil {
		return err
	}
	if err := makeCgroup(l.agentsCgroup()); err != nil {
		return err
	}
	for _, o := range objects {
		if _, err := l.write(o); err != nil {
			return err
		}
	}
	l.o.Log("building %d nodes", len(nodes))
	if err := l.buildNetwork(); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.prepareNode(n); err != nil {
			return err
		}
		if err := l.launchAgent(n); err != nil {
			return err
		}
	}
	l.o.Log("waiting for the agents")
	for _, n := range nodes {
		if err := l.awaitAgent(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func ofKind(objects []*object, kind string) []*object {
	var out []*object
	for _, o := range objects {
		if o.kind == kind {
			out = append(out, o)
		}
	}
	return out
}

func withoutNodes(objects []*object) []*object {
	var out []*object
	for _, o := range objects {
		if o.kind != "Node" {
			out = append(out, o)
		}
	}
	return out
}
