// Package manifest reads Kubernetes and Cilium objects, as JSON, into weir's own terms, and writes
// the objects that nodes publish.
//
// Decode reads one object. It is strict where a mistake would weaken security: in the policy kinds
// an unknown field, a wrong type or value refuses the whole object, with one finding for each fault. Parts of a
// policy that are right and that weir doesn't enforce fail closed, with a warning. Assembler puts objects together
// into the events that an engine takes: it joins Node with CiliumNode, derives the backends of services that nobody
// wrote an EndpointSlice for, and puts the prefixes of CIDR groups into the policies that use them.
//
// The package is pure. Decode may be called from anywhere at any time; an Assembler has one caller.
package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// Kinds that Decode understands.
const (
	KindNode                           = "Node"
	KindNamespace                      = "Namespace"
	KindPod                            = "Pod"
	KindService                        = "Service"
	KindEndpointSlice                  = "EndpointSlice"
	KindNetworkPolicy                  = "NetworkPolicy"
	KindCiliumNetworkPolicy            = "CiliumNetworkPolicy"
	KindCiliumClusterwideNetworkPolicy = "CiliumClusterwideNetworkPolicy"
	KindClusterNetworkPolicy           = "ClusterNetworkPolicy"
	KindAdminNetworkPolicy             = "AdminNetworkPolicy"
	KindBaselineAdminNetworkPolicy     = "BaselineAdminNetworkPolicy"
	KindCiliumCIDRGroup                = "CiliumCIDRGroup"
	KindCiliumIdentity                 = "CiliumIdentity"
	KindCiliumEndpoint                 = "CiliumEndpoint"
	KindCiliumEndpointSlice            = "CiliumEndpointSlice"
	KindCiliumNode                     = "CiliumNode"
)

type kindInfo struct {
	apiVersion string
	namespaced bool
	read       func(*report, metadata, object) body
}

// kindTable says what is known of each kind.
func kindTable(kind string) (kindInfo, bool) {
	switch kind {
	case KindNode:
		return kindInfo{"v1", false, readNode}, true
	case KindNamespace:
		return kindInfo{"v1", false, readNamespace}, true
	case KindPod:
		return kindInfo{"v1", true, readPod}, true
	case KindService:
		return kindInfo{"v1", true, readService}, true
	case KindEndpointSlice:
		return kindInfo{"discovery.k8s.io/v1", true, readEndpointSlice}, true
	case KindNetworkPolicy:
		return kindInfo{"networking.k8s.io/v1", true, readNetworkPolicy}, true
	case KindClusterNetworkPolicy:
		return kindInfo{"policy.networking.k8s.io/v1alpha2", false, readClusterNetworkPolicy}, true
	case KindAdminNetworkPolicy:
		return kindInfo{"policy.networking.k8s.io/v1alpha1", false, readAdminNetworkPolicy}, true
	case KindBaselineAdminNetworkPolicy:
		return kindInfo{"policy.networking.k8s.io/v1alpha1", false, readBaselineAdminNetworkPolicy}, true
	case KindCiliumCIDRGroup:
		return kindInfo{"cilium.io/v2", false, readCIDRGroup}, true
	case KindCiliumNetworkPolicy:
		return kindInfo{"cilium.io/v2", true, readCiliumPolicy}, true
	case KindCiliumClusterwideNetworkPolicy:
		return kindInfo{"cilium.io/v2", false, readCiliumPolicy}, true
	case KindCiliumIdentity:
		return kindInfo{"cilium.io/v2", false, readCiliumIdentity}, true
	case KindCiliumEndpoint:
		return kindInfo{"cilium.io/v2", true, readCiliumEndpoint}, true
	case KindCiliumEndpointSlice:
		return kindInfo{"cilium.io/v2alpha1", false, readCiliumEndpointSlice}, true
	case KindCiliumNode:
		return kindInfo{"cilium.io/v2", false, readCiliumNode}, true
	}
	return kindInfo{}, false
}

// Key names an object. Namespace is empty for cluster-wide kinds.
type Key struct {
	Kind, Namespace, Name string
}

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// Less says whether a key comes before another in the order of Compare.
func (k Key) Less(o Key) bool { return k.Compare(o) < 0 }

// Object is what Decode made of a document. The zero value is "nothing weir looks at".
type Object struct {
	// Key is set as soon as kind and name could be read, also for an object that was refused.
	Key
	// body is nil if the object was refused.
	body body
}

// Valid says whether the object may take effect. A document of a kind that weir doesn't look at has
// no Key and is not valid.
func (o Object) Valid() bool { return o.body != nil }

// Known says whether kind and name could be read.
func (o Object) Known() bool { return o.Kind != "" && o.Name != "" }

// Upserts are the events that tell of the object by itself; nil if it is not valid. What several
// objects say together (a node of Node and CiliumNode, derived backends) only an Assembler knows.
func (o Object) Upserts() []cluster.Event {
	if o.body == nil {
		return nil
	}
	return o.body.upserts()
}

