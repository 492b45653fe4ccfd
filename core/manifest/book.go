package manifest

import (
	"time"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// IdentityBook holds what CiliumIdentity objects don't say by themselves, for stores without a server
// that would: which numbers were ever given out, which identities are without an endpoint and since
// when, and which removed numbers have to rest. Numbers are given out in ascending order, so that one
// that was given back comes up again as late as possible, and not before its quarantine is over. The
// zero value is the book of an empty cluster. It is not safe for concurrent use.
type IdentityBook struct {
	// Highest is the highest number ever given out.
	Highest identity.ID `json:"highest"`
	// Unused says since when an identity has been without an endpoint, as far as anyone looked.
	Unused map[identity.ID]time.Time `json:"unused,omitempty"`
	// Quarantine says from when on a removed number may be given out again.
	Quarantine map[identity.ID]time.Time `json:"quarantine,omitempty"`
}

// Identities are the identities that exist. A number that is taken for unknown labels has the empty
// set.
type Identities map[identity.ID]labels.Set

// Next gives out a number: the one after the highest or, once the range was gone through, the lowest
// that is free and out of quarantine. ok is false if there is none.
func (b *IdentityBook) Next(existing Identities, now time.Time) (id identity.ID, ok bool) {
	highest := max(b.Highest, identity.MinCluster-1)
	for id := range existing {
		highest = max(highest, id)
	}
	for id := range b.Quarantine {
		if id.IsCluster() {
			highest = max(highest, id) // a book that was mended by hand may have a lower Highest
		}
	}
	if highest < identity.MaxCluster {
		b.give(highest+1, now)
		return highest + 1, true
	}
	for id := identity.MinCluster; id <= identity.MaxCluster; id++ {
		_, taken := existing[id]
		until, waiting := b.Quarantine[id]
		if !taken && (!waiting || !now.Before(until)) {
			b.give(id, now)
			return id, true
		}
	}
	return 0, false
}

func (b *IdentityBook) give(id identity.ID, now time.Time) {
	b.Highest = max(b.Highest, id)
	b.unused(id, now)
	delete(b.Quarantine, id)
}

func (b *IdentityBook) unused(id identity.ID, since time.Time) {
	if b.Unused == nil {
		b.Unused = map[identity.ID]time.Time{}
	}
	b.Unused[id] = since
}

// Renew notes that someone asked for an identity and is about to use it: its time without an
// endpoint begins anew. It says whether the book changed.
func (b *IdentityBook) Renew(id identity.ID, now time.Time) bool {
	_, marked := b.Unused[id]
	if marked {
		b.Unused[id] = now
	}
	return marked
}

// Used notes that an identity has an endpoint. It says whether the book changed.
func (b *IdentityBook) Used(id identity.ID) bool {
	_, marked := b.Unused[id]
	delete(b.Unused, id)
	return marked
}

// Collect picks the identities that have been without an endpoint for the grace period, in order of
// number, and puts their numbers into quarantine for as long. An identity counts as unused from the
// first Collect that finds it without an endpoint, or from Next or Renew if it had none since. changed
// says whether the book did.
func (b *IdentityBook) Collect(existing Identities, inUse map[identity.ID]bool, now time.Time, grace time.Duration) (due []identity.ID, changed bool) {
	for id, until := range b.Quarantine {
		if !now.Before(until) {
			delete(b.Quarantine, id)
			changed = true
		}
	}
	for id := range b.Unused {
		if _, ok := existing[id]; !ok {
			delete(b.Unused, id)
			changed = true
		}
	}
	for id := identity.MinCluster; id <= identity.MaxCluster; id++ {
		if _, ok := existing[id]; !ok {
			continue
		}
		since, marked := b.Unused[id]
		switch {
		case inUse[id]:
			changed = b.Used(id) || changed
		case !marked:
			b.unused(id, now)
			changed = true
		case now.Sub(since) >= grace:
			due = append(due, id)
			delete(b.Unused, id)
			if b.Quarantine == nil {
				b.Quarantine = map[identity.ID]time.Time{}
			}
			b.Quarantine[id] = now.Add(grace)
			// Also one that was written by hand must not come up again at once.
			b.Highest = max(b.Highest, id)
			changed = true
		}
	}
	return due, changed
}
