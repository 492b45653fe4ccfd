package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
)

// detection completes values by what can be seen of a cluster, and refuses what cannot work there.
// Values that are set stay as they are.
type detection struct {
	g      *globals
	say    io.Writer
	cl     clusterAccess
	values map[string]any
}

func (d *detection) run(ctx context.Context) error {
	if _, err := d.cl.Version(); err != nil {
		return err
	}
	if helm.At(d.values, "cluster", "name") == nil {
		if name := d.cl.Name(); name != "" {
			helm.Put(d.values, name, "cluster", "name")
			fmt.Fprintf(d.say, "🔮 Auto-detected cluster name: %s\n", name)
		}
	}
	proxy, err := d.cl.KubeProxy(ctx)
	if err != nil {
		return err
	}
	if err := d.kubeProxy(proxy); err != nil {
		return err
	}
	if on(helm.At(d.values, "kubeProxyReplacement")) {
		if err := d.server(ctx, proxy); err != nil {
			return err
		}
	}
	return d.nodes(ctx)
}

func on(v any) bool { return fmt.Sprint(v) == "true" }

func (d *detection) kubeProxy(there bool) error {
	if there {
		fmt.Fprintln(d.say, "🔮 Auto-detected kube-proxy has been installed")
		if on(helm.At(d.values, "kubeProxyReplacement")) {
			fmt.Fprintln(d.say, "⚠️  kube-proxy goes on beside weir: remove it with 'kubectl -n kube-system delete daemonset kube-proxy', and its rules from the nodes")
		}
		return nil
	}
	fmt.Fprintln(d.say, "🔮 Auto-detected kube-proxy has not been installed")
	if helm.At(d.values, "kubeProxyReplacement") == nil {
		helm.Put(d.values, true, "kubeProxyReplacement")
		fmt.Fprintln(d.say, "ℹ️  weir will replace all of kube-proxy (kubeProxyReplacement=true)")
	}
	return nil
}

// server fills in the API server's address. Without kube-proxy nobody serves the Service "kubernetes" until
// an agent runs, and the agent needs the API server to run.
func (d *detection) server(ctx context.Context, proxy bool) error {
	service, err := d.cl.ServiceAddress(ctx)
	if err != nil {
		return err
	}
	host := fmt.Sprint(helm.At(d.values, "k8sServiceHost"))
	if helm.At(d.values, "k8sServiceHost") == nil {
		host = ""
	}
	switch {
	case host != "" && host == service:
		return fmt.Errorf("k8sServiceHost: %s is the address of the Service default/kubernetes, which the agents would have to serve before they can reach it; allowed: the address of the API server itself", host)
	case host != "", helm.At(d.values, "k8sServiceHostRef", "name") != nil:
		return nil
	}
	host, port, err := d.cl.AdvertisedServer(ctx)
	if errors.Is(err, cluster.ErrNotFound) {
		host, port, err = d.cl.Server()
	}
	if err != nil {
		return err
	}
	if a, err := netip.ParseAddr(host); host == "localhost" || err == nil && (a.IsLoopback() || host == service) {
		if proxy {
			return nil // somebody serves the Service
		}
		return errors.New("k8sServiceHost: the cluster does not tell where its nodes reach the API server, and there is no kube-proxy; give --set k8sServiceHost=ADDRESS --set k8sServicePort=PORT")
	}
	helm.Put(d.values, host, "k8sServiceHost")
	if helm.At(d.values, "k8sServicePort") == nil {
		helm.Put(d.values, port, "k8sServicePort")
	}
	fmt.Fprintf(d.say, "🔮 Auto-detected API server: %s:%s\n", host, fmt.Sprint(helm.At(d.values, "k8sServicePort")))
	return nil
}

func (d *detection) nodes(ctx context.Context) error {
	n, err := d.cl.Nodes(ctx)
	if err != nil {
		return err
	}
	if n.Count == 1 && helm.At(d.values, "operator", "replicas") == nil {
		helm.Put(d.values, int64(1), "operator", "replicas")
		fmt.Fprintln(d.say, "🔮 Auto-detected a single node: one operator (operator.replicas=1)")
	}
	if n.WithoutPodCIDR > 0 && fmt.Sprint(helm.At(d.values, "ipam", "mode")) == "kubernetes" {
		fmt.Fprintf(d.say, "⚠️  ipam.mode=kubernetes: %d of %d nodes have no spec.podCIDR; their agents wait until they get one (kube-controller-manager --allocate-node-cidrs)\n", n.WithoutPodCIDR, n.Count)
	}
	return nil
}
