package helm

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// Target is a release in a cluster.
type Target struct {
	Kubeconfig string // path; empty: what kubectl would take
	Context    string // of the kubeconfig; empty: its current one
	As         string // impersonated user; empty: none
	AsGroups   []string
	Namespace  string
	Release    string
}

// restGetter gives Helm its way to the cluster. What the server offers is asked anew by every process:
// a cache on disk would outlive the cluster it was filled from.
type restGetter struct {
	config    clientcmd.ClientConfig
	discovery discovery.CachedDiscoveryInterface
}

func newGetter(t Target) *restGetter {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = t.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: t.Context, Context: clientapi.Context{Namespace: t.Namespace}}
	overrides.AuthInfo.Impersonate, overrides.AuthInfo.ImpersonateGroups = t.As, t.AsGroups
	return &restGetter{config: clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)}
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (g *restGetter) ToRESTConfig() (*rest.Config, error) {
	c, err := g.config.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	c.QPS, c.Burst = 50, 100
	return c, nil
}

// ToDiscoveryClient implements genericclioptions.RESTClientGetter.
func (g *restGetter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if g.discovery == nil {
		c, err := g.ToRESTConfig()
		if err != nil {
			return nil, err
		}
		d, err := discovery.NewDiscoveryClientForConfig(c)
		if err != nil {
			return nil, err
		}
		g.discovery = memory.NewMemCacheClient(d)
	}
	return g.discovery, nil
}

// ToRESTMapper implements genericclioptions.RESTClientGetter.
func (g *restGetter) ToRESTMapper() (meta.RESTMapper, error) {
	d, err := g.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewDeferredDiscoveryRESTMapper(d), nil
}

// ToRawKubeConfigLoader implements genericclioptions.RESTClientGetter.
func (g *restGetter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.config }
