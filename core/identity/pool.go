package identity

import (
	"errors"
	"fmt"
	"time"
)

// ErrExhausted is wrapped by the error of Pool.Acquire when no number can be handed out.
var ErrExhausted = errors.New("no free identity")

// Pool assigns numbers of a range to keys (label sets, prefixes). It decides only: who uses it makes
// assignments known and durable.
//
// An assignment is held by its users, counted by Acquire and Release, and by a record of it outside
// (a CiliumIdentity object, an entry of a pinned map), noted by Restore and Forget. When nothing
// holds it any more, its number rests: for the quarantine it is not given to another key, because
// flow entries, events and other nodes may still mean the old one by it.
//
// Numbers are handed out upwards, each one after the highest so far, and from the start again at the
// end of the range, so that a number comes back as late as possible.
//
// The zero value is not usable. A Pool has one caller at a time. The same calls give the same numbers.
type Pool struct {
	min, max   ID
	quarantine time.Duration
	last       ID // handed out last, or the highest restored since; min-1 at first
	byKey      map[string]*assignment
	byID       map[ID]*assignment
	resting    []rest    // oldest first; an assignment that was taken up again is skipped
	now        time.Time // latest time seen: time does not run backwards here
	held       int       // assignments that something holds
}

type assignment struct {
	id       ID
	key      string
	users    int
	recorded bool
	until    time.Time // end of the quarantine, while nothing holds it
}

type rest struct {
	a     *assignment
	until time.Time
}

func (a *assignment) held() bool { return a.users > 0 || a.recorded }

// NewPool makes a pool of the numbers min to max, both included. It panics if max is below min, or
// min is 0: a pool of no numbers is a programmer's error.
func NewPool(min, max ID, quarantine time.Duration) *Pool {
	if min == 0 || max < min {
		panic(fmt.Sprintf("identity.NewPool(%d, %d): want 0 < min <= max", min, max))
	}
	return &Pool{
		min: min, max: max, quarantine: quarantine, last: min - 1,
		byKey: map[string]*assignment{}, byID: map[ID]*assignment{},
	}
}

// Acquire gives the number of a key and counts one more user of it. isNew says that nothing held the
// assignment before, so that the caller has to make it known. A key whose number is in quarantine
// gets that number back. The error wraps ErrExhausted.
func (p *Pool) Acquire(key string, now time.Time) (id ID, isNew bool, err error) {
	p.tick(now)
	if a := p.byKey[key]; a != nil {
		isNew = !a.held()
		if isNew {
			p.held++
		}
		a.users++
		return a.id, isNew, nil
	}
	if len(p.byID) == p.Size() {
		return 0, false, fmt.Errorf("%w between %d and %d: %d in use, %d in quarantine for up to %s after their last use",
			ErrExhausted, p.min, p.max, p.held, len(p.byID)-p.held, p.quarantine)
	}
	id = p.last
	for {
		if id++; id > p.max || id < p.min {
			id = p.min
		}
		if p.byID[id] == nil {
			break
		}
	}
	p.last = id
	p.assign(&assignment{id: id, key: key, users: 1})
	return id, true, nil
}

// Release takes back one Acquire. Releasing what is not acquired does nothing. last says that nothing
// holds the assignment any more: the caller withdraws it, and its number rests from now on.
func (p *Pool) Release(key string, now time.Time) (last bool) {
	p.tick(now)
	a := p.byKey[key]
	if a == nil || a.users == 0 {
		return false
	}
	a.users--
	return p.settle(a)
}

// Restore notes that an assignment is recorded outside: found after a restart, or made by another
// node. It is held until Forget, whether it has users or not. Restoring it again does nothing. A
// number that rests may be restored for any key: the record outside is the truth. It is an error if
// the number is outside the range, belongs to another key, or the key has another number.
func (p *Pool) Restore(id ID, key string) error {
	if id < p.min || id > p.max {
		return fmt.Errorf("restore identity %d of %q: outside %d to %d", id, key, p.min, p.max)
	}
	owner, a := p.byID[id], p.byKey[key]
	if owner != nil && owner.key != key && owner.held() {
		return fmt.Errorf("restore identity %d of %q: the number belongs to %q", id, key, owner.key)
	}
	if a != nil && a.id != id && a.held() {
		return fmt.Errorf("restore identity %d of %q: the key has number %d", id, key, a.id)
	}
	switch {
	case a == nil || a.id != id:
		// What either of the two was assigned to rests, and ends here. If the key had another number,
		// that one goes on resting without a key.
		if owner != nil {
			p.drop(owner)
		}
		p.assign(&assignment{id: id, key: key, recorded: true})
	case !a.held():
		p.held++
		fallthrough
	default:
		a.recorded = true
	}
	p.last = max(p.last, id)
	return nil
}

// Forget notes that the record of an assignment is gone. Forgetting what is not recorded does
// nothing. last is as with Release.
func (p *Pool) Forget(id ID, now time.Time) (last bool) {
	p.tick(now)
	a := p.byID[id]
	if a == nil || !a.recorded {
		return false
	}
	a.recorded = false
	return p.settle(a)
}

// Lookup gives the number of a key that something holds.
func (p *Pool) Lookup(key string) (ID, bool) {
	if a := p.byKey[key]; a != nil && a.held() {
		return a.id, true
	}
	return 0, false
}

// Key gives the key of a number that something holds.
func (p *Pool) Key(id ID) (string, bool) {
	if a := p.byID[id]; a != nil && a.held() {
		return a.key, true
	}
	return "", false
}

// Users is the number of Acquires of a key that were not released.
func (p *Pool) Users(key string) int {
	if a := p.byKey[key]; a != nil {
		return a.users
	}
	return 0
}

// Size is the number of numbers in the range.
func (p *Pool) Size() int { return int(p.max-p.min) + 1 }

// Held is the number of assignments that something holds.
func (p *Pool) Held() int { return p.held }

// Free is the number of numbers that could be given to new keys.
func (p *Pool) Free(now time.Time) int {
	p.tick(now)
	return p.Size() - len(p.byID)
}

func (p *Pool) assign(a *assignment) {
	p.byKey[a.key], p.byID[a.id] = a, a
	p.held++
}

// settle puts an assignment to rest if nothing holds it any more.
func (p *Pool) settle(a *assignment) bool {
	if a.held() {
		return false
	}
	p.held--
	a.until = p.now.Add(p.quarantine)
	p.resting = append(p.resting, rest{a, a.until})
	return true
}

// tick moves time on and ends the quarantines that are over.
func (p *Pool) tick(now time.Time) {
	if now.After(p.now) {
		p.now = now
	}
	for len(p.resting) > 0 && !p.resting[0].until.After(p.now) {
		r := p.resting[0]
		p.resting[0] = rest{}
		p.resting = p.resting[1:]
		if !r.a.held() && r.a.until.Equal(r.until) {
			p.drop(r.a)
		}
	}
}

func (p *Pool) drop(a *assignment) {
	if p.byID[a.id] == a {
		delete(p.byID, a.id)
	}
	if p.byKey[a.key] == a {
		delete(p.byKey, a.key)
	}
}
