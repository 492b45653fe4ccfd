package manifest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// The shapes of what nodes publish; field names are Cilium's.

type objectMeta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	OwnerReferences []ownerReference  `json:"ownerReferences,omitempty"`
}

// ownerReference says whose end is the object's end, too.
type ownerReference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

type ciliumIdentity struct {
	APIVersion     string            `json:"apiVersion"`
	Kind           string            `json:"kind"`
	Metadata       objectMeta        `json:"metadata"`
	SecurityLabels map[string]string `json:"security-labels"`
}

type ciliumNode struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   objectMeta     `json:"metadata"`
	Spec       ciliumNodeSpec `json:"spec"`
}

type ciliumNodeSpec struct {
	Addresses []nodeAddress `json:"addresses,omitempty"`
	IPAM      nodeIPAM      `json:"ipam"`
}

type nodeAddress struct {
	Type string `json:"type"`
	IP   string `json:"ip"`
}

type nodeIPAM struct {
	PodCIDRs []string `json:"podCIDRs,omitempty"`
}

type ciliumEndpoint struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   objectMeta     `json:"metadata"`
	Status     endpointStatus `json:"status"`
}

type endpointStatus struct {
	ID         uint16             `json:"id"`
	State      string             `json:"state"`
	Identity   *endpointIdentity  `json:"identity,omitempty"`
	Networking endpointNetworking `json:"networking"`
	External   externalIDs        `json:"external-identifiers"`
	Policy     endpointPolicy     `json:"policy"`
	Encryption struct{}           `json:"encryption"`
	Ports      []endpointPort     `json:"named-ports,omitempty"`
	Account    string             `json:"service-account,omitempty"`
}

type endpointIdentity struct {
	ID     int64    `json:"id"`
	Labels []string `json:"labels,omitempty"`
}

type endpointNetworking struct {
	Addressing []addressPair `json:"addressing"`
	Node       string        `json:"node,omitempty"`
}

type addressPair struct {
	IPv4 string `json:"ipv4,omitempty"`
	IPv6 string `json:"ipv6,omitempty"`
}

type externalIDs struct {
	Container string `json:"container-id,omitempty"`
	Namespace string `json:"k8s-namespace"`
	Pod       string `json:"k8s-pod-name"`
	PodName   string `json:"pod-name"`
	CEPName   string `json:"cep-name"`
}

// endpointPolicy says in which directions policies isolate the endpoint. What they allow is asked of the node's agent:
// writing it here would cost every node a write for each change of a policy.
type endpointPolicy struct {
	Ingress directionPolicy `json:"ingress"`
	Egress  directionPolicy `json:"egress"`
}

type directionPolicy struct {
	Enforcing bool   `json:"enforcing"`
	State     string `json:"state"`
}

func directionOf(enforced bool) directionPolicy {
	if enforced {
		return directionPolicy{Enforcing: true, State: "enforcing"}
	}
	return directionPolicy{State: "disabled"}
}

type endpointPort struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
}

const (
	ciliumV2       = "cilium.io/v2"
	ciliumV2Alpha1 = "cilium.io/v2alpha1"
)

// EncodeIdentity writes a CiliumIdentity. The error names a label that the kind can't hold: its
// labels come from Kubernetes.
func EncodeIdentity(id identity.ID, ls labels.Set) ([]byte, error) {
	o := ciliumIdentity{APIVersion: ciliumV2, Kind: KindCiliumIdentity,
		Metadata:       objectMeta{Name: fmt.Sprint(uint32(id)), Labels: map[string]string{}},
		SecurityLabels: map[string]string{}}
	if !id.IsCluster() {
		return nil, fmt.Errorf("encode identity %d: not a cluster identity; allowed: %d to %d", uint32(id), identity.MinCluster, identity.MaxCluster)
	}
	if ls.Len() == 0 {
		return nil, fmt.Errorf("encode identity %d: no labels", uint32(id))
	}
	for _, l := range ls.All() {
		if l.Source != labels.SourceK8s {
			return nil, fmt.Errorf("encode identity %d: label %s: source must be %s", uint32(id), l, labels.SourceK8s)
		}
		o.SecurityLabels[l.Source+":"+l.Key] = l.Value
		// Derived labels may be longer than Kubernetes allows on an object; readers search by the rest.
		if checkLabelKey(l.Key) == "" && checkLabelValue(l.Value) == "" {
			o.Metadata.Labels[l.Key] = l.Value
		}
	}
	return indent(o)
}

