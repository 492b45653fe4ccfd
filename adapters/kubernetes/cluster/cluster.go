// Package cluster is what the command line does with a cluster besides installing: finding out how it is
// set up, how the network's parts are, changing their configuration, running commands in the agents'
// pods, and collecting what is needed to find a fault. Kubernetes' own types do not leave it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// Names of what the chart installs.
const (
	AgentSelector     = "k8s-app=cilium"
	AgentContainer    = "cilium-agent"
	AgentDaemonSet    = "cilium"
	OperatorName      = "cilium-operator"
	ConfigMap         = "cilium-config"
	DefaultNamespace  = "kube-system"
	fieldManager      = "weir"
	restartAnnotation = "kubectl.kubernetes.io/restartedAt"
)

// ErrNotFound says that the cluster has no such object.
var ErrNotFound = errors.New("not found")

// Options say which cluster is meant, and where in it the agents are.
type Options struct {
	Kubeconfig string // path; empty: what kubectl would take
	Context    string // of the kubeconfig; empty: its current one
	As         string // impersonated user
	AsGroups   []string
	Namespace  string // of the agents
}

// Cluster is a connection to an API server. It may be used by several goroutines.
type Cluster struct {
	config    *rest.Config
	client    kubernetes.Interface
	metadata  metadata.Interface
	raw       clientapi.Config
	context   string
	namespace string
}

// Open reads the kubeconfig. Nothing is sent yet.
func Open(o Options) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	overrides.AuthInfo.Impersonate, overrides.AuthInfo.ImpersonateGroups = o.As, o.AsGroups
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	c := &Cluster{config: config, raw: raw, context: o.Context, namespace: o.Namespace}
	if c.context == "" {
		c.context = raw.CurrentContext
	}
	if c.namespace == "" {
		c.namespace = DefaultNamespace
	}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	if c.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return c, nil
}

// Configured says whether there is a kubeconfig, or a service account, to connect with.
func Configured(getenv func(string) string) bool {
	for _, path := range filepath.SplitList(getenv("KUBECONFIG")) {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	if home := getenv("HOME"); home != "" {
		if _, err := os.Stat(filepath.Join(home, ".kube", "config")); err == nil {
			return true
		}
	}
	return getenv("KUBERNETES_SERVICE_HOST") != ""
}

// Namespace is where the agents are.
func (c *Cluster) Namespace() string { return c.namespace }

// Name is a cluster's name derived from the kubeconfig: that of the context's cluster, in letters that
// cluster.name may have; empty if nothing is left.
func (c *Cluster) Name() string {
	name := c.context
	if ctx := c.raw.Contexts[c.context]; ctx != nil && ctx.Cluster != "" {
		name = ctx.Cluster
	}
	return clusterName(name)
}

// clusterName keeps lower-case letters, digits and dashes, at most 32 of them, none a dash at an end.
func clusterName(name string) string {
	name = name[strings.LastIndexAny(name, "/@:")+1:]
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	out := b.String()
	return strings.Trim(out[:min(len(out), 32)], "-")
}

// Server is the host and port under which this side reaches the API server.
func (c *Cluster) Server() (host, port string, err error) { return splitURL(c.config.Host) }

func splitURL(server string) (host, port string, err error) {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", "", fmt.Errorf("API server %q: %w", server, err)
	}
	port = u.Port()
	if port == "" {
		port = map[string]string{"http": "80"}[u.Scheme]
	}
	if port == "" {
		port = "443"
	}
	return u.Hostname(), port, nil
}

// Version is that of the API server, as v1.30.0.
func (c *Cluster) Version() (string, error) {
	v, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("API server: %w", err)
	}
	return v.GitVersion, nil
}

// AdvertisedServer is where the cluster's own nodes reach the API server: what kubeadm's ConfigMap
// cluster-info says, else the address behind the Service "kubernetes". ErrNotFound if neither is there.
func (c *Cluster) AdvertisedServer(ctx context.Context) (host, port string, err error) {
	info, err := c.client.CoreV1().ConfigMaps("kube-public").Get(ctx, "cluster-info", metav1.GetOptions{})
	if err == nil {
		k, err := clientcmd.Load([]byte(info.Data["kubeconfig"]))
		if err == nil {
			for _, cluster := range k.Clusters {
				if cluster.Server != "" {
					return splitURL(cluster.Server)
				}
			}
		}
	} else if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return "", "", fmt.Errorf("get ConfigMap kube-public/cluster-info: %w", err)
	}
	slices, err := c.client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=kubernetes"})
	if err != nil {
		return "", "", fmt.Errorf("list EndpointSlices of default/kubernetes: %w", err)
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			for _, p := range s.Ports {
				if len(e.Addresses) > 0 && p.Port != nil && !net.ParseIP(e.Addresses[0]).IsLoopback() {
					return e.Addresses[0], fmt.Sprint(*p.Port), nil
				}
			}
		}
	}
	return "", "", fmt.Errorf("address of the API server: %w", ErrNotFound)
}

// ServiceAddress is the address of the Service "kubernetes", which an agent that replaces kube-proxy
// cannot use to reach the API server. Empty if there is none.
func (c *Cluster) ServiceAddress(ctx context.Context) (string, error) {
	s, err := c.client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("get Service default/kubernetes: %w", err)
	}
	return s.Spec.ClusterIP, nil
}

// KubeProxy says whether pods of kube-proxy are there.
func (c *Cluster) KubeProxy(ctx context.Context) (bool, error) {
	for _, selector := range []string{"k8s-app=kube-proxy", "component=kube-proxy"} {
		pods, err := c.client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: 1})
		if err != nil {
			return false, fmt.Errorf("list pods of kube-proxy: %w", err)
		}
		if len(pods.Items) > 0 {
			return true, nil
		}
	}
	sets, err := c.client.AppsV1().DaemonSets("kube-system").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=kube-proxy", Limit: 1})
	if err != nil {
		return false, fmt.Errorf("list DaemonSets of kube-proxy: %w", err)
	}
	return len(sets.Items) > 0, nil
}

// Nodes is how the cluster's nodes look.
type Nodes struct {
	Count          int
	WithoutPodCIDR int // nodes that have no pod range, which ipam.mode=kubernetes needs
}

// Nodes counts the nodes.
func (c *Cluster) Nodes(ctx context.Context) (Nodes, error) {
	var out Nodes
	err := pages(ctx, c.client.CoreV1().Nodes().List, func(list *corev1.NodeList) string {
		for _, n := range list.Items {
			out.Count++
			if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) == 0 {
				out.WithoutPodCIDR++
			}
		}
		return list.Continue
	})
	if err != nil {
		return Nodes{}, fmt.Errorf("list nodes: %w", err)
	}
	return out, nil
}

// pages reads a long list part by part.
func pages[L any](ctx context.Context, list func(context.Context, metav1.ListOptions) (L, error), take func(L) (next string)) error {
	for o := (metav1.ListOptions{Limit: 500}); ; {
		part, err := list(ctx, o)
		if err != nil {
			return err
		}
		if o.Continue = take(part); o.Continue == "" {
			return nil
		}
	}
}
