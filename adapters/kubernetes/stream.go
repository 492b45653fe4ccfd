package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/weirnet/weir/core/manifest"
)

// notice is one message of a watch, or one item of a list.
type notice struct {
	change watch.EventType
	head   manifest.Head
	typed  runtime.Object // of kinds that are trimmed
	doc    []byte         // of the others
}

// stream is a watch that is open. next returns io.EOF when the server ended it.
type stream interface {
	next() (notice, error)
	close()
}

// unlimited keeps watches out of the count of requests.
var unlimited = flowcontrol.NewFakeAlwaysRateLimiter()

func (s *Store) get(k kind, opts metav1.ListOptions) *rest.Request {
	clients := s.api.plain
	if k.trim != nil {
		clients = s.api.typed
	}
	opts.FieldSelector = k.fields
	return clients[k.group].Get().Resource(k.resource).VersionedParams(&opts, parameters)
}

// open begins a watch. It ends with its context.
func (s *Store) open(ctx context.Context, k kind, opts metav1.ListOptions) (stream, error) {
	opts.Watch = true
	req := s.get(k, opts).Throttle(unlimited).MaxRetries(0) // when to try again is the reflector's to say
	if k.trim != nil {
		w, err := req.Watch(ctx)
		if err != nil {
			return nil, err
		}
		return typedStream{w}, nil
	}
	body, err := req.Stream(ctx)
	if err != nil {
		return nil, err
	}
	return &plainStream{body: body, in: json.NewDecoder(body)}, nil
}

// typedStream is a watch whose objects come as Go types.
type typedStream struct{ w watch.Interface }

func (s typedStream) next() (notice, error) {
	ev, ok := <-s.w.ResultChan()
	if !ok {
		return notice{}, io.EOF
	}
	if ev.Type == watch.Error {
		return notice{}, apierrors.FromObject(ev.Object)
	}
	return typedNotice(ev.Type, ev.Object)
}

func (s typedStream) close() { s.w.Stop() }

func typedNotice(change watch.EventType, o runtime.Object) (notice, error) {
	m, err := apimeta.Accessor(o)
	if err != nil {
		return notice{}, err
	}
	n := notice{change: change, typed: o, head: manifest.Head{Namespace: m.GetNamespace(), Name: m.GetName(), UID: string(m.GetUID())}}
	n.head.Version = version(m.GetResourceVersion())
	if change == watch.Bookmark {
		n.head.Annotate(m.GetAnnotations())
	}
	return n, nil
}

// plainStream is a watch whose objects come as they are written.
type plainStream struct {
	body io.ReadCloser
	in   *json.Decoder
}

func (s *plainStream) next() (notice, error) {
	var ev struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := s.in.Decode(&ev); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return notice{}, err
	}
	if ev.Type == watch.Error {
		var status metav1.Status
		if err := json.Unmarshal(ev.Object, &status); err != nil {
			return notice{}, fmt.Errorf("read error of the server: %w", err)
		}
		return notice{}, apierrors.FromObject(&status)
	}
	return plainNotice(ev.Type, ev.Object)
}

func (s *plainStream) close() { s.body.Close() }

func plainNotice(change watch.EventType, doc []byte) (notice, error) {
	n := notice{change: change}
	var err error
	n.head, n.doc, err = manifest.ReadHead(doc)
	return n, err
}

// page reads a part of a list. more is where to go on; empty at the end.
func (s *Store) page(ctx context.Context, k kind, from string) (items []notice, listed uint64, more string, err error) {
	req := s.get(k, metav1.ListOptions{Limit: s.pageSize, Continue: from}).MaxRetries(0)
	if k.trim == nil {
		return plainPage(ctx, req)
	}
	o, err := req.Throttle(unlimited).Do(ctx).Get()
	if err != nil {
		return nil, 0, "", err
	}
	list, err := apimeta.ListAccessor(o)
	if err != nil {
		return nil, 0, "", err
	}
	err = apimeta.EachListItem(o, func(o runtime.Object) error {
		n, err := typedNotice(watch.Added, o)
		items = append(items, n)
		return err
	})
	return items, version(list.GetResourceVersion()), list.GetContinue(), err
}

func plainPage(ctx context.Context, req *rest.Request) (items []notice, listed uint64, more string, err error) {
	data, err := raw(ctx, req.Throttle(unlimited))
	if err != nil {
		return nil, 0, "", err
	}
	var list struct {
		Metadata metav1.ListMeta `json:"metadata"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, 0, "", fmt.Errorf("read list: %w", err)
	}
	// Items of built-in kinds don't say their kind; Items gives them that of the list.
	docs, err := manifest.Items(data)
	if err != nil {
		return nil, 0, "", err
	}
	for _, doc := range docs {
		n, err := plainNotice(watch.Added, doc)
		if err != nil {
			return nil, 0, "", err
		}
		items = append(items, n)
	}
	return items, version(list.Metadata.ResourceVersion), list.Metadata.Continue, nil
}

// version reads a resourceVersion; 0 if it is no number.
func version(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}
