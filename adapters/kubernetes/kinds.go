package kubernetes

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weirnet/weir/core/manifest"
)

// kind is one kind of object that is watched.
type kind struct {
	name     string // manifest.Kind…
	resource string
	group    schema.GroupVersion
	fields   string // selects among them; empty: all
	optional bool   // a cluster may lack its definition: while it is missing there are no objects
	// trim makes the document that manifest.Decode takes of a typed object, with the fields that it looks at
	// and no others. nil: objects are read as JSON, just as the server has them.
	trim func(runtime.Object) any
}

// custom says whether the kind exists only once somebody installed its definition.
func (k kind) custom() bool { return k.group.Group == groupCilium.Group }

// crd is the name of the kind's definition.
func (k kind) crd() string { return k.resource + "." + k.group.Group }

// kinds lists what a store watches.
//
// Policies and what they are made of are read as JSON although there is protobuf for one of them: a field that a newer server knows and
// this program doesn't has to be seen, since it may narrow what a rule allows.
func kinds(o Options) []kind {
	pods := ""
	if o.Node != "" {
		pods = "spec.nodeName=" + o.Node
	}
	node := trimNode
	if o.ClusterPool {
		node = trimNodeWithoutRanges
	}
	out := []kind{
		{name: manifest.KindNode, resource: "nodes", group: groupCore, trim: node},
		{name: manifest.KindNamespace, resource: "namespaces", group: groupCore, trim: trimNamespace},
		{name: manifest.KindPod, resource: "pods", group: groupCore, fields: pods, trim: trimPod},
		{name: manifest.KindService, resource: "services", group: groupCore, trim: trimService},
		{name: manifest.KindEndpointSlice, resource: "endpointslices", group: groupDiscovery, trim: trimEndpointSlice},
		{name: manifest.KindNetworkPolicy, resource: "networkpolicies", group: groupNetworking},
		{name: manifest.KindCiliumNetworkPolicy, resource: "ciliumnetworkpolicies", group: groupCilium},
		{name: manifest.KindCiliumClusterwideNetworkPolicy, resource: "ciliumclusterwidenetworkpolicies", group: groupCilium},
		{name: manifest.KindCiliumCIDRGroup, resource: "ciliumcidrgroups", group: groupCilium, optional: true},
		{name: manifest.KindClusterNetworkPolicy, resource: "clusternetworkpolicies", group: groupAdmin, optional: true},
		{name: manifest.KindAdminNetworkPolicy, resource: "adminnetworkpolicies", group: groupAdminOld, optional: true},
		{name: manifest.KindBaselineAdminNetworkPolicy, resource: "baselineadminnetworkpolicies", group: groupAdminOld, optional: true},
		{name: manifest.KindCiliumIdentity, resource: identityResource, group: groupCilium},
		{name: manifest.KindCiliumNode, resource: nodeResource, group: groupCilium},
	}
	if o.EndpointSlices {
		return append(out, kind{name: manifest.KindCiliumEndpointSlice, resource: "ciliumendpointslices", group: groupCiliumNew})
	}
	return append(out, kind{name: manifest.KindCiliumEndpoint, resource: endpointResource, group: groupCilium})
}

// meta keeps of an object's metadata what is read.
func meta(m metav1.ObjectMeta, annotations bool) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, Labels: m.Labels, DeletionTimestamp: m.DeletionTimestamp,
	}
	if annotations {
		out.Annotations = m.Annotations
	}
	return out
}

func trimNode(o runtime.Object) any {
	n := o.(*corev1.Node)
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: meta(n.ObjectMeta, false),
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: n.Status.Addresses},
	}
}

// trimNodeWithoutRanges leaves out what a controller-manager may have written all the same: the ranges are the
// CiliumNode's.
func trimNodeWithoutRanges(o runtime.Object) any {
	n := trimNode(o).(*corev1.Node)
	n.Spec = corev1.NodeSpec{}
	return n
}

func trimNamespace(o runtime.Object) any {
	n := o.(*corev1.Namespace)
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: meta(n.ObjectMeta, false),
	}
}

func trimPod(o runtime.Object) any {
	p := o.(*corev1.Pod)
	out := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta(p.ObjectMeta, true),
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName, HostNetwork: p.Spec.HostNetwork,
		},
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs, HostIP: p.Status.HostIP,
		},
	}
	for _, c := range p.Spec.Containers {
		out.Spec.Containers = append(out.Spec.Containers, corev1.Container{Ports: c.Ports})
	}
	for _, c := range p.Spec.InitContainers {
		out.Spec.InitContainers = append(out.Spec.InitContainers, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status})
		}
	}
	return out
}

func trimService(o runtime.Object) any {
	s := o.(*corev1.Service)
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta(s.ObjectMeta, true),
		Spec:       s.Spec,
		Status:     corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
}

func trimEndpointSlice(o runtime.Object) any {
	s := o.(*discoveryv1.EndpointSlice)
	out := &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  meta(s.ObjectMeta, false),
		AddressType: s.AddressType,
		Ports:       s.Ports,
	}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName, Zone: e.Zone, Hints: e.Hints,
		})
	}
	return out
}

// document writes what trim made.
func document(k kind, o runtime.Object) ([]byte, error) {
	doc, err := json.Marshal(k.trim(o))
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", k.name, err)
	}
	return doc, nil
}
