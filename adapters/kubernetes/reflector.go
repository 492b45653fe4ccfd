package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// reflector follows one kind: a list, then a watch from where the list ended. It remembers which objects
// there are and in which version, so that a list after an outage tells only of what differs; nothing of the
// objects themselves. (client-go's Reflector gathers every list in memory before its user sees it, and sleeps
// out its pauses after its context ended.)
type reflector struct {
	store *Store
	hub   *hub
	gone  *outage
	kind  kind
	known map[objectName]seen
	at    uint64 // version to watch from; 0: list first
	pages bool   // the server can't stream lists
	seed  maphash.Seed
}

type objectName struct{ namespace, name string }

// seen is what is remembered of an object.
type seen struct {
	version uint64
	sum     uint64 // of the trimmed document; 0 if it is not trimmed
}

// Pauses between tries of a kind that the server refuses or fails while it serves others: doubled from the first to the
// longest, each shortened by chance to as little as half of it, so that a cluster's agents don't return all at once.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
	// longestWait is the longest pause while a kind isn't defined yet: it will be soon.
	longestWait = 5 * time.Second
	// A connection that lasted so long was a good one: the next pause is the first again.
	settled = 10 * time.Second
	// Watches are renewed after this time and up to twice of it.
	watchTime = 5 * time.Minute
)

// run follows the kind until the context ends.
func (r *reflector) run(ctx context.Context) {
	pause := time.Duration(0)
	waiting := false
	for ctx.Err() == nil {
		began := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		lasted := time.Since(began)
		if lasted > settled {
			pause = 0
		}
		if err == nil && lasted >= watchTime {
			continue // its time was over; an earlier end means that the server goes, and then all agents return
		}
		most := r.store.longestPause
		failed := err != nil && isAway(err)
		if failed {
			r.gone.failed()
		}
		switch {
		case err == nil:
		case apierrors.IsNotFound(err) && r.kind.optional:
			none := lister{r: r, at: r.at}
			none.done()
			r.at = 0
			r.store.troubled(r.kind.name, "")
			if r.kind.custom() {
				most = longestWait
			}
		case apierrors.IsNotFound(err) && r.kind.custom():
			most = longestWait
			if !waiting {
				waiting = true
				r.store.opts.Log.Info("waiting for a CustomResourceDefinition, which weir-operator installs", "crd", r.kind.crd())
			}
			r.store.troubled(r.kind.name, fmt.Sprintf("the CustomResourceDefinition %s is missing; weir-operator installs it", r.kind.crd()))
		default:
			if !r.troubled(err) {
				r.store.opts.Log.Warn("watch the cluster", "kind", r.kind.name, "err", err)
			}
		}
		pause = min(max(2*pause, firstPause), most)
		away := func() {
			if !failed { // which has told why
				r.troubled(errors.New("the API server is away"))
			}
		}
		if r.gone.pause(ctx, pause/2+rand.N(pause/2), away) {
			pause = 0
		}
	}
}

// troubled notes why nothing is heard of the kind. It says whether there was trouble before.
func (r *reflector) troubled(why error) (before bool) {
	return r.store.troubled(r.kind.name, fmt.Sprintf("can't be watched, and what was heard last stays in force: %v", why))
}

// session lists if need be and watches until the connection ends. nil is an end as it should be.
func (r *reflector) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var s stream
	var err error
	if r.at == 0 {
		if s, err = r.list(ctx); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	if s == nil {
		s, err = r.store.open(ctx, r.kind, metav1.ListOptions{
			ResourceVersion: strconv.FormatUint(r.at, 10), AllowWatchBookmarks: true, TimeoutSeconds: lifetime(),
		})
		if err != nil {
			return r.ended(err)
		}
	}
	r.store.troubled(r.kind.name, "")
	r.gone.served()
	defer s.close()
	for {
		n, err := s.next()
		if err != nil {
			return r.ended(err)
		}
		if n.head.Version == 0 {
			r.at = 0
			return fmt.Errorf("watch: an object without a resourceVersion: %s", n.head.Name)
		}
		r.at = n.head.Version
		if n.change == watch.Bookmark {
			continue
		}
		if n.change == watch.Deleted {
			name := objectName{n.head.Namespace, n.head.Name}
			delete(r.known, name)
			r.hub.push(r.kind.name, false, change{key: r.key(name), version: n.head.Version, kind: removed})
			continue
		}
		c, now, news := r.convert(n, r.known[objectName{n.head.Namespace, n.head.Name}])
		r.known[objectName{c.key.Namespace, c.key.Name}] = now
		if news {
			r.hub.push(r.kind.name, false, c)
		}
	}
}

// ended tells how a watch ended. One whose version the server doesn't know any more begins with a list.
func (r *reflector) ended(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsTimeout(err) && apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge):
		r.at = 0
		return nil
	}
	return fmt.Errorf("watch: %w", err)
}

