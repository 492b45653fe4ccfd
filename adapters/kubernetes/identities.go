package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// Annotations of CiliumIdentities; all hold times as of RFC 3339.
//
// The table of identities is one of open addressing: labels belong at the number that their hash says or, if
// that is taken by others, at the next that is not. Who makes an identity makes the object of that name, so
// that of several only one succeeds and the others find it. For a number to become free without the ones
// behind it getting lost,
//
//   - an identity that no endpoint uses is first marked (unusedSince), then retired (retiredSince): agents
//     forget it, but its object stays, so that its number rests until freeFrom;
//   - its own labels may have it back at any time; others may take it over once it rested, in one write, if
//     they are nowhere else;
//   - it is deleted once it rested and no other identity got past it to its place;
//   - who passes a resting number on the way to another lets its rest begin anew first, so that it doesn't go
//     meanwhile.
//
// All writes but the making name the version that they are about.
const (
	heartbeat    = "io.cilium.heartbeat" // when the identity was asked for last
	unusedSince  = "weir.io/unused-since"
	retiredSince = "weir.io/retired-since"
	freeFrom     = "weir.io/free-from"
)

// fresh is how old a mark may be that isn't renewed: of a thousand agents that ask for one identity at the same
// time not every one has to write. The grace period must be far longer.
const fresh = 10 * time.Second

// handed is an identity that Allocate gave out.
type handed struct {
	version uint64 // of the object that was seen
	labels  labels.Set
}

// entry is a CiliumIdentity as the server has it.
type entry struct {
	head   manifest.Head
	id     identity.ID
	labels labels.Set // empty: unreadable, but taken
}

func (e entry) at(mark string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, e.head.Annotation(mark))
	return t, err == nil
}

func (e entry) retired() bool { return e.head.Annotation(retiredSince) != "" }

// rested says whether others may have the number.
func (e entry) rested(now time.Time) bool {
	free, ok := e.at(freeFrom)
	return e.retired() && ok && !now.Before(free)
}

func readEntry(doc []byte) (entry, error) {
	head, doc, err := manifest.ReadHead(doc)
	if err != nil {
		return entry{}, err
	}
	n, err := strconv.ParseUint(head.Name, 10, 32)
	e := entry{head: head, id: identity.ID(n)}
	if err != nil || !e.id.IsCluster() {
		return e, fmt.Errorf("%q is not the number of a cluster identity", head.Name)
	}
	o, _ := manifest.Decode("", doc)
	for _, ev := range o.Upserts() {
		if up, ok := ev.(cluster.IdentityUpsert); ok {
			e.labels = up.Labels
		}
	}
	return e, nil
}

// errChanged says that somebody else changed an identity between two looks at it.
var errChanged = errors.New("changed by another")

