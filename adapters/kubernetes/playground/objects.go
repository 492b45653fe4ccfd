package playground

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/manifest"
)

// resources are the kinds that the test makes, by group and kind, with their names in paths.
var resources = map[schema.GroupKind]string{
	{Kind: "Namespace"}:                                 "namespaces",
	{Kind: "ServiceAccount"}:                            "serviceaccounts",
	{Kind: "Service"}:                                   "services",
	{Group: "apps", Kind: "Deployment"}:                 "deployments",
	{Group: "apps", Kind: "DaemonSet"}:                  "daemonsets",
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}: "networkpolicies",
	{Group: "cilium.io", Kind: "CiliumNetworkPolicy"}:   "ciliumnetworkpolicies",

	{Group: "cilium.io", Kind: "CiliumClusterwideNetworkPolicy"}: "ciliumclusterwidenetworkpolicies",
	{Group: "cilium.io", Kind: "CiliumCIDRGroup"}:                "ciliumcidrgroups",
}

// policyResources are those that DeletePolicies empties, those of the whole cluster apart.
var policyResources = map[bool][]schema.GroupVersionResource{
	false: {
		{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
		{Group: "cilium.io", Version: "v2", Resource: "ciliumnetworkpolicies"},
	},
	true: {
		{Group: "cilium.io", Version: "v2", Resource: "ciliumclusterwidenetworkpolicies"},
		{Group: "cilium.io", Version: "v2", Resource: "ciliumcidrgroups"},
	},
}

// Apply implements ports.Playground.
func (p *Playground) Apply(ctx context.Context, docs ...connectivity.Document) error {
	return p.each(docs, func(o *unstructured.Unstructured, r dynamic.ResourceInterface) error {
		options := metav1.ApplyOptions{FieldManager: Manager, Force: true}
		status, hasStatus := o.Object["status"]
		delete(o.Object, "status")
		if _, err := r.Apply(ctx, o.GetName(), o, options); err != nil || !hasStatus {
			return err
		}
		delete(o.Object, "spec")
		o.Object["status"] = status
		_, err := r.ApplyStatus(ctx, o.GetName(), o, options)
		return err
	})
}

// Delete implements ports.Playground.
func (p *Playground) Delete(ctx context.Context, docs ...connectivity.Document) error {
	return p.each(docs, func(o *unstructured.Unstructured, r dynamic.ResourceInterface) error {
		err := r.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// each does something with every object of the documents and goes on after an error.
func (p *Playground) each(docs []connectivity.Document, do func(*unstructured.Unstructured, dynamic.ResourceInterface) error) error {
	var errs []error
	for _, d := range docs {
		for _, part := range manifest.SplitYAML(d.Content) {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(part, &o.Object); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
				continue
			}
			r, err := p.resource(o)
			if err == nil {
				err = do(o, r)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err))
			}
		}
	}
	return errors.Join(errs...)
}

func (p *Playground) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	name, ok := resources[gvk.GroupKind()]
	if !ok {
		return nil, fmt.Errorf("%s is no kind of the connectivity test", gvk)
	}
	r := p.objects.Resource(gvk.GroupVersion().WithResource(name))
	if ns := o.GetNamespace(); ns != "" {
		return r.Namespace(ns), nil
	}
	return r, nil
}

// DeletePolicies implements ports.Playground. A kind that the cluster does not have is no error.
func (p *Playground) DeletePolicies(ctx context.Context, namespace string) error {
	var errs []error
	remove := func(resource string, r dynamic.ResourceInterface, selector string) {
		err := r.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: selector})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete %s: %w", resource, err))
		}
	}
	for _, r := range policyResources[false] {
		remove(r.Resource, p.objects.Resource(r).Namespace(namespace), connectivity.OwnerLabel)
	}
	for _, r := range policyResources[true] {
		remove(r.Resource, p.objects.Resource(r), connectivity.OwnerLabel+","+connectivity.NamespaceLabel+"="+namespace)
	}
	return errors.Join(errs...)
}
