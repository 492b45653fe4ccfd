package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// Pod is one pod of an agent.
type Pod struct {
	Name  string
	Node  string
	Phase string // Running, Pending, …
	Ready bool
}

// Agents lists the agents' pods by node.
func (c *Cluster) Agents(ctx context.Context) ([]Pod, error) {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: AgentSelector})
	if err != nil {
		return nil, fmt.Errorf("list agents in namespace %s: %w", c.namespace, err)
	}
	out := make([]Pod, 0, len(pods.Items))
	for _, p := range pods.Items {
		out = append(out, Pod{Name: p.Name, Node: p.Spec.NodeName, Phase: string(p.Status.Phase), Ready: ready(&p)})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Node < out[j].Node || out[i].Node == out[j].Node && out[i].Name < out[j].Name
	})
	return out, nil
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// ExitError says that a command in a pod ended with another status than 0.
type ExitError struct {
	Pod  string
	Code int
}

func (e *ExitError) Error() string { return fmt.Sprintf("pod %s: exit status %d", e.Pod, e.Code) }

// Exec runs a command in an agent's container. Its standard input is empty. A command that ends with
// another status than 0 gives an *ExitError.
func (c *Cluster) Exec(ctx context.Context, pod string, command []string, stdout, stderr io.Writer) error {
	request := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: AgentContainer, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(c.config, "POST", request.URL())
	if err != nil {
		return fmt.Errorf("exec in pod %s: %w", pod, err)
	}
	// Newer API servers speak WebSocket, which gets through proxies that know nothing of SPDY.
	socket, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
	if err != nil {
		return fmt.Errorf("exec in pod %s: %w", pod, err)
	}
	executor, err := remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return fmt.Errorf("exec in pod %s: %w", pod, err)
	}
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: stdout, Stderr: stderr})
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		return &ExitError{Pod: pod, Code: exit.ExitStatus()}
	}
	return fmt.Errorf("exec in pod %s: %w", pod, err)
}

// Config reads cilium-config.
func (c *Cluster) Config(ctx context.Context) (map[string]string, error) {
	m, err := c.client.CoreV1().ConfigMaps(c.namespace).Get(ctx, ConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("ConfigMap %s in namespace %s: %w", ConfigMap, c.namespace, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get ConfigMap %s/%s: %w", c.namespace, ConfigMap, err)
	}
	if m.Data == nil {
		return map[string]string{}, nil
	}
	return m.Data, nil
}

// SetConfig changes keys of cilium-config; nil removes one. Other keys are left alone.
func (c *Cluster) SetConfig(ctx context.Context, keys map[string]*string) error {
	patch, err := json.Marshal(map[string]any{"data": keys})
	if err != nil {
		return fmt.Errorf("patch ConfigMap %s/%s: %w", c.namespace, ConfigMap, err)
	}
	_, err = c.client.CoreV1().ConfigMaps(c.namespace).Patch(ctx, ConfigMap, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("ConfigMap %s in namespace %s: %w", ConfigMap, c.namespace, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("patch ConfigMap %s/%s: %w", c.namespace, ConfigMap, err)
	}
	return nil
}

// RestartAgents lets the agents start anew, as many at a time as the DaemonSet's strategy allows.
func (c *Cluster) RestartAgents(ctx context.Context, now time.Time) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{restartAnnotation: now.Format(time.RFC3339)}}}}})
	if err != nil {
		return fmt.Errorf("restart agents: %w", err)
	}
	_, err = c.client.AppsV1().DaemonSets(c.namespace).Patch(ctx, AgentDaemonSet, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("restart agents: patch DaemonSet %s/%s: %w", c.namespace, AgentDaemonSet, err)
	}
	return nil
}
