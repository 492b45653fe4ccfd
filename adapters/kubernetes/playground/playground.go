// Package playground is a Kubernetes cluster as the connectivity test sees it: objects are applied by
// server-side apply, and pods and agents are talked to by exec.
package playground

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/ports"
)

// Manager is the field manager of what the test applies.
const Manager = "weir-connectivity-test"

// Labels and names by which agents are found.
const (
	agentSelector  = "k8s-app=cilium"
	agentContainer = "cilium-agent"
	agentDaemonSet = "cilium"
)

// Options say which cluster it is.
type Options struct {
	// Kubeconfig is a path; empty: $KUBECONFIG, then the file in the home directory, then the
	// cluster that the process runs in. Context is one of the file's; empty: its current one.
	Kubeconfig, Context string
	// Config is used instead of a file if it is not nil; Context is then only a name.
	Config *rest.Config
	// AgentNamespace is where the agents run; empty: kube-system.
	AgentNamespace string
	// Tolerations are keys of taints that the test's pods tolerate, NodeSelector labels that their nodes
	// must have.
	Tolerations  []string
	NodeSelector map[string]string
	// Local carries out a job on this machine, for who asks from outside of the cluster; nil: nobody does.
	Local func(context.Context, connectivity.Job) []connectivity.Outcome
}

// Playground implements ports.Playground.
type Playground struct {
	o       Options
	name    string
	config  *rest.Config
	client  kubernetes.Interface
	objects dynamic.Interface

	mu     sync.Mutex
	agents map[string]cluster.Name // by node; nil: not asked yet
}

var _ ports.Playground = (*Playground)(nil)

// Open connects to a cluster. Nothing is asked of it yet.
func Open(o Options) (*Playground, error) {
	if o.AgentNamespace == "" {
		o.AgentNamespace = "kube-system"
	}
	p := &Playground{o: o, name: o.Context, config: o.Config}
	if p.config == nil {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = o.Kubeconfig
		loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
		raw, err := loader.RawConfig()
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig: %w", err)
		}
		if p.name == "" {
			p.name = raw.CurrentContext
		}
		if p.config, err = loader.ClientConfig(); err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
	}
	p.config = rest.CopyConfig(p.config)
	p.config.QPS, p.config.Burst = 100, 200
	p.config.UserAgent = Manager
	p.config.WarningHandler = rest.NoWarnings{} // that externalIPs are deprecated is known: they are tested for those who have them
	var err error
	if p.client, err = kubernetes.NewForConfig(p.config); err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	if p.objects, err = dynamic.NewForConfig(p.config); err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return p, nil
}

// Cluster implements ports.Playground.
func (p *Playground) Cluster() string {
	if p.name == "" {
		return "cluster"
	}
	return p.name
}

