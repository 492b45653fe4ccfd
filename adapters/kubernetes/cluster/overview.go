package cluster

import (
	"context"
	"errors"
	"fmt"
	"sort"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Component is one workload of the network.
type Component struct {
	Kind, Name                             string // "DaemonSet", "cilium"
	Found                                  bool
	Desired, Ready, Available, Unavailable int
	Pods                                   []ComponentPod
}

// ComponentPod is one of a component's pods.
type ComponentPod struct {
	Name, Node, Phase string
	Images            []string
	Problem           string // why it does not run, empty if it does
}

// Overview is how the network's parts are, as the API server knows it.
type Overview struct {
	Components []Component
	// ClusterPods are pods with an address of their own; Managed those of them that an agent serves.
	ClusterPods, Managed int
	// Errors are parts of the overview that could not be had.
	Errors []string
}

// The workloads that may be there, and how their pods are found. Those after the second are optional.
var workloads = []struct{ kind, name, selector string }{
	{"DaemonSet", AgentDaemonSet, AgentSelector},
	{"Deployment", OperatorName, "io.cilium/app=operator"},
	{"DaemonSet", "cilium-envoy", "k8s-app=cilium-envoy"},
	{"Deployment", "hubble-relay", "k8s-app=hubble-relay"},
	{"Deployment", "hubble-ui", "k8s-app=hubble-ui"},
	{"Deployment", "clustermesh-apiserver", "k8s-app=clustermesh-apiserver"},
}

var endpointResource = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumendpoints"}

// Overview asks the API server. Only an API server that does not answer is an error.
func (c *Cluster) Overview(ctx context.Context) (Overview, error) {
	var o Overview
	for i, w := range workloads {
		component, err := c.component(ctx, w.kind, w.name, w.selector)
		switch {
		case err != nil && i == 0 && !apierrors.IsForbidden(err):
			return Overview{}, err
		case err != nil:
			o.Errors = append(o.Errors, err.Error())
		}
		if component.Found || i < 2 {
			o.Components = append(o.Components, component)
		}
	}
	if err := c.countPods(ctx, &o); err != nil {
		o.Errors = append(o.Errors, err.Error())
	}
	return o, nil
}

func (c *Cluster) component(ctx context.Context, kind, name, selector string) (Component, error) {
	out := Component{Kind: kind, Name: name}
	var err error
	switch kind {
	case "DaemonSet":
		var d *appsv1.DaemonSet
		if d, err = c.client.AppsV1().DaemonSets(c.namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			s := d.Status
			out.Found, out.Desired, out.Ready = true, int(s.DesiredNumberScheduled), int(s.NumberReady)
			out.Available, out.Unavailable = int(s.NumberAvailable), int(s.NumberUnavailable)
			if s.ObservedGeneration != d.Generation {
				out.Unavailable = max(out.Unavailable, out.Desired-out.Ready)
			}
		}
	default:
		var d *appsv1.Deployment
		if d, err = c.client.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			out.Found, out.Desired, out.Ready = true, 1, int(d.Status.ReadyReplicas)
			if d.Spec.Replicas != nil {
				out.Desired = int(*d.Spec.Replicas)
			}
			out.Available, out.Unavailable = int(d.Status.AvailableReplicas), int(d.Status.UnavailableReplicas)
		}
	}
	if apierrors.IsNotFound(err) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("get %s %s/%s: %w", kind, c.namespace, name, err)
	}
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return out, fmt.Errorf("list pods of %s: %w", name, err)
	}
	for _, p := range pods.Items {
		pod := ComponentPod{Name: p.Name, Node: p.Spec.NodeName, Phase: string(p.Status.Phase), Problem: problem(&p)}
		for _, c := range p.Spec.Containers {
			pod.Images = append(pod.Images, c.Image)
		}
		out.Pods = append(out.Pods, pod)
	}
	sort.Slice(out.Pods, func(i, j int) bool { return out.Pods[i].Name < out.Pods[j].Name })
	return out, nil
}

// problem is why a pod does not run, in the words of whoever knows: the container runtime, the kubelet or
// the scheduler.
func problem(p *corev1.Pod) string {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			last := ""
			if t := s.LastTerminationState.Terminated; t != nil {
				last = fmt.Sprintf(" (last exit status %d%s)", t.ExitCode, tail(t.Message))
			}
			switch {
			case s.State.Waiting != nil && s.State.Waiting.Reason != "PodInitializing" && s.State.Waiting.Reason != "ContainerCreating":
				return fmt.Sprintf("container %s: %s%s%s", s.Name, s.State.Waiting.Reason, tail(s.State.Waiting.Message), last)
			case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
				return fmt.Sprintf("container %s: %s, exit status %d%s", s.Name, s.State.Terminated.Reason, s.State.Terminated.ExitCode, tail(s.State.Terminated.Message))
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("not scheduled: %s%s", c.Reason, tail(c.Message))
		}
	}
	if p.Status.Phase == corev1.PodFailed {
		return p.Status.Reason + tail(p.Status.Message)
	}
	return ""
}

// tail is the end of a message, on one line.
func tail(message string) string {
	runes := []rune(message)
	for i, r := range runes {
		if r == '\n' {
			runes[i] = ' '
		}
	}
	const most = 300
	if len(runes) > most {
		runes = append([]rune("…"), runes[len(runes)-most:]...)
	}
	if len(runes) == 0 {
		return ""
	}
	return ": " + string(runes)
}

// countPods counts pods that need the network and those of them that have a CiliumEndpoint.
func (c *Cluster) countPods(ctx context.Context, o *Overview) error {
	need := map[string]bool{}
	err := pages(ctx, c.client.CoreV1().Pods("").List, func(list *corev1.PodList) string {
		for _, p := range list.Items {
			if !p.Spec.HostNetwork && (p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending) {
				need[p.Namespace+"/"+p.Name] = true
			}
		}
		return list.Continue
	})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	o.ClusterPods = len(need)
	err = pages(ctx, c.metadata.Resource(endpointResource).List, func(list *metav1.PartialObjectMetadataList) string {
		for _, e := range list.Items {
			if need[e.Namespace+"/"+e.Name] {
				o.Managed++
			}
		}
		return list.Continue
	})
	if apierrors.IsNotFound(err) {
		return nil // the kind is made by the operator, which may not have started yet
	}
	if err != nil {
		return fmt.Errorf("list CiliumEndpoints: %w", err)
	}
	return nil
}

// IsUnreachable says whether an error means that no API server answered.
func IsUnreachable(err error) bool {
	var status apierrors.APIStatus
	return err != nil && !errors.As(err, &status)
}
