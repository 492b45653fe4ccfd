package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
)

// Resources that are written.
const (
	nodeResource     = "ciliumnodes"
	endpointResource = "ciliumendpoints"
	identityResource = "ciliumidentities"
)

// PublishNode implements ports.Publisher: it applies the node's CiliumNode, owned by its Node. What others
// wrote there stays; with Options.ClusterPool that includes the pod ranges.
func (s *Store) PublishNode(ctx context.Context, n cluster.Node) error {
	if s.opts.ClusterPool {
		n.PodCIDRs = nil
	}
	doc, err := manifest.EncodeNode(n)
	if err == nil {
		doc, err = s.ownNode(ctx, n.Name, doc)
	}
	if err == nil {
		err = s.apply(ctx, s.cilium(nodeResource, "", n.Name), doc)
	}
	if err != nil {
		return fmt.Errorf("publish node %s: %w", n.Name, err)
	}
	return nil
}

// ownNode makes the Node the owner of what is written about it. Without a Node there is no owner.
func (s *Store) ownNode(ctx context.Context, name string, doc []byte) ([]byte, error) {
	s.mu.Lock()
	uid := s.nodeUID
	s.mu.Unlock()
	if name != s.opts.Node || uid == "" {
		var node metav1.PartialObjectMetadata
		data, err := raw(ctx, s.api.plain[groupCore].Get().Resource("nodes").Name(name))
		if apierrors.IsNotFound(err) {
			return doc, nil
		}
		if err == nil {
			err = json.Unmarshal(data, &node)
		}
		if err != nil {
			return nil, fmt.Errorf("read node: %w", err)
		}
		uid = node.UID
	}
	var o map[string]any
	if err := json.Unmarshal(doc, &o); err != nil {
		return nil, err
	}
	meta, ok := o["metadata"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("own node %s: no metadata", name)
	}
	meta["ownerReferences"] = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}}
	return json.Marshal(o)
}

// PublishEndpoint implements ports.Publisher: it applies the CiliumEndpoint, owned by its pod if e.UID is known.
// In a namespace that is going or gone there is nobody to publish to; that is no error.
func (s *Store) PublishEndpoint(ctx context.Context, e cluster.Endpoint) error {
	doc, err := manifest.EncodeEndpoint(e, s.labelsOf(e.Identity))
	if err == nil && s.isPublished(e.Name, doc) {
		return nil
	}
	if err == nil {
		err = s.apply(ctx, s.cilium(endpointResource, e.Name.Namespace, e.Name.Name), doc)
	}
	if err != nil && !namespaceEnds(err) {
		return fmt.Errorf("publish endpoint %s: %w", e.Name, err)
	}
	return nil
}

// sawEndpoint notes what the server has of an endpoint of this node: an agent that starts again needs not write
// what is there.
func (s *Store) sawEndpoint(k manifest.Key, o manifest.Object, doc []byte) {
	ours := false
	for _, e := range o.Upserts() {
		up, ok := e.(cluster.EndpointUpsert)
		ours = ok && s.opts.Node != "" && up.Endpoint.Node == s.opts.Node
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := (cluster.Name{Namespace: k.Namespace, Name: k.Name}); ours {
		s.published[name] = doc
	} else {
		delete(s.published, name)
	}
}

// isPublished says whether the server was last seen to have what doc says.
func (s *Store) isPublished(name cluster.Name, doc []byte) bool {
	s.mu.Lock()
	there, ok := s.published[name]
	s.mu.Unlock()
	if !ok {
		return false
	}
	a, errA := said(doc)
	b, errB := said(there)
	return errA == nil && errB == nil && reflect.DeepEqual(a, b)
}

// said is what this node's agent says in a CiliumEndpoint: all of its status, whose it is and where.
func said(doc []byte) (any, error) {
	var o struct {
		Metadata struct {
			Annotations     map[string]string
			OwnerReferences []metav1.OwnerReference
		}
		Status any
	}
	err := json.Unmarshal(doc, &o)
	var owners []types.UID
	for _, r := range o.Metadata.OwnerReferences {
		owners = append(owners, r.UID)
	}
	return []any{o.Metadata.Annotations[manifest.NodeAnnotation], owners, o.Status}, err
}

// namespaceEnds says whether a write failed because its namespace goes or went.
func namespaceEnds(err error) bool {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return true
	}
	status, ok := err.(apierrors.APIStatus)
	if !ok || !apierrors.IsNotFound(err) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Kind == "namespaces"
}