// Deletes are the events that take the object back; nil if it is not valid.
func (o Object) Deletes() []cluster.Event {
	if o.body == nil {
		return nil
	}
	return o.body.deletes()
}

// body is the content of an object. The set of types is closed: those below.
type body interface {
	upserts() []cluster.Event
	deletes() []cluster.Event
}

type (
	nodeBody      struct{ node cluster.Node }
	agentNodeBody struct{ node cluster.Node } // CiliumNode
	namespaceBody struct{ ns cluster.Namespace }
	podBody       struct{ pod cluster.Pod }
	identityBody  struct {
		id     identity.ID
		labels labels.Set
	}
	endpointBody struct{ endpoint cluster.Endpoint }
	policyBody   struct {
		policy policy.Policy // without what CIDR groups stand for
		groups []groupUse
	}
	serviceBody struct {
		service lb.Service
		derive  derivation
	}
	sliceBody struct{ slice lb.Slice }
)

func one(e cluster.Event) []cluster.Event { return []cluster.Event{e} }

func (b nodeBody) upserts() []cluster.Event { return one(cluster.NodeUpsert{Node: b.node}) }
func (b nodeBody) deletes() []cluster.Event { return one(cluster.NodeDelete{Name: b.node.Name}) }
func (b agentNodeBody) upserts() []cluster.Event {
	return one(cluster.NodeUpsert{Node: b.node})
}
func (b agentNodeBody) deletes() []cluster.Event {
	return one(cluster.NodeDelete{Name: b.node.Name})
}
func (b namespaceBody) upserts() []cluster.Event {
	return one(cluster.NamespaceUpsert{Namespace: b.ns})
}
func (b namespaceBody) deletes() []cluster.Event {
	return one(cluster.NamespaceDelete{Name: b.ns.Name})
}
func (b podBody) upserts() []cluster.Event { return one(cluster.PodUpsert{Pod: b.pod}) }
func (b podBody) deletes() []cluster.Event { return one(cluster.PodDelete{Name: b.pod.Name}) }
func (b identityBody) upserts() []cluster.Event {
	return one(cluster.IdentityUpsert{ID: b.id, Labels: b.labels})
}
func (b identityBody) deletes() []cluster.Event { return one(cluster.IdentityDelete{ID: b.id}) }
func (b endpointBody) upserts() []cluster.Event {
	return one(cluster.EndpointUpsert{Endpoint: b.endpoint})
}
func (b endpointBody) deletes() []cluster.Event {
	return one(cluster.EndpointDelete{Name: b.endpoint.Name})
}
func (b policyBody) upserts() []cluster.Event { return one(cluster.PolicyUpsert{Policy: b.policy}) }
func (b policyBody) deletes() []cluster.Event { return one(cluster.PolicyDelete{Ref: b.policy.Ref}) }
func (b serviceBody) upserts() []cluster.Event {
	return one(cluster.ServiceUpsert{Service: b.service})
}
func (b serviceBody) deletes() []cluster.Event {
	return one(cluster.ServiceDelete{Name: b.service.Name})
}
func (b sliceBody) upserts() []cluster.Event { return one(cluster.BackendsUpsert{Slice: b.slice}) }
func (b sliceBody) deletes() []cluster.Event {
	return one(cluster.BackendsDelete{Service: b.slice.Service, Slice: b.slice.Name})
}

// metadata is what Decode needs of an object's metadata.
type metadata struct {
	name, namespace, uid string
	labels, annotations  map[string]string
	deleting             bool
}

// Decode reads one object. file goes into the findings and may be empty. Any finding that is not a
// warning means that the object was refused; findings come in the order of the fields that the
// translation looks at. A kind that weir doesn't look at gives a warning and a zero Object.
func Decode(file string, doc []byte) (Object, []cluster.Finding) {
	root, err := parseJSON(doc)
	if err != nil {
		r := &report{file: file}
		r.bad("", "not valid JSON: %v", err)
		return Object{}, r.findings
	}
	return decode(file, root)
}

// DecodeSingle is Decode for the common case that a file is one JSON object and no list. If ok is false it is
// something else: Documents, Items and Decode tell what.
func DecodeSingle(file string, data []byte) (o Object, findings []cluster.Finding, ok bool) {
	root, err := parseJSON(data)
	top, isObject := root.(fields)
	if err != nil || !isObject {
		return o, nil, false
	}
	for _, f := range top {
		if namesItems(f.key) {
			return o, nil, false
		}
	}
	o, findings = decode(file, root)
	return o, findings, true
}