func lifetime() *int64 {
	s := int64((watchTime + rand.N(watchTime)).Seconds())
	return &s
}

// list takes in every object there is, and what is gone since the last. The stream, if there is one, goes on
// as the watch.
func (r *reflector) list(ctx context.Context) (stream, error) {
	l := lister{r: r, now: make(map[objectName]seen, len(r.known))}
	if !r.pages {
		s, err := l.stream(ctx)
		if err == nil {
			l.done()
			return s, nil
		}
		if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) && !apierrors.IsForbidden(err) {
			return nil, err
		}
		// Servers that don't stream lists refuse the question as invalid, some as forbidden.
		r.pages = true
		l = lister{r: r, now: make(map[objectName]seen, len(r.known))}
	}
	if err := l.pages(ctx); err != nil {
		if apierrors.IsForbidden(err) {
			r.pages = false
		}
		return nil, err
	}
	l.done()
	return nil, nil
}

// lister gathers what a list says anew.
type lister struct {
	r       *reflector
	now     map[objectName]seen
	changes []change
	at      uint64
}

func (l *lister) take(n notice) {
	name := objectName{n.head.Namespace, n.head.Name}
	if n.change == watch.Deleted {
		delete(l.now, name)
		l.changes = append(l.changes, change{key: l.r.key(name), version: n.head.Version, kind: removed})
		return
	}
	before, known := l.r.known[name]
	if known && before.version == n.head.Version {
		l.now[name] = before
		return
	}
	c, now, news := l.r.convert(n, before)
	l.now[objectName{c.key.Namespace, c.key.Name}] = now
	if news {
		l.changes = append(l.changes, c)
	}
}

// stream lets the server send the list as the beginning of a watch.
func (l *lister) stream(ctx context.Context) (s stream, err error) {
	yes := true
	s, err = l.r.store.open(ctx, l.r.kind, metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		AllowWatchBookmarks: true, TimeoutSeconds: lifetime(),
	})
	if err != nil {
		return nil, err
	}
	for {
		n, err := s.next()
		if err != nil {
			s.close()
			return nil, err
		}
		if n.change != watch.Bookmark {
			l.take(n)
			continue
		}
		if n.head.Annotation(metav1.InitialEventsAnnotationKey) == "true" {
			l.at = n.head.Version
			return s, nil
		}
	}
}

// pages reads the list part by part, all of one version.
func (l *lister) pages(ctx context.Context) error {
	from := ""
	for {
		items, at, more, err := l.r.store.page(ctx, l.r.kind, from)
		if err != nil {
			return err
		}
		for _, n := range items {
			l.take(n)
		}
		if l.at, from = at, more; more == "" {
			return nil
		}
	}
}

// done hands over what was gathered.
func (l *lister) done() {
	r := l.r
	for name := range r.known {
		if _, ok := l.now[name]; !ok {
			l.changes = append(l.changes, change{key: r.key(name), version: l.at, kind: removed})
		}
	}
	if r.kind.name == manifest.KindCiliumIdentity {
		l.changes = append(l.changes, r.store.vanished(l.now, l.at)...)
	}
	r.known, r.at = l.now, l.at
	r.hub.push(r.kind.name, true, l.changes...)
}

func (r *reflector) key(n objectName) manifest.Key {
	return manifest.Key{Kind: r.kind.name, Namespace: n.namespace, Name: n.name}
}

// convert makes a change of an object. news is false if the part of it that counts is as before.
func (r *reflector) convert(n notice, before seen) (c change, now seen, news bool) {
	now = seen{version: n.head.Version}
	c = change{key: r.key(objectName{n.head.Namespace, n.head.Name}), version: n.head.Version, kind: refused, doc: n.doc}
	var err error
	if r.kind.trim != nil {
		if c.doc, err = document(r.kind, n.typed); err != nil {
			c.findings = []cluster.Finding{{Object: c.key.String(), Message: err.Error()}}
			return c, now, true
		}
		if now.sum = maphash.Bytes(r.seed, c.doc) | 1; now.sum == before.sum {
			c.key = r.key(objectName{n.head.Namespace, n.head.Name})
			return c, now, false
		}
	}
	o, findings := manifest.Decode("", c.doc)
	c.findings = findings
	if o.Known() {
		c.key = o.Key // it shares the names' memory
	}
	switch {
	case r.kind.name == manifest.KindCiliumIdentity && n.head.Annotation(retiredSince) != "":
		c.kind = removed // a tombstone: it keeps its number from being given out
	case o.Valid():
		c.kind, c.object = put, o
	}
	if r.kind.name == manifest.KindNode && n.head.Name == r.store.opts.Node {
		r.store.sawNode(n.head.UID)
	}
	if r.kind.name == manifest.KindCiliumEndpoint {
		r.store.sawEndpoint(c.key, o, c.doc)
	}
	if !keptOverRestart(r.kind.name) {
		c.doc = nil
	}
	return c, now, true
}