// Image implements ports.Playground.
func (p *Playground) Image(ctx context.Context) (string, error) {
	ds, err := p.client.AppsV1().DaemonSets(p.o.AgentNamespace).Get(ctx, agentDaemonSet, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("there is no DaemonSet %s/%s: %w", p.o.AgentNamespace, agentDaemonSet, ports.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("read the agents' DaemonSet: %w", err)
	}
	for _, c := range ds.Spec.Template.Spec.Containers {
		if c.Name == agentContainer {
			return c.Image, nil
		}
	}
	return "", fmt.Errorf("DaemonSet %s/%s has no container %s: %w", p.o.AgentNamespace, agentDaemonSet, agentContainer, ports.ErrNotFound)
}

// Nodes implements ports.Playground.
func (p *Playground) Nodes(ctx context.Context) ([]connectivity.Node, error) {
	list, err := p.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	agents, err := p.findAgents(ctx)
	if err != nil {
		return nil, err
	}
	var out []connectivity.Node
	for _, n := range list.Items {
		c := connectivity.Node{Name: n.Name, Unfit: p.unfit(&n)}
		if _, ok := agents[n.Name]; !ok && c.Unfit == "" {
			c.Unfit = "no agent runs there"
		}
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
				c.Addresses = append(c.Addresses, addr.Unmap())
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b connectivity.Node) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// unfit says why the test's pods cannot be put on a node.
func (p *Playground) unfit(n *corev1.Node) string {
	ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	switch {
	case n.Spec.Unschedulable:
		return "cordoned"
	case !ready:
		return "not ready"
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !slices.Contains(p.o.Tolerations, t.Key) {
			return "has the taint " + t.Key
		}
	}
	for k, v := range p.o.NodeSelector {
		if got, ok := n.Labels[k]; !ok || got != v {
			return fmt.Sprintf("lacks the label %s=%s", k, v)
		}
	}
	return ""
}

// Pods implements ports.Playground. Pods on their way out are left out.
func (p *Playground) Pods(ctx context.Context, namespace string) ([]connectivity.Pod, error) {
	list, err := p.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: connectivity.OwnerLabel})
	if err != nil {
		return nil, err
	}
	var out []connectivity.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp != nil {
			continue
		}
		c := connectivity.Pod{
			Name: cluster.Name{Namespace: pod.Namespace, Name: pod.Name}, Role: pod.Labels["name"],
			Node: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork,
		}
		for _, ip := range pod.Status.PodIPs {
			if a, err := netip.ParseAddr(ip.IP); err == nil {
				c.IPs = append(c.IPs, a.Unmap())
			}
		}
		for _, s := range pod.Status.ContainerStatuses {
			c.Restarts += int(s.RestartCount)
		}
		if c.Problem = problemOf(&pod); c.Problem == "" {
			c.Ready = true
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b connectivity.Pod) int { return strings.Compare(a.Name.Name, b.Name.Name) })
	return out, nil
}

// problemOf says why a pod is not ready; empty if it is.
func problemOf(pod *corev1.Pod) string {
	problem := strings.ToLower(string(pod.Status.Phase))
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			return ""
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			problem = "not scheduled: " + c.Message
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating":
			problem = strings.TrimSpace(c.State.Waiting.Reason + " " + c.State.Waiting.Message)
		case c.State.Terminated != nil:
			problem = fmt.Sprintf("ended with status %d %s", c.State.Terminated.ExitCode, c.State.Terminated.Message)
		}
	}
	if problem == "" {
		return "not ready"
	}
	return problem
}

// Services implements ports.Playground.
func (p *Playground) Services(ctx context.Context, namespace string) ([]connectivity.Service, error) {
	list, err := p.client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []connectivity.Service
	for _, s := range list.Items {
		c := connectivity.Service{
			Name: cluster.Name{Namespace: s.Namespace, Name: s.Name}, Type: string(s.Spec.Type),
			ClusterIPs: addrs(s.Spec.ClusterIPs), ExternalIPs: addrs(s.Spec.ExternalIPs),
		}
		for _, i := range s.Status.LoadBalancer.Ingress {
			c.Ingress = append(c.Ingress, addrs([]string{i.IP})...)
		}
		for _, port := range s.Spec.Ports {
			c.Ports = append(c.Ports, connectivity.ServicePort{Name: port.Name, Port: uint16(port.Port), NodePort: uint16(port.NodePort)})
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b connectivity.Service) int { return strings.Compare(a.Name.Name, b.Name.Name) })
	return out, nil
}

// addrs reads addresses and leaves out what is none.
func addrs(texts []string) (out []netip.Addr) {
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// APIServers implements ports.Playground.
func (p *Playground) APIServers(ctx context.Context) ([]netip.AddrPort, error) {
	list, err := p.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=kubernetes",
	})
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			for _, a := range addrs(e.Addresses) {
				for _, port := range s.Ports {
					if port.Port != nil {
						out = append(out, netip.AddrPortFrom(a, uint16(*port.Port)))
					}
				}
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out, nil
}

// DeleteNamespace implements ports.Playground.
func (p *Playground) DeleteNamespace(ctx context.Context, namespace string) error {
	for {
		err := p.client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete namespace %s: %w", namespace, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("namespace %s is still there: %w", namespace, ctx.Err()), err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}