// EncodeNode writes a CiliumNode.
func EncodeNode(n cluster.Node) ([]byte, error) {
	o := ciliumNode{APIVersion: ciliumV2, Kind: KindCiliumNode, Metadata: objectMeta{Name: n.Name, Labels: n.Labels}}
	if !validName(n.Name) {
		return nil, fmt.Errorf("encode node %q: not a name", n.Name)
	}
	for _, a := range n.Addresses {
		o.Spec.Addresses = append(o.Spec.Addresses, nodeAddress{"InternalIP", a.String()})
	}
	for _, a := range n.Routers {
		o.Spec.Addresses = append(o.Spec.Addresses, nodeAddress{"CiliumInternalIP", a.String()})
	}
	for _, p := range n.PodCIDRs {
		o.Spec.IPAM.PodCIDRs = append(o.Spec.IPAM.PodCIDRs, p.String())
	}
	return indent(o)
}

// EncodeEndpoint writes a CiliumEndpoint. ls are the labels of its identity, for readers; the empty
// set leaves them out.
func EncodeEndpoint(e cluster.Endpoint, ls labels.Set) ([]byte, error) {
	if !validNamespace(e.Name.Namespace) || !validName(e.Name.Name) {
		return nil, fmt.Errorf("encode endpoint %s: not a name", e.Name)
	}
	o := ciliumEndpoint{APIVersion: ciliumV2, Kind: KindCiliumEndpoint,
		Metadata: objectMeta{Name: e.Name.Name, Namespace: e.Name.Namespace},
		Status: endpointStatus{ID: e.ID, State: "ready",
			Networking: endpointNetworking{Addressing: pairs(e.IPs)},
			External: externalIDs{Container: e.ContainerID, Namespace: e.Name.Namespace, Pod: e.Name.Name,
				PodName: e.Name.String(), CEPName: e.Name.String()},
			Policy: endpointPolicy{directionOf(e.EnforceIngress), directionOf(e.EnforceEgress)}}}
	if e.UID != "" {
		o.Metadata.OwnerReferences = []ownerReference{{"v1", "Pod", e.Name.Name, e.UID}}
	}
	if e.Node != "" {
		o.Metadata.Annotations = map[string]string{NodeAnnotation: e.Node}
	}
	if e.NodeIP.IsValid() {
		o.Status.Networking.Node = e.NodeIP.String()
	}
	if e.Identity != identity.Unknown {
		o.Status.Identity = &endpointIdentity{ID: int64(e.Identity), Labels: ls.Strings()}
		o.Status.Account, _ = ls.Get(labels.SourceK8s, labels.KeyServiceAccount)
	}
	for _, p := range e.Ports {
		if p.Name != "" {
			o.Status.Ports = append(o.Status.Ports, endpointPort{p.Name, p.Port, datapath.ProtoName(p.Proto)})
		}
	}
	return indent(o)
}

// pairs puts addresses into Cilium's pairs of one IPv4 and one IPv6 address.
func pairs(ips []netip.Addr) []addressPair {
	out := []addressPair{}
	for rest := ips; len(rest) > 0; {
		v4, v6 := first(rest)
		var p addressPair
		if v4.IsValid() {
			p.IPv4 = v4.String()
		}
		if v6.IsValid() {
			p.IPv6 = v6.String()
		}
		out = append(out, p)
		var left []netip.Addr
		for _, a := range rest {
			if a != v4 && a != v6 {
				left = append(left, a)
			}
		}
		rest = left
	}
	return out
}

func indent(o any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(o); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}
