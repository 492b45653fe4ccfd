package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// sliceDelay is how long a slice that changes is left alone, so that pods that come together are one write.
const sliceDelay = 300 * time.Millisecond

// published is a CiliumEndpoint.
type published struct {
	metav1.ObjectMeta
	endpoint cluster.Endpoint
	valid    bool
}

// sliceObject is a CiliumEndpointSlice.
type sliceObject struct {
	metav1.ObjectMeta
	names   []cluster.Name
	content string // as it is compared
}

func convertEndpoint(o runtime.Object) (*published, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("want a CiliumEndpoint, got %T", o)
	}
	owners := u.GetOwnerReferences()
	u = &unstructured.Unstructured{Object: u.Object}
	u.SetManagedFields(nil)
	body, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	p := &published{ObjectMeta: identity(u)}
	object, _ := manifest.Decode("", body)
	for _, e := range object.Upserts() {
		if up, ok := e.(cluster.EndpointUpsert); ok {
			p.endpoint, p.valid = up.Endpoint, true
		}
	}
	p.endpoint.UID = string(podOf(&metav1.ObjectMeta{OwnerReferences: owners}))
	return p, nil
}

func convertSlice(o runtime.Object) (*sliceObject, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("want a CiliumEndpointSlice, got %T", o)
	}
	s := &sliceObject{ObjectMeta: identity(u)}
	var err error
	if s.content, err = sliceContent(u); err != nil {
		return nil, err
	}
	namespace, _, _ := unstructured.NestedString(u.Object, "namespace")
	list, _, _ := unstructured.NestedSlice(u.Object, "endpoints")
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			if name, ok := m["name"].(string); ok {
				s.names = append(s.names, cluster.Name{Namespace: namespace, Name: name})
			}
		}
	}
	return s, nil
}

// sliceContent is what a slice says, in a form that is the same for the same.
func sliceContent(u *unstructured.Unstructured) (string, error) {
	b, err := json.Marshal([]any{u.Object["namespace"], u.Object["endpoints"]})
	return string(b), err
}

// sliceDuty gathers CiliumEndpoints in CiliumEndpointSlices, by namespace, first come first served.
type sliceDuty struct {
	log       *slog.Logger
	clients   *clients
	endpoints *view[*published]
	slices    *view[*sliceObject]
	queue     *queue     // of "endpoint NAMESPACE/NAME" and "slice NAME"
	plan      *slicePlan // used by the one goroutine of run
	metrics   *metrics
}

const (
	endpointKey = "endpoint "
	sliceKey    = "slice "
)

func newSliceDuty(op *Operator, c *clients, endpoints *view[*published], objects *view[*sliceObject]) (*sliceDuty, error) {
	d := &sliceDuty{log: op.log.With("duty", "endpoint-slices"), clients: c, endpoints: endpoints, slices: objects,
		queue: newQueue("endpoint-slices", op.metrics), plan: newSlicePlan(op.config.SliceSize), metrics: op.metrics}
	if err := endpoints.changed(func(p *published) { d.queue.Add(endpointKey + keyOf(p)) }); err != nil {
		return nil, err
	}
	return d, objects.changed(func(s *sliceObject) { d.queue.Add(sliceKey + s.Name) })
}

func (d *sliceDuty) run(ctx context.Context) {
	// What is in a slice stays there; only then the others find their places.
	known := d.slices.list()
	slices.SortFunc(known, func(a, b *sliceObject) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, s := range known {
		for _, e := range s.names {
			if p, ok := d.endpoints.get(e.String()); ok && p.valid {
				d.plan.adopt(s.Name, e)
			}
		}
	}
	d.queue.work(ctx, d.log, d.reconcile)
}

func (d *sliceDuty) reconcile(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, sliceKey); ok {
		err := d.write(ctx, name)
		d.metrics.sliceSyncs.WithLabelValues(outcome(err)).Inc()
		return err
	}
	name, err := cluster.ParseName(strings.TrimPrefix(key, endpointKey))
	if err != nil {
		return nil // no endpoint is called so
	}
	slice, placed := "", true
	if p, ok := d.endpoints.get(name.String()); ok && p.valid {
		slice = d.plan.put(name)
	} else {
		slice, placed = d.plan.remove(name)
	}
	if placed {
		d.queue.AddAfter(sliceKey+slice, sliceDelay)
	}
	return nil
}

// write makes one slice what it should be.
func (d *sliceDuty) write(ctx context.Context, name string) error {
	have, exists := d.slices.get(name)
	want, err := d.wanted(name)
	if err != nil {
		return err
	}
	api := d.clients.dynamic.Resource(ciliumEndpointSlices)
	switch {
	case want == nil && !exists:
		return nil
	case want == nil:
		if err := api.Delete(ctx, name, exactly(have)); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete CiliumEndpointSlice %s: %w", name, err)
		}
		return nil
	case !exists:
		_, err := api.Create(ctx, want, metav1.CreateOptions{FieldManager: manager})
		if apierrors.IsAlreadyExists(err) {
			return nil // the view shows it soon, and then it is compared
		}
		if err != nil {
			return fmt.Errorf("create CiliumEndpointSlice %s: %w", name, err)
		}
		return nil
	}
	content, err := sliceContent(want)
	if err != nil || content == have.content {
		return err
	}
	want.SetResourceVersion(have.ResourceVersion)
	want.SetUID(have.UID)
	_, err = api.Update(ctx, want, metav1.UpdateOptions{FieldManager: manager})
	switch {
	case apierrors.IsNotFound(err):
		return nil // the view shows it soon, and then it is made anew
	case err != nil:
		return fmt.Errorf("update CiliumEndpointSlice %s: %w", name, err)
	}
	return nil
}

// wanted is a slice as it should be; nil if it should not be.
func (d *sliceDuty) wanted(name string) (*unstructured.Unstructured, error) {
	var list []cluster.Endpoint
	for _, e := range d.plan.list(name) {
		if p, ok := d.endpoints.get(e.String()); ok && p.valid {
			list = append(list, p.endpoint)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	body, err := manifest.EncodeEndpointSlice(name, list[0].Name.Namespace, list)
	if err != nil {
		return nil, err
	}
	d.metrics.endpointsPerSlice.Observe(float64(len(list)))
	u := &unstructured.Unstructured{}
	return u, u.UnmarshalJSON(body)
}