// Allocate implements ports.Identities. The labels must all come from Kubernetes (source k8s).
func (s *Store) Allocate(ctx context.Context, ls labels.Set) (identity.ID, error) {
	for {
		e, err := s.allocate(ctx, ls)
		if errors.Is(err, errChanged) && ctx.Err() == nil {
			continue // it was somebody's progress, so this ends
		}
		if err != nil {
			return 0, fmt.Errorf("allocate identity for %s: %w", strings.Join(ls.Strings(), ","), err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.handed[e.id] = handed{version: e.head.Version, labels: e.labels}
		return e.id, nil
	}
}

// longWay is after how many taken numbers the whole list is asked for, in place of one after the other.
const longWay = 8

func (s *Store) allocate(ctx context.Context, ls labels.Set) (entry, error) {
	if _, err := manifest.EncodeIdentity(s.lowest, ls); err != nil {
		return entry{}, err
	}
	home, span := s.home(ls), int(s.highest-s.lowest)+1
	var rested *entry
	var all map[identity.ID]entry
	for i := range span {
		id := s.next(home, i)
		if i == longWay {
			var err error
			if all, err = s.listIdentities(ctx); err != nil {
				return entry{}, err
			}
		}
		e, listed := all[id]
		if listed && !e.retired() && e.labels.Key() != ls.Key() {
			continue // a number keeps its labels until it was retired and rested
		}
		e, found, err := s.look(ctx, id)
		switch {
		case err != nil:
			return entry{}, err
		case found && e.labels.Len() > 0 && e.labels.Key() == ls.Key():
			return s.renew(ctx, e)
		case !found && rested != nil:
			return s.takeOver(ctx, *rested, ls)
		case !found:
			return s.create(ctx, id, ls)
		case e.rested(s.opts.Now()):
			if rested == nil {
				rested = &e
			}
		case e.retired():
			if err := s.pass(ctx, e); err != nil {
				return entry{}, err
			}
		}
	}
	if rested != nil {
		return s.takeOver(ctx, *rested, ls)
	}
	return entry{}, fmt.Errorf("all of %d to %d are in use or rest: %w", s.lowest, s.highest, ports.ErrFull)
}

// home is where labels belong.
func (s *Store) home(ls labels.Set) identity.ID {
	h := fnv.New64a()
	h.Write([]byte(ls.Key()))
	return s.lowest + identity.ID(h.Sum64()%uint64(s.highest-s.lowest+1))
}

// next is the number some steps behind another, around the end.
func (s *Store) next(id identity.ID, steps int) identity.ID {
	span := uint64(s.highest-s.lowest) + 1
	return s.lowest + identity.ID((uint64(id-s.lowest)+uint64(steps))%span)
}

func (s *Store) placeOf(id identity.ID) place {
	return s.cilium(identityResource, "", strconv.FormatUint(uint64(id), 10))
}

// look reads an identity.
func (s *Store) look(ctx context.Context, id identity.ID) (e entry, found bool, err error) {
	doc, err := raw(ctx, s.placeOf(id).request(s, "GET"))
	if apierrors.IsNotFound(err) && !definitionMissing(err) {
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, err
	}
	e, err = readEntry(doc)
	return e, err == nil, err
}

// create makes an identity. Nobody uses it yet: should its asker vanish, its time has begun.
func (s *Store) create(ctx context.Context, id identity.ID, ls labels.Set) (entry, error) {
	doc, err := s.identityDocument(id, ls, 0)
	if err != nil {
		return entry{}, err
	}
	at := s.placeOf(id)
	at.name = ""
	doc, err = raw(ctx, s.api.plain[at.group].Post().Resource(at.resource).Param("fieldManager", s.opts.Manager).
		SetHeader("Content-Type", "application/json").Body(doc))
	if apierrors.IsAlreadyExists(err) {
		return entry{}, errChanged
	}
	if err != nil {
		return entry{}, err
	}
	return readEntry(doc)
}

// takeOver gives a number that rested to other labels.
func (s *Store) takeOver(ctx context.Context, e entry, ls labels.Set) (entry, error) {
	doc, err := s.identityDocument(e.id, ls, e.head.Version)
	if err != nil {
		return entry{}, err
	}
	doc, err = raw(ctx, s.placeOf(e.id).request(s, "PUT").Param("fieldManager", s.opts.Manager).
		SetHeader("Content-Type", "application/json").Body(doc))
	return changedOr(doc, err)
}

// identityDocument writes a new identity; version is that of the object whose place it takes, if any.
func (s *Store) identityDocument(id identity.ID, ls labels.Set, version uint64) ([]byte, error) {
	doc, err := manifest.EncodeIdentity(id, ls)
	if err != nil {
		return nil, err
	}
	var o map[string]any
	if err := json.Unmarshal(doc, &o); err != nil {
		return nil, err
	}
	now := stamp(s.opts.Now())
	meta := o["metadata"].(map[string]any)
	meta["annotations"] = map[string]string{heartbeat: now, unusedSince: now}
	if version != 0 {
		meta["resourceVersion"] = strconv.FormatUint(version, 10)
	}
	return json.Marshal(o)
}

// renew notes that an identity was asked for, and takes off the marks.
func (s *Store) renew(ctx context.Context, e entry) (entry, error) {
	now := s.opts.Now()
	if at, ok := e.at(heartbeat); ok && !e.retired() && at.Sub(now).Abs() < fresh {
		return e, nil
	}
	return s.annotate(ctx, e, map[string]any{heartbeat: stamp(now), unusedSince: nil, retiredSince: nil, freeFrom: nil})
}

// pass lets the rest of a number begin anew.
func (s *Store) pass(ctx context.Context, e entry) error {
	now := s.opts.Now()
	since, ok := e.at(retiredSince)
	free, okFree := e.at(freeFrom)
	if !ok || !okFree {
		return nil // not our mark: nobody takes it, or deletes it
	}
	if now.Sub(since).Abs() < fresh {
		return nil
	}
	_, err := s.annotate(ctx, e, map[string]any{retiredSince: stamp(now), freeFrom: stamp(now.Add(free.Sub(since)))})
	return err
}

// annotate changes annotations of an identity that nobody else changed meanwhile; nil removes one.
func (s *Store) annotate(ctx context.Context, e entry, marks map[string]any) (entry, error) {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": strconv.FormatUint(e.head.Version, 10), "annotations": marks,
	}})
	if err != nil {
		return entry{}, err
	}
	doc, err := raw(ctx, s.placeOf(e.id).request(s, "PATCH").Param("fieldManager", s.opts.Manager).
		SetHeader("Content-Type", string(types.MergePatchType)).Body(body))
	return changedOr(doc, err)
}

func changedOr(doc []byte, err error) (entry, error) {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return entry{}, errChanged
	}
	if err != nil {
		return entry{}, err
	}
	return readEntry(doc)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
