package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
)

// Collect implements ports.Identities for the operator (Options.Operator); elsewhere it does nothing. It returns
// the identities that it retired: they are gone for everybody, though their objects stay until their numbers
// have rested for the same time. What somebody else changed meanwhile is left for the next time.
//
// grace must be several minutes at least, and longer than clocks of the cluster's nodes differ.
func (s *Store) Collect(ctx context.Context, grace time.Duration) ([]identity.ID, error) {
	c, err := s.CollectAndCount(ctx, grace)
	return c.Gone, err
}

// Collected is what a Collect found and did.
type Collected struct {
	Gone    []identity.ID // retired by it
	Alive   int           // identities that count
	Retired int           // those whose numbers rest
	Deleted int           // objects that it deleted
}

// CollectAndCount is Collect, and counts. After an error the counts are those of a part.
func (s *Store) CollectAndCount(ctx context.Context, grace time.Duration) (Collected, error) {
	if !s.opts.Operator {
		return Collected{}, nil
	}
	c, err := s.collect(ctx, grace)
	if err != nil {
		return c, fmt.Errorf("collect identities: %w", err)
	}
	return c, nil
}

func (s *Store) collect(ctx context.Context, grace time.Duration) (c Collected, err error) {
	// The identities come first: an endpoint that is made meanwhile counts.
	all, err := s.listIdentities(ctx)
	if err != nil {
		return c, err
	}
	used, err := s.identitiesInUse(ctx)
	if err != nil {
		return c, err
	}
	now := s.opts.Now()
	for _, id := range sorted(all, func(a, b identity.ID) bool { return a < b }) {
		resting := all[id].retired() && !used[id]
		retired, err := s.age(ctx, all, id, used[id], now, grace)
		if err != nil && !errors.Is(err, errChanged) {
			return c, fmt.Errorf("identity %d: %w", id, err)
		}
		if retired {
			c.Gone = append(c.Gone, id)
		}
		switch _, there := all[id]; {
		case !there:
			c.Deleted++
		case resting || retired:
			c.Retired++
		default:
			c.Alive++
		}
	}
	return c, nil
}

// age takes one identity a step further, and says whether it retired it.
func (s *Store) age(ctx context.Context, all map[identity.ID]entry, id identity.ID, used bool, now time.Time, grace time.Duration) (bool, error) {
	e := all[id]
	_, marked := e.at(unusedSince)
	switch {
	case used && (marked || e.retired()):
		_, err := s.annotate(ctx, e, map[string]any{unusedSince: nil, retiredSince: nil, freeFrom: nil})
		return false, err
	case used:
		return false, nil
	case e.retired():
		if _, ok := e.at(freeFrom); !ok {
			_, err := s.annotate(ctx, e, map[string]any{freeFrom: stamp(now.Add(grace))})
			return false, err
		}
		if !e.rested(now) || s.needed(all, id) {
			return false, nil
		}
		err := s.delete(ctx, s.placeOf(id), e.head)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		if err == nil {
			delete(all, id)
		}
		return false, err
	}
	since, ok := e.at(unusedSince)
	if !ok || since.After(now) {
		_, err := s.annotate(ctx, e, map[string]any{unusedSince: stamp(now)})
		return false, err
	}
	if now.Sub(since) < grace {
		return false, nil
	}
	_, err := s.annotate(ctx, e, map[string]any{retiredSince: stamp(now), freeFrom: stamp(now.Add(grace))})
	return err == nil, err
}

// needed says whether an identity behind this one would not be found any more if this number were free.
func (s *Store) needed(all map[identity.ID]entry, id identity.ID) bool {
	for i := 1; i <= int(s.highest-s.lowest); i++ {
		e, ok := all[s.next(id, i)]
		if !ok {
			return false
		}
		// How far behind this number the other's own place is: beyond itself means before this one.
		if home := int(s.home(e.labels)) - int(id); e.labels.Len() == 0 || s.steps(home) == 0 || s.steps(home) > i {
			return true
		}
	}
	return false
}

// steps brings a distance between numbers into the range.
func (s *Store) steps(d int) int {
	span := int(s.highest-s.lowest) + 1
	return ((d % span) + span) % span
}

// listIdentities reads all identities as they are now. Objects whose names are no numbers are left out.
func (s *Store) listIdentities(ctx context.Context) (map[identity.ID]entry, error) {
	out := map[identity.ID]entry{}
	err := s.each(ctx, manifest.KindCiliumIdentity, func(doc []byte) {
		if e, err := readEntry(doc); err == nil {
			out[e.id] = e
		}
	})
	return out, err
}

// identitiesInUse reads which identities the endpoints of all nodes have. An endpoint that can't be read is an
// error: its identity might be the very one.
func (s *Store) identitiesInUse(ctx context.Context) (map[identity.ID]bool, error) {
	out := map[identity.ID]bool{}
	var unread error
	err := s.each(ctx, manifest.KindCiliumEndpoint, func(doc []byte) {
		e, ok := endpointOf(doc)
		if !ok {
			o, findings := manifest.Decode("", doc)
			unread = fmt.Errorf("%s: not to be read: %v", o.Key, findings)
		}
		out[e.Identity] = true
	})
	return out, errors.Join(err, unread)
}

// each reads every object of a kind that is read as JSON.
func (s *Store) each(ctx context.Context, name string, f func(doc []byte)) error {
	all := kinds(Options{})
	k := all[slices.IndexFunc(all, func(k kind) bool { return k.name == name })]
	from := ""
	for {
		items, _, more, err := s.page(ctx, k, from)
		if err != nil {
			return fmt.Errorf("list %s: %w", k.resource, err)
		}
		for _, n := range items {
			f(n.doc)
		}
		if from = more; more == "" {
			return nil
		}
	}
}