func decode(file string, root any) (Object, []cluster.Finding) {
	r := &report{file: file}
	top, ok := value{r: r, raw: root}.object()
	if !ok {
		return Object{}, r.findings
	}
	kind, _ := top.get("kind").word()
	apiVersion, _ := top.get("apiVersion").passing()
	if top.get("kind").absent() {
		r.bad("kind", "missing; every object names its apiVersion and kind")
	}
	if top.get("apiVersion").absent() {
		r.bad("apiVersion", "missing; every object names its apiVersion and kind")
	}
	if r.failed() {
		return Object{}, r.findings
	}
	info, known := kindTable(kind)
	served := info.serves(kind, apiVersion)
	if !known || !served && foreignGroup(apiVersion) {
		name, _ := child(root, "metadata", "name").(string)
		r.object = strings.TrimSpace(kind + " " + name)
		r.warn("", "ignored: weir does not look at kind %s of %s", kind, apiVersion)
		return Object{}, r.findings
	}
	md, obj := readMetadata(r, top, kind, info)
	if !served {
		r.bad("apiVersion", "%q is not served for kind %s; want %q", apiVersion, kind, info.apiVersion)
		return obj, r.findings
	}
	b := info.read(r, md, top)
	if !r.failed() {
		obj.body = b
	}
	return obj, r.findings
}

// serves says whether objects of the kind may be written in a version.
func (k kindInfo) serves(kind, apiVersion string) bool {
	// Both versions of CIDR groups have one form.
	return k.apiVersion == apiVersion || kind == KindCiliumCIDRGroup && apiVersion == "cilium.io/v2alpha1"
}

// foreignGroup says whether an apiVersion belongs to someone else's kinds, which may have the same
// names as ours.
func foreignGroup(apiVersion string) bool {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return false
	}
	switch group {
	case "networking.k8s.io", "discovery.k8s.io", "extensions", "cilium.io", "policy.networking.k8s.io":
		return false
	}
	return true
}

func readMetadata(r *report, top object, kind string, info kindInfo) (metadata, Object) {
	var md metadata
	m, ok := top.get("metadata").object()
	if !ok {
		r.object = kind
		if top.get("metadata").absent() {
			r.bad("metadata", "missing; an object needs metadata.name")
		}
		return md, Object{}
	}
	md.name, _ = m.get("name").text()
	md.namespace, _ = m.get("namespace").word()
	switch {
	case !info.namespaced:
		md.namespace = ""
	case md.namespace == "":
		md.namespace = "default"
	}
	r.object = strings.TrimSpace(Key{kind, md.namespace, md.name}.String())
	switch {
	case m.get("name").absent():
		r.bad("metadata.name", "missing")
	case !validName(md.name):
		r.bad("metadata.name", "%q is not a name; want lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253", md.name)
		md.name = ""
	}
	if info.namespaced && !m.get("namespace").absent() && !validNamespace(md.namespace) {
		r.bad("metadata.namespace", "%q is not a namespace; want lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63", md.namespace)
		return md, Object{}
	}
	md.uid, _ = m.get("uid").text()
	md.labels = m.get("labels").labelMap()
	md.annotations = m.get("annotations").textMap()
	md.deleting = !m.get("deletionTimestamp").absent()
	if md.name == "" {
		return md, Object{}
	}
	return md, Object{Key: Key{kind, md.namespace, md.name}}
}

// Items takes a document apart: a List (of any kind ending in "List" that holds items) into its
// items, in order and recursively, anything else into itself. The error says what is wrong with the
// document as a whole.
func Items(doc []byte) ([]json.RawMessage, error) {
	if !mayBeList(doc) {
		return []json.RawMessage{doc}, nil
	}
	var head struct {
		Kind  string             `json:"kind"`
		Items *[]json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	if !strings.HasSuffix(head.Kind, "List") || head.Items == nil {
		return []json.RawMessage{doc}, nil
	}
	itemKind := strings.TrimSuffix(head.Kind, "List")
	var out []json.RawMessage
	for i, item := range *head.Items {
		item, err := adoptKind(doc, itemKind, item)
		if err != nil {
			return nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		sub, err := Items(item)
		if err != nil {
			return nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		out = append(out, sub...)
	}
	return out, nil
}

// adoptKind gives an item of a typed list (PodList) the kind and apiVersion that such items leave out.
func adoptKind(list []byte, kind string, item json.RawMessage) (json.RawMessage, error) {
	if kind == "" {
		return item, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(item, &m); err != nil {
		return nil, fmt.Errorf("want an object: %w", err)
	}
	if _, ok := m["kind"]; ok || m == nil {
		return item, nil
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(list, &head); err != nil {
		return nil, err
	}
	var err error
	if m["kind"], err = json.Marshal(kind); err != nil {
		return nil, err
	}
	if m["apiVersion"], err = json.Marshal(head.APIVersion); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

func child(root any, path ...string) any {
	for _, p := range path {
		m, ok := root.(fields)
		if !ok {
			return nil
		}
		root = m.get(p)
	}
	return root
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