// WithdrawEndpoint implements ports.Publisher. It removes the very object that it saw to be the node's, and
// looks again if that was changed meanwhile.
func (s *Store) WithdrawEndpoint(ctx context.Context, name cluster.Name, node string) error {
	wrap := func(err error) error { return fmt.Errorf("withdraw endpoint %s: %w", name, err) }
	if _, err := manifest.EncodeEndpoint(cluster.Endpoint{Name: name}, labels.Set{}); err != nil {
		return wrap(err)
	}
	at := s.cilium(endpointResource, name.Namespace, name.Name)
	for {
		doc, err := raw(ctx, at.request(s, "GET"))
		if apierrors.IsNotFound(err) && !definitionMissing(err) {
			return nil
		}
		if err != nil {
			return wrap(err)
		}
		head, doc, err := manifest.ReadHead(doc)
		if err != nil {
			return wrap(err)
		}
		if e, ok := endpointOf(doc); ok && e.Node != node {
			return nil
		}
		err = s.delete(ctx, at, head)
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) || ctx.Err() != nil {
			return wrap(err)
		}
	}
}

// definitionMissing tells a kind that isn't defined from an object that isn't there: of the former the server
// knows no more than that there is no such page.
func definitionMissing(err error) bool { return apierrors.IsUnexpectedServerError(err) }

func endpointOf(doc []byte) (cluster.Endpoint, bool) {
	o, _ := manifest.Decode("", doc)
	for _, e := range o.Upserts() {
		if up, ok := e.(cluster.EndpointUpsert); ok {
			return up.Endpoint, true
		}
	}
	return cluster.Endpoint{}, false
}

// labelsOf returns the labels of an identity, none if they aren't known: they are for readers only.
func (s *Store) labelsOf(id identity.ID) labels.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.assembler.Get(identityKey(id))
	if !ok {
		return s.handed[id].labels
	}
	for _, e := range o.Upserts() {
		if up, ok := e.(cluster.IdentityUpsert); ok {
			return up.Labels
		}
	}
	return labels.Set{}
}

func identityKey(id identity.ID) manifest.Key {
	return manifest.Key{Kind: manifest.KindCiliumIdentity, Name: strconv.FormatUint(uint64(id), 10)}
}

// place is where an object is on the server.
type place struct {
	group                     schema.GroupVersion
	resource, namespace, name string
}

func (s *Store) cilium(resource, namespace, name string) place {
	return place{groupCilium, resource, namespace, name}
}

// request begins a request for the object, in JSON.
func (p place) request(s *Store, verb string) *rest.Request {
	return s.api.plain[p.group].Verb(verb).NamespaceIfScoped(p.namespace, p.namespace != "").Resource(p.resource).Name(p.name)
}

// raw makes a request and returns what was answered. Errors say what the server says.
func raw(ctx context.Context, req *rest.Request) ([]byte, error) {
	answer := req.Do(ctx)
	if err := answer.Error(); err != nil {
		return nil, err
	}
	return answer.Raw()
}

// apply makes the object's fields that weir manages be those of doc. The other fields stay; an object that
// isn't there is made. Applying the same again changes nothing.
func (s *Store) apply(ctx context.Context, at place, doc []byte) error {
	_, err := raw(ctx, at.request(s, "PATCH").Param("fieldManager", s.opts.Manager).Param("force", "true").
		SetHeader("Content-Type", string(types.ApplyYAMLPatchType)).Body(doc))
	return err
}

// delete removes the object if it still is what head says.
func (s *Store) delete(ctx context.Context, at place, head manifest.Head) error {
	version, uid := strconv.FormatUint(head.Version, 10), types.UID(head.UID)
	body, err := json.Marshal(&metav1.DeleteOptions{
		TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
	})
	if err != nil {
		return err
	}
	_, err = raw(ctx, at.request(s, "DELETE").SetHeader("Content-Type", "application/json").Body(body))
	return err
}
