package policy

import (
	"hash/fnv"
	"slices"

	"github.com/weirnet/weir/core/datapath"
)

// denyBit of a cookie says that an explicit deny rule decided.
const denyBit datapath.Cookie = 1 << 31

// retiredCookies is how many cookies keep their meaning after the last policy that used them is
// gone: events about packets judged by them may still be on their way.
const retiredCookies = 4096

// cookieBook gives rules their cookies. A cookie is a hash of what the rule is called, so that it is
// the same on every node and after a restart; where two names collide, the one that comes later
// takes the next number.
type cookieBook struct {
	byName  map[string]*cookieEntry
	byNum   map[datapath.Cookie]*cookieEntry
	retired []retiredCookie // oldest first
	clock   uint64
	hash    func(string) uint32
}

type cookieEntry struct {
	name    string
	num     datapath.Cookie
	verdict Verdict
	refs    int
	retired uint64 // when it was retired last
}

type retiredCookie struct {
	entry *cookieEntry
	at    uint64
}

func newCookieBook() *cookieBook {
	return &cookieBook{
		byName: map[string]*cookieEntry{}, byNum: map[datapath.Cookie]*cookieEntry{},
		hash: func(s string) uint32 {
			h := fnv.New32a()
			h.Write([]byte(s))
			return h.Sum32()
		},
	}
}

// acquire gives the cookie of a name and counts one use of it.
func (b *cookieBook) acquire(name string, explicitDeny bool, v Verdict) datapath.Cookie {
	if e := b.byName[name]; e != nil {
		e.refs++
		e.verdict = v
		return e.num
	}
	var high datapath.Cookie
	if explicitDeny {
		high = denyBit
	}
	num := datapath.Cookie(b.hash(name)) &^ denyBit
	for ; ; num = (num + 1) &^ denyBit {
		if num == 0 { // taken by "no policy"
			continue
		}
		e := b.byNum[num|high]
		if e == nil {
			break
		}
		if e.refs == 0 { // what is in force goes before what is remembered
			b.forget(e)
			break
		}
	}
	e := &cookieEntry{name: name, num: num | high, verdict: v, refs: 1}
	b.byName[name], b.byNum[e.num] = e, e
	return e.num
}

func (b *cookieBook) release(num datapath.Cookie) {
	e := b.byNum[num]
	if e == nil {
		return
	}
	if e.refs--; e.refs > 0 {
		return
	}
	b.clock++
	e.retired = b.clock
	b.retired = append(b.retired, retiredCookie{e, b.clock})
	for len(b.retired) > retiredCookies {
		old := b.retired[0]
		b.retired = b.retired[1:]
		if old.entry.refs == 0 && old.entry.retired == old.at {
			b.forget(old.entry)
		}
	}
}

// remember takes over what another book knew, as cookies that nothing uses any more.
func (b *cookieBook) remember(o *cookieBook) {
	nums := make([]datapath.Cookie, 0, len(o.byNum))
	for num := range o.byNum {
		nums = append(nums, num)
	}
	slices.Sort(nums)
	for _, num := range nums {
		old := o.byNum[num]
		if b.byNum[num] != nil || b.byName[old.name] != nil {
			continue
		}
		e := &cookieEntry{name: old.name, num: num, verdict: old.verdict, refs: 1}
		b.byName[e.name], b.byNum[num] = e, e
		b.release(num)
	}
}

func (b *cookieBook) forget(e *cookieEntry) {
	if b.byNum[e.num] == e {
		delete(b.byNum, e.num)
		delete(b.byName, e.name)
	}
}

func (b *cookieBook) lookup(num datapath.Cookie) (Verdict, bool) {
	if num == 0 {
		return Verdict{Allowed: true}, true
	}
	e := b.byNum[num]
	if e == nil {
		return Verdict{}, false
	}
	return e.verdict, true
}

// Names under which cookies are filed. Fields are separated by a byte that no name of Kubernetes holds.

func refName(r Ref) string { return r.Kind + "\x00" + r.Namespace + "\x00" + r.Name }

func ruleName(r RuleRef, deny bool) string {
	kind := "allow"
	if deny {
		kind = "deny"
	}
	return kind + "\x00" + r.Direction.String() + "\x00" + refName(r.Policy) + "\x00" + r.Path
}

func isolationName(dir datapath.Direction, isolating []Ref) string {
	s := "default\x00" + dir.String()
	for _, r := range isolating {
		s += "\x00" + refName(r)
	}
	return s
}

const localHostName = "local-host"
