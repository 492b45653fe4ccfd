package nodeconfig

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	ciliumv2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
)

// Pauses between tries: doubled from the first to the longest, each shortened by chance to as little as half of
// it. A watch is renewed after watchTime and up to twice of it.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	watchTime    = 5 * time.Minute
)

// Watch tells what selects the node whenever that is other than before, the first time when both the
// CiliumNodeConfigs and the node's labels are known, until the context ends. heard is called by one goroutine
// at a time; failed, with nil when it works again, too. What was told last stays true while it fails.
func (c *Client) Watch(ctx context.Context, heard func(Known), failed func(error)) {
	w := &watcher{client: c, heard: heard, failed: failed, configs: map[string]ciliumv2.CiliumNodeConfig{}, errs: map[string]error{}}
	var all sync.WaitGroup
	all.Go(func() { w.follow(ctx, "configs", w.followConfigs) })
	all.Go(func() { w.follow(ctx, "labels", w.followLabels) })
	all.Wait()
}

type watcher struct {
	client *Client
	heard  func(Known)
	failed func(error)

	mu                        sync.Mutex
	configs                   map[string]ciliumv2.CiliumNodeConfig
	labels                    map[string]string
	configsKnown, labelsKnown bool
	told                      bool
	last                      Known
	errs                      map[string]error
}

// follow repeats a session until the context ends.
func (w *watcher) follow(ctx context.Context, what string, session func(context.Context) error) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		err := session(ctx)
		if ctx.Err() != nil {
			return
		}
		w.trouble(what, err)
		if time.Since(began) > longestPause {
			pause = 0
		}
		pause = min(max(2*pause, firstPause), longestPause)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// trouble tells when something fails that worked, and the other way round.
func (w *watcher) trouble(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was, now := w.errs[what], err
	w.errs[what] = err
	if (was == nil) == (now == nil) && apierrors.ReasonForError(was) == apierrors.ReasonForError(now) {
		return // the same in other words, such as another port of ours
	}
	for _, k := range slices.Sorted(maps.Keys(w.errs)) {
		if w.errs[k] != nil {
			w.failed(w.errs[k])
			return
		}
	}
	w.failed(nil)
}

// change takes in news and tells what follows.
func (w *watcher) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	if !w.configsKnown || !w.labelsKnown {
		return
	}
	now := w.client.selecting(slices.Collect(maps.Values(w.configs)), w.labels)
	if !w.told || !now.Equal(w.last) {
		w.told, w.last = true, now
		w.heard(now)
	}
}

// followConfigs lists, and watches until the connection ends.
func (w *watcher) followConfigs(ctx context.Context) error {
	list, err := w.client.list(ctx)
	if err != nil {
		return err
	}
	w.change(func() {
		w.configsKnown = true
		clear(w.configs)
		for _, o := range list.Items {
			w.configs[o.Name] = o
		}
	})
	w.trouble("configs", nil)
	if list.ResourceVersion == "" {
		return nil // the kind is not defined yet
	}
	o := &metav1.ListOptions{Watch: true, ResourceVersion: list.ResourceVersion, TimeoutSeconds: lifetime()}
	events, err := w.client.configs.Get().Namespace(w.client.namespace).Resource(resource).VersionedParams(o, parameters).Watch(ctx)
	if undefined(err) {
		return nil
	}
	if err != nil {
		return w.client.failed("watch", err)
	}
	return each(events, func(e watch.Event) {
		if o, ok := e.Object.(*ciliumv2.CiliumNodeConfig); ok {
			w.change(func() {
				if e.Type == watch.Deleted {
					delete(w.configs, o.Name)
				} else {
					w.configs[o.Name] = *o
				}
			})
		}
	})
}

// followLabels lists the one Node, and watches it until the connection ends.
func (w *watcher) followLabels(ctx context.Context) error {
	api := w.client.nodes.Resource(nodes)
	list, err := api.List(ctx, metav1.ListOptions{FieldSelector: w.client.self()})
	if err != nil {
		return fmt.Errorf("read labels of Node %s: %w", w.client.node, err)
	}
	for _, n := range list.Items {
		w.change(func() { w.labels, w.labelsKnown = n.Labels, true })
	}
	w.trouble("labels", nil)
	events, err := api.Watch(ctx, metav1.ListOptions{FieldSelector: w.client.self(), ResourceVersion: list.ResourceVersion, TimeoutSeconds: lifetime()})
	if err != nil {
		return fmt.Errorf("watch labels of Node %s: %w", w.client.node, err)
	}
	return each(events, func(e watch.Event) {
		// A Node that goes takes its labels along when it comes back.
		if n, ok := e.Object.(metav1.Object); ok && e.Type != watch.Deleted {
			w.change(func() { w.labels, w.labelsKnown = n.GetLabels(), true })
		}
	})
}

// each hands over events until the watch ends. That it ends, or that its version has become too old, is no error.
func each(events watch.Interface, f func(watch.Event)) error {
	defer events.Stop()
	for e := range events.ResultChan() {
		switch e.Type {
		case watch.Added, watch.Modified, watch.Deleted:
			f(e)
		case watch.Error:
			if err := apierrors.FromObject(e.Object); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
				return err
			}
			return nil
		}
	}
	return nil
}

func lifetime() *int64 {
	s := int64((watchTime + rand.N(watchTime)).Seconds())
	return &s
}
