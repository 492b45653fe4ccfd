package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestCookiesAreStable(t *testing.T) {
	ref := Ref{"NetworkPolicy", "shop", "backend-ingress"}
	rule := RuleRef{ref, datapath.Ingress, "ingress[0]"}
	b := newCookieBook()
	// These numbers are in other nodes' tables and events: a change here is a change of the wire.
	require.Equal(t, datapath.Cookie(0x4f4cde5c), b.acquire(ruleName(rule, false), false, Verdict{Allowed: true, Rule: rule}))
	require.Equal(t, datapath.Cookie(0xac51acf5), b.acquire(ruleName(rule, true), true, Verdict{Rule: rule}))
	require.Equal(t, datapath.Cookie(0x1d886ea9), b.acquire(isolationName(datapath.Ingress, []Ref{ref}), false, Verdict{Isolating: []Ref{ref}}))
	require.Equal(t, datapath.Cookie(0x6d718c29), b.acquire(localHostName, false, Verdict{Allowed: true, Note: NoteLocalHost}))
	v, ok := b.lookup(0)
	require.True(t, ok)
	require.Equal(t, "no policy", v.String())
	_, ok = b.lookup(1)
	require.False(t, ok)
}

func TestCookieNamesDiffer(t *testing.T) {
	a, b := Ref{"K", "a", "b"}, Ref{"K", "ab", ""}
	names := map[string]bool{}
	for _, r := range []Ref{a, b} {
		for _, dir := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
			names[isolationName(dir, []Ref{r})] = true
			names[ruleName(RuleRef{r, dir, "x"}, true)] = true
			names[ruleName(RuleRef{r, dir, "x"}, false)] = true
		}
	}
	names[isolationName(datapath.Ingress, []Ref{a, b})] = true
	require.Len(t, names, 13)
}

func TestCookieCollisions(t *testing.T) {
	b := newCookieBook()
	hash := uint32(1<<31 - 1)
	b.hash = func(string) uint32 { return hash }
	get := func(name string, deny bool) datapath.Cookie {
		return b.acquire(name, deny, Verdict{Note: name})
	}
	require.Equal(t, datapath.Cookie(1<<31-1), get("a", false))
	require.Equal(t, datapath.Cookie(1), get("b", false), "the next number, but never 0 and never the deny bit")
	require.Equal(t, datapath.Cookie(1<<32-1), get("c", true), "deny rules have numbers of their own")
	require.Equal(t, datapath.Cookie(1<<31|1), get("d", true))
	require.Equal(t, datapath.Cookie(1), get("b", false), "one more use")

	b.release(1)
	b.release(1)
	v, ok := b.lookup(1)
	require.True(t, ok, "retired cookies are remembered")
	require.Equal(t, "b", v.Note)
	require.Equal(t, datapath.Cookie(1), get("b", false), "and come back")
	b.release(1)
	require.Equal(t, datapath.Cookie(1), get("e", false), "unless one in force needs the number")
	v, _ = b.lookup(1)
	require.Equal(t, "e", v.Note)
	b.release(77) // never given
}

func TestRetiredCookiesAreForgottenInOrder(t *testing.T) {
	b := newCookieBook()
	first := b.acquire("first", false, Verdict{})
	again := b.acquire("again", false, Verdict{})
	b.release(first)
	b.release(again)
	b.acquire("again", false, Verdict{})
	for i := range retiredCookies - 2 {
		b.release(b.acquire(fmt.Sprint("other ", i), false, Verdict{}))
	}
	_, ok := b.lookup(first)
	require.True(t, ok)
	for i := range 10 {
		b.release(b.acquire(fmt.Sprint("last ", i), false, Verdict{}))
	}
	_, ok = b.lookup(first)
	require.False(t, ok)
	_, ok = b.lookup(again)
	require.True(t, ok, "it is in use")
	require.LessOrEqual(t, len(b.retired), retiredCookies)
}
