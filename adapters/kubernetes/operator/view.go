package operator

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// view is what the operator knows of one kind: the objects, reduced to what it needs of them. What is not
// needed is forgotten as soon as it was read, so that a view of many objects stays small. An object of a
// view is never changed.
type view[T metav1.Object] struct {
	informer cache.SharedIndexInformer
}

// newView makes a view; convert makes of an object as it was read what the view holds.
func newView[T metav1.Object](lw cache.ListerWatcher, example runtime.Object, convert func(runtime.Object) (T, error)) (*view[T], error) {
	informer := cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{})
	err := informer.SetTransform(func(o any) (any, error) {
		switch o := o.(type) {
		case T:
			return o, nil
		case runtime.Object:
			return convert(o)
		case cache.DeletedFinalStateUnknown:
			return o, nil
		}
		return nil, fmt.Errorf("unexpected %T", o)
	})
	if err != nil {
		return nil, err
	}
	return &view[T]{informer}, nil
}

// get returns an object by name, or namespace/name; false if there is none.
func (v *view[T]) get(key string) (T, bool) {
	o, exists, err := v.informer.GetStore().GetByKey(key)
	if err != nil || !exists {
		var none T
		return none, false
	}
	return o.(T), true
}

func (v *view[T]) list() []T {
	all := v.informer.GetStore().List()
	out := make([]T, len(all))
	for i, o := range all {
		out[i] = o.(T)
	}
	return out
}

// changed calls f for every object that is there, comes, changes or goes.
func (v *view[T]) changed(f func(T)) error {
	_, err := v.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { f(o.(T)) },
		UpdateFunc: func(old, o any) {
			f(old.(T)) // what it was about may be another node
			f(o.(T))
		},
		DeleteFunc: func(o any) {
			if t, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = t.Obj
			}
			f(o.(T))
		},
	})
	return err
}

// listWatch reads one kind through the dynamic client.
func listWatch(c dynamic.Interface, gvr schema.GroupVersionResource) cache.ListerWatcher {
	r := c.Resource(gvr)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return r.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return r.Watch(ctx, o)
		},
	}
}

// identity is the part of an object's metadata that every view keeps.
func identity(m metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUID(), ResourceVersion: m.GetResourceVersion(),
		CreationTimestamp: m.GetCreationTimestamp(), DeletionTimestamp: m.GetDeletionTimestamp(), Generation: m.GetGeneration(),
	}
}
