package playground

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/ports"
)

// program is weir in the image.
const program = "/usr/bin/weir"

// execTries is how often a command is begun in all if the connection to the kubelet fails.
const execTries = 3

// Quiet keeps the client library, in the whole process, from writing its own log to the standard error: its streams tell there of
// every end that they did not choose.
func Quiet() { klog.SetLogger(logr.Discard()) }

// Probe implements ports.Playground.
func (p *Playground) Probe(ctx context.Context, pod cluster.Name, job connectivity.Job) ([]connectivity.Outcome, error) {
	if pod == connectivity.FromOutside {
		if p.o.Local == nil {
			return nil, fmt.Errorf("probes of this machine: %w", ports.ErrUnsupported)
		}
		return p.o.Local(ctx, job), nil
	}
	in, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	out, err := p.exec(ctx, pod, connectivity.Container, in, program, "connectivity", "probe")
	if err != nil {
		return nil, err
	}
	var list []connectivity.Outcome
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("read the outcomes from %s: %w", pod, err)
	}
	return list, nil
}

// exec runs a command in a container and returns what it wrote. A command that could not be begun is tried
// again.
func (p *Playground) exec(ctx context.Context, pod cluster.Name, container string, in []byte, argv ...string) ([]byte, error) {
	for n := 1; ; n++ {
		out, err := p.execOnce(ctx, pod, container, in, argv)
		var status exec.ExitError
		if err == nil || errors.As(err, &status) || ctx.Err() != nil || n == execTries {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(n) * 200 * time.Millisecond):
		}
	}
}

func (p *Playground) execOnce(ctx context.Context, pod cluster.Name, container string, in []byte, argv []string) ([]byte, error) {
	request := p.client.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: argv, Stdin: in != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	what := fmt.Sprintf("run %q in %s", strings.Join(argv, " "), pod)
	websocket, err := remotecommand.NewWebSocketExecutor(p.config, "GET", request.URL().String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(p.config, "POST", request.URL())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var stdout, stderr bytes.Buffer
	streams := remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}
	if in != nil {
		streams.Stdin = io.Reader(bytes.NewReader(in))
	}
	if err := executor.StreamWithContext(ctx, streams); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return stdout.Bytes(), fmt.Errorf("%s: %w: %s", what, err, text)
		}
		return stdout.Bytes(), fmt.Errorf("%s: %w", what, err)
	}
	return stdout.Bytes(), nil
}

// findAgents looks for the agents of all nodes.
func (p *Playground) findAgents(ctx context.Context) (map[string]cluster.Name, error) {
	list, err := p.client.CoreV1().Pods(p.o.AgentNamespace).List(ctx, metav1.ListOptions{LabelSelector: agentSelector})
	if err != nil {
		return nil, fmt.Errorf("look for agents in namespace %s: %w", p.o.AgentNamespace, err)
	}
	agents := map[string]cluster.Name{}
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			agents[pod.Spec.NodeName] = cluster.Name{Namespace: pod.Namespace, Name: pod.Name}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.agents = agents
	return agents, nil
}

// ask runs a command of weir in a node's agent. One that is gone is looked for again.
func (p *Playground) ask(ctx context.Context, node string, args ...string) ([]byte, error) {
	p.mu.Lock()
	pod, ok := p.agents[node]
	p.mu.Unlock()
	if !ok {
		agents, err := p.findAgents(ctx)
		if err != nil {
			return nil, err
		}
		if pod, ok = agents[node]; !ok {
			return nil, fmt.Errorf("node %s runs no agent: %w", node, ports.ErrNotFound)
		}
	}
	out, err := p.exec(ctx, pod, agentContainer, nil, append([]string{program}, args...)...)
	if err != nil {
		p.mu.Lock()
		delete(p.agents, node)
		p.mu.Unlock()
	}
	return out, err
}

// askJSON is ask for an answer in JSON.
func (p *Playground) askJSON(ctx context.Context, node string, answer any, args ...string) error {
	out, err := p.ask(ctx, node, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("read what %q says on node %s: %w", "weir "+strings.Join(args, " "), node, err)
	}
	return nil
}
