package labels

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func mustSet(t require.TestingT, ss ...string) Set {
	s, err := ParseSet(ss...)
	require.NoError(t, err)
	return s
}

func TestSelectorMatches(t *testing.T) {
	web := mustSet(t, "k8s:app=web", "k8s:tier=front", "reserved:host")
	for _, c := range []struct {
		name string
		req  Requirement
		want bool
	}{
		{"in", Requirement{SourceK8s, "app", In, []string{"db", "web"}}, true},
		{"in, other value", Requirement{SourceK8s, "app", In, []string{"db"}}, false},
		{"in, absent key", Requirement{SourceK8s, "zone", In, []string{"db"}}, false},
		{"in, empty value", Requirement{SourceReserved, "host", In, []string{""}}, true},
		{"any source", Requirement{"", "app", In, []string{"web"}}, true},
		{"other source", Requirement{SourceReserved, "app", In, []string{"web"}}, false},
		{"not in", Requirement{SourceAny, "app", NotIn, []string{"db"}}, true},
		{"not in, value", Requirement{SourceAny, "app", NotIn, []string{"db", "web"}}, false},
		{"not in, absent key", Requirement{SourceAny, "zone", NotIn, []string{"db"}}, true},
		{"exists", Requirement{SourceAny, "host", Exists, nil}, true},
		{"exists, absent", Requirement{SourceK8s, "host", Exists, nil}, false},
		{"does not exist", Requirement{SourceAny, "zone", DoesNotExist, nil}, true},
		{"does not exist, present", Requirement{SourceAny, "tier", DoesNotExist, nil}, false},
	} {
		sel, err := NewSelector(c.req)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, sel.Matches(web), c.name)
	}
	both, err := NewSelector(Requirement{Key: "app", Operator: Exists}, Requirement{Key: "zone", Operator: Exists})
	require.NoError(t, err)
	require.False(t, both.Matches(web), "every requirement must hold")
	require.True(t, Everything().Matches(Set{}))
}

func TestSelectorErrorsNameTheRequirement(t *testing.T) {
	for want, r := range map[string]Requirement{
		"without a key":                  {Operator: Exists},
		`"app": operator In needs`:       {Key: "app", Operator: In},
		`"app": operator NotIn needs`:    {Key: "app", Operator: NotIn},
		`"app": operator Exists takes`:   {Key: "app", Operator: Exists, Values: []string{"x"}},
		"allowed: In, NotIn, Exists, Do": {Key: "app", Operator: "Equals", Values: []string{"x"}},
	} {
		_, err := NewSelector(r)
		require.ErrorContains(t, err, want)
	}
}

func TestSelectorText(t *testing.T) {
	sel, err := NewSelector(
		Requirement{SourceK8s, "tier", NotIn, []string{"b", "a", "b"}},
		Requirement{SourceK8s, "app", In, []string{"web", "web"}},
		Requirement{SourceK8s, "app", In, []string{"web"}},
		Requirement{"", "x", Exists, nil},
		Requirement{"", "y", DoesNotExist, nil},
	)
	require.NoError(t, err)
	require.Equal(t, "!any:y,any:x,k8s:app=web,k8s:tier notin (a,b)", sel.Key())
	require.Len(t, sel.Requirements(), 4)
	require.Equal(t, "<all>", Everything().String())
	require.Empty(t, Everything().Key())
	require.True(t, Requirement{Operator: In}.Positive())
	require.False(t, Requirement{Operator: NotIn}.Positive())
}

// drawSelector uses few characters, so that equal and almost equal selectors are common.
func drawSelector(t *rapid.T, name string) Selector {
	text := rapid.StringOfN(rapid.RuneFrom([]rune(`ab,()=!:\ `)), 1, 2, -1)
	reqs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Requirement {
		r := Requirement{Key: text.Draw(t, "key"), Source: rapid.SampledFrom([]string{"", SourceK8s}).Draw(t, "source"),
			Operator: rapid.SampledFrom([]Operator{In, NotIn, Exists, DoesNotExist}).Draw(t, "operator")}
		if r.Operator == In || r.Operator == NotIn {
			r.Values = rapid.SliceOfN(text, 1, 3).Draw(t, "values")
		}
		return r
	}), 0, 2).Draw(t, name)
	sel, err := NewSelector(reqs...)
	require.NoError(t, err)
	return sel
}

func TestSelectorKeyIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSelector(t, "a"), drawSelector(t, "b")
		same := slices.EqualFunc(a.Requirements(), b.Requirements(), func(x, y Requirement) bool {
			return x.Source == y.Source && x.Key == y.Key && x.Operator == y.Operator && slices.Equal(x.Values, y.Values)
		})
		require.Equal(t, same, a.Key() == b.Key(), "%q and %q", a.Key(), b.Key())
		again, err := NewSelector(rapid.Permutation(a.Requirements()).Draw(t, "order")...)
		require.NoError(t, err)
		require.Equal(t, a.Key(), again.Key())
	})
	one, err := NewSelector(Requirement{Key: "k", Operator: In, Values: []string{"a,b", "c"}})
	require.NoError(t, err)
	two, err := NewSelector(Requirement{Key: "k", Operator: In, Values: []string{"a", "b,c"}})
	require.NoError(t, err)
	require.NotEqual(t, one.Key(), two.Key())
}

func TestOppositesExclude(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := NewSet(rapid.SliceOfN(drawLabel(), 0, 4).Draw(t, "set")...)
		l := drawLabel().Draw(t, "label")
		if set.Len() > 0 && rapid.Bool().Draw(t, "present") {
			l = rapid.SampledFrom(set.All()).Draw(t, "of the set")
		}
		for in, out := range map[Operator]Operator{In: NotIn, Exists: DoesNotExist} {
			var values []string
			if in == In {
				values = []string{l.Value}
			}
			yes, err := NewSelector(Requirement{l.Source, l.Key, in, values})
			require.NoError(t, err)
			no, err := NewSelector(Requirement{l.Source, l.Key, out, values})
			require.NoError(t, err)
			require.NotEqual(t, yes.Matches(set), no.Matches(set))
		}
	})
}

func typical(t require.TestingT) (Selector, Set) {
	set := mustSet(t, "k8s:app=frontend", "k8s:pod-tier=web", "k8s:io.kubernetes.pod.namespace=shop",
		"k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.cilium.k8s.policy.serviceaccount=default",
		"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop")
	sel, err := NewSelector(
		Requirement{SourceK8s, "io.kubernetes.pod.namespace", In, []string{"shop"}},
		Requirement{SourceAny, "app", In, []string{"frontend"}})
	require.NoError(t, err)
	return sel, set
}

func TestMatchesDoesNotAllocate(t *testing.T) {
	sel, set := typical(t)
	require.True(t, sel.Matches(set))
	require.Zero(t, testing.AllocsPerRun(100, func() { sel.Matches(set) }))
}

func BenchmarkSelectorMatches(b *testing.B) {
	sel, set := typical(b)
	b.ReportAllocs()
	for b.Loop() {
		if !sel.Matches(set) {
			b.Fatal("no match")
		}
	}
}
