package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/weirnet/weir/ports"
)

// agentGrace is how long an agent that is asked to end may take.
const agentGrace = 2 * time.Second

// prepareNode makes what a node's agent lives in, beside its network.
func (l *Lab) prepareNode(n *nodeState) error {
	for _, d := range []string{l.bpffs(n.Name), l.agentRun(n.Name)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	if err := mountBPF(l.bpffs(n.Name)); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return errors.Join(makeCgroup(l.nodeCgroup(n.Name)), makeCgroup(l.hostCgroup(n.Name)))
}

// launchAgent starts the agent's process.
func (l *Lab) launchAgent(n *nodeState) error {
	if n.Agent.alive() {
		return nil
	}
	agent, err := l.binary(l.o.AgentPath, "weir-agent")
	if err != nil {
		return err
	}
	command := []string{
		agent,
		"--node-name", n.Name,
		"--cluster-dir", l.clusterDir(),
		"--run-dir", l.agentRun(n.Name),
		"--bpffs", l.bpffs(n.Name),
		"--cgroup", l.nodeCgroup(n.Name),
	}
	if l.st.Routing == RoutingNative {
		command = append(command, "--routing-mode", "native", "--auto-direct-node-routes")
	}
	p, err := l.startDaemon(l.nodeNetns(n.Name), l.agentsCgroup(), l.agentLog(n.Name), nil, command...)
	n.Agent = p
	err = errors.Join(err, l.saveState())
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil
}

// awaitAgent waits until the agent serves. If it ends meanwhile, the error has the end of its log.
func (l *Lab) awaitAgent(ctx context.Context, n *nodeState) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, l.o.ReadyTimeout)
	defer cancel()
	client := l.agent(n.Name)
	for {
		err := client.Ready(ctx)
		if err == nil {
			return nil
		}
		if !n.Agent.alive() {
			return fmt.Errorf("node %s: the agent ended; the end of %s:\n%s", n.Name, l.agentLog(n.Name), tail(l.agentLog(n.Name), 15))
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			if caller.Err() != nil { // given up, and nothing is wrong with the agent
				return fmt.Errorf("node %s: wait for the agent: %w", n.Name, caller.Err())
			}
			return fmt.Errorf("node %s: the agent is not ready: %w; the end of %s:\n%s",
				n.Name, err, l.agentLog(n.Name), tail(l.agentLog(n.Name), 15))
		}
	}
}

// KillAgent ends a node's agent by SIGKILL. ports.ErrNotFound if there is no such node.
func (l *Lab) KillAgent(ctx context.Context, node string) error {
	return l.locked(ctx, func() error {
		n := l.node(node)
		if n == nil {
			return fmt.Errorf("node %s: %w", node, ports.ErrNotFound)
		}
		if err := n.Agent.stop(0); err != nil {
			return fmt.Errorf("node %s: kill agent: %w", node, err)
		}
		n.Agent = process{}
		return l.saveState()
	})
}

// StartAgent starts a node's agent, if it does not run, and waits until it is ready. ports.ErrNotFound if
// there is no such node.
func (l *Lab) StartAgent(ctx context.Context, node string) error {
	return l.locked(ctx, func() error {
		n := l.node(node)
		if n == nil {
			return fmt.Errorf("node %s: %w", node, ports.ErrNotFound)
		}
		if err := l.launchAgent(n); err != nil {
			return err
		}
		return l.awaitAgent(ctx, n)
	})
}
