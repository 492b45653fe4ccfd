package labels

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Label{
		"app=web":              {SourceAny, "app", "web"},
		"app":                  {SourceAny, "app", ""},
		"app=":                 {SourceAny, "app", ""},
		"k8s:app=web":          {SourceK8s, "app", "web"},
		"k8s:a.b/c=d=e:f":      {SourceK8s, "a.b/c", "d=e:f"},
		"reserved:host":        {SourceReserved, "host", ""},
		"cidr:10.0.0.0/8":      {SourceCIDR, "10.0.0.0/8", ""},
		"cidr:2001:db8::/32":   {SourceCIDR, "2001:db8::/32", ""},
		"any:app=two words":    {SourceAny, "app", "two words"},
		"custom:app=\u00fcber": {"custom", "app", "\u00fcber"},
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParseErrorsNameThePart(t *testing.T) {
	for text, part := range map[string]string{
		"":               "empty",
		" \t":            "empty",
		":app=web":       "empty source",
		"k8s:=web":       "empty key",
		"=web":           "empty key",
		"cidr:":          "empty key",
		"k8s:a b=c":      `key "a b"`,
		"k8s:a\nb":       `key "a\nb"`,
		" k8s:app":       `source " k8s"`,
		"k8s:any:app=we": `key "any:app" holds a colon`,
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, part, text)
	}
	_, err := ParseSet("app=web", "k8s:")
	require.ErrorContains(t, err, `label "k8s:"`)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"app=web", "k8s:app", "cidr:2001:db8::/32", ":", "=", "a:b:c=d", "x\x00=1", "any:a=;b=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			require.Contains(t, err.Error(), "label ")
			return
		}
		require.NotEmpty(t, l.Source)
		require.NotEmpty(t, l.Key)
		again, err := Parse(l.String())
		require.NoError(t, err)
		require.Equal(t, l, again)
		require.Equal(t, NewSet(l).Key(), NewSet(again).Key())
	})
}

func TestSet(t *testing.T) {
	s, err := ParseSet("k8s:b=2", "any:a=0", "k8s:a=1", "k8s:b=3")
	require.NoError(t, err)
	require.Equal(t, []string{"any:a=0", "k8s:a=1", "k8s:b=3"}, s.Strings(), "sorted, the later of two counts")
	require.Equal(t, 3, s.Len())
	require.Len(t, s.All(), 3)
	require.True(t, s.Has("k8s", "b"))
	require.False(t, s.Has("reserved", "b"))
	v, ok := s.Get(SourceAny, "b")
	require.True(t, ok)
	require.Equal(t, "3", v)
	require.Zero(t, Set{}.Len())
	require.Equal(t, Set{}.Key(), NewSet().Key())
}

// drawLabel favours the characters that separate parts in canonical texts.
func drawLabel() *rapid.Generator[Label] {
	text := rapid.StringOfN(rapid.RuneFrom([]rune(`ab;:=,\ `)), 1, 4, -1)
	return rapid.Custom(func(t *rapid.T) Label {
		return Label{text.Draw(t, "source"), text.Draw(t, "key"), rapid.OneOf(rapid.Just(""), text).Draw(t, "value")}
	})
}

func TestSetKeyIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewSet(rapid.SliceOfN(drawLabel(), 0, 3).Draw(t, "a")...)
		b := NewSet(rapid.SliceOfN(drawLabel(), 0, 3).Draw(t, "b")...)
		require.Equal(t, equalLabels(a.All(), b.All()), a.Key() == b.Key(), "%q and %q", a.All(), b.All())

		shuffled := NewSet(rapid.Permutation(a.All()).Draw(t, "order")...)
		require.Equal(t, a.Key(), shuffled.Key())
	})
	require.NotEqual(t, NewSet(Label{"k8s", "a", "1;k8s:b=2"}).Key(), NewSet(Label{"k8s", "a", "1"}, Label{"k8s", "b", "2"}).Key())
	require.NotEqual(t, NewSet(Label{"k8s", "a=b", "c"}).Key(), NewSet(Label{"k8s", "a", "b=c"}).Key())
	require.NotEqual(t, NewSet(Label{"k8s:a", "b", ""}).Key(), NewSet(Label{"k8s", "a:b", ""}).Key())
}

func equalLabels(a, b []Label) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestSetDoesNotKeepTheCallersSlice(t *testing.T) {
	in := []Label{{"k8s", "b", "1"}, {"k8s", "a", "1"}}
	s := NewSet(in...)
	in[0].Value = "changed"
	require.Equal(t, "k8s:a=1 k8s:b=1", strings.Join(s.Strings(), " "))
}
