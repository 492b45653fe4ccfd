package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// Masked stands for what a dump does not tell: the content of Secrets, and of annotations that repeat it.
const Masked = "XXXXXX"

// resource is a kind of objects that a dump holds.
type resource struct {
	group, version, plural string
	namespaced             bool // only those in the agents' namespace
}

var dumped = []resource{
	{"", "v1", "nodes", false}, {"", "v1", "namespaces", false}, {"", "v1", "pods", false}, {"", "v1", "services", false},
	{"", "v1", "events", false}, {"discovery.k8s.io", "v1", "endpointslices", false}, {"coordination.k8s.io", "v1", "leases", true},
	{"networking.k8s.io", "v1", "networkpolicies", false}, {"networking.k8s.io", "v1", "ingresses", false}, {"networking.k8s.io", "v1", "ingressclasses", false},
	{"policy.networking.k8s.io", "v1alpha1", "adminnetworkpolicies", false}, {"policy.networking.k8s.io", "v1alpha1", "baselineadminnetworkpolicies", false},
	{"policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies", false},
	{"apps", "v1", "daemonsets", true}, {"apps", "v1", "deployments", true}, {"", "v1", "configmaps", true}, {"", "v1", "secrets", true},
	{"apiextensions.k8s.io", "v1", "customresourcedefinitions", false},
	{"gateway.networking.k8s.io", "v1", "gateways", false}, {"gateway.networking.k8s.io", "v1", "gatewayclasses", false}, {"gateway.networking.k8s.io", "v1", "httproutes", false},
}

// Dump writes what the API server knows, one call of put for each file. A part that cannot be had is
// told to failed and does not end the dump; put's error does.
func (c *Cluster) Dump(ctx context.Context, put func(name string, content []byte) error, failed func(error)) error {
	client, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	list := append(append([]resource(nil), dumped...), c.ciliumKinds()...)
	for _, r := range list {
		content, err := c.dumpKind(ctx, client, r)
		if apierrors.IsNotFound(err) {
			continue // the cluster does not have this kind
		}
		if err != nil {
			failed(err)
			continue
		}
		if err := put(r.plural, content); err != nil {
			return err
		}
	}
	return nil
}

// ciliumKinds are the kinds of cilium.io that the cluster has.
func (c *Cluster) ciliumKinds() (out []resource) {
	groups, err := c.client.Discovery().ServerGroups()
	if err != nil {
		return nil
	}
	for _, g := range groups.Groups {
		if g.Name != endpointResource.Group {
			continue
		}
		seen := map[string]bool{}
		for _, v := range g.Versions {
			list, err := c.client.Discovery().ServerResourcesForGroupVersion(v.GroupVersion)
			if err != nil {
				continue
			}
			for _, r := range list.APIResources {
				if !seen[r.Name] && !strings.Contains(r.Name, "/") {
					seen[r.Name] = true
					out = append(out, resource{g.Name, v.Version, r.Name, false})
				}
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].plural < out[j].plural })
	return out
}

func (c *Cluster) dumpKind(ctx context.Context, client dynamic.Interface, r resource) ([]byte, error) {
	gvr := schema.GroupVersionResource{Group: r.group, Version: r.version, Resource: r.plural}
	var from dynamic.ResourceInterface = client.Resource(gvr)
	if r.namespaced {
		from = client.Resource(gvr).Namespace(c.namespace)
	}
	all := &unstructured.UnstructuredList{}
	err := pages(ctx, from.List, func(list *unstructured.UnstructuredList) string {
		if all.Object == nil {
			all.Object = list.Object
		}
		all.Items = append(all.Items, list.Items...)
		return list.GetContinue()
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.plural, err)
	}
	for i := range all.Items {
		mask(&all.Items[i], r.plural == "secrets")
	}
	all.SetContinue("")
	raw, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.plural, err)
	}
	return yaml.JSONToYAML(raw)
}

// mask takes secrets and what repeats them out of an object.
func mask(o *unstructured.Unstructured, secret bool) {
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		a[corev1.LastAppliedConfigAnnotation] = Masked
		o.SetAnnotations(a)
	}
	if !secret {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		m, ok, err := unstructured.NestedMap(o.Object, field)
		if !ok || err != nil {
			continue
		}
		for k := range m {
			m[k] = Masked
		}
		o.Object[field] = m
	}
}

// LogOptions limit what is read of a log.
type LogOptions struct {
	Since time.Duration // 0 is all
	Bytes int64         // 0 is all
}

// Logs writes the logs of the network's pods: put gets pod, container, and whether it is the log of the
// container's earlier life.
func (c *Cluster) Logs(ctx context.Context, nodes []string, o LogOptions, put func(pod, container string, previous bool, content []byte) error, failed func(error)) error {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=cilium"})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for _, p := range pods.Items {
		if !chosen(p.Spec.NodeName, nodes) {
			continue
		}
		for _, s := range append(append([]corev1.ContainerStatus(nil), p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
			for _, previous := range []bool{false, true} {
				if previous && s.RestartCount == 0 {
					continue
				}
				content, err := c.log(ctx, p.Name, s.Name, previous, o)
				if err != nil {
					failed(err)
					continue
				}
				if err := put(p.Name, s.Name, previous, content); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func chosen(node string, nodes []string) bool {
	for _, n := range nodes {
		if n == node {
			return true
		}
	}
	return len(nodes) == 0
}

func (c *Cluster) log(ctx context.Context, pod, container string, previous bool, o LogOptions) ([]byte, error) {
	options := &corev1.PodLogOptions{Container: container, Previous: previous, Timestamps: true}
	if o.Since > 0 {
		seconds := int64(o.Since.Seconds())
		options.SinceSeconds = &seconds
	}
	if o.Bytes > 0 {
		options.LimitBytes = &o.Bytes
	}
	stream, err := c.client.CoreV1().Pods(c.namespace).GetLogs(pod, options).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("log of %s/%s: %w", pod, container, err)
	}
	defer stream.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, stream); err != nil {
		return nil, fmt.Errorf("log of %s/%s: %w", pod, container, err)
	}
	return b.Bytes(), nil
}
