package labels

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A selector that can be read can be written and read again, and is the same: its key, its text, and what it
// selects.
func FuzzSelectorJSON(f *testing.F) {
	for _, s := range []string{
		`[]`, `null`, `{}`, `[{"source":"k8s","key":"app","operator":"In","values":["b","a","b"]}]`,
		`[{"key":"app","operator":"Exists"},{"key":"app","operator":"DoesNotExist"}]`,
		`[{"key":"app","operator":"NotIn","values":[]}]`, `[{"key":"a,b=c","operator":"In","values":["(x)","!"]}]`,
		`[{"key":"app","operator":"Equals","values":["x"]}]`, `[{"operator":"Exists"}]`,
	} {
		f.Add([]byte(s), "k8s:app=a")
	}
	f.Add([]byte(`[{"source":"any","key":"app","operator":"NotIn","values":["web"]}]`), "cidr:10.0.0.0/8")
	f.Fuzz(func(t *testing.T, data []byte, label string) {
		var s Selector
		if err := json.Unmarshal(data, &s); err != nil {
			require.NotEmpty(t, err.Error())
			require.Equal(t, Selector{}, s, "a selector that was refused selects what it did before")
			return
		}
		out, err := json.Marshal(s)
		require.NoError(t, err)
		var again Selector
		require.NoError(t, json.Unmarshal(out, &again), "%s", out)
		require.Equal(t, s.Key(), again.Key())
		require.Equal(t, s.String(), again.String())
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(out), string(twice))
		if l, err := Parse(label); err == nil {
			require.Equal(t, s.Matches(NewSet(l)), again.Matches(NewSet(l)))
		}
		require.Equal(t, s.Matches(Set{}), again.Matches(Set{}))
		for _, r := range s.Requirements() {
			one, err := NewSelector(r)
			require.NoError(t, err)
			if s.Matches(Set{}) {
				require.True(t, one.Matches(Set{}), "a conjunction holds only if all its parts do")
			}
		}
	})
}

// The same for sets of labels: order and repetitions in the text do not matter.
func FuzzSetJSON(f *testing.F) {
	for _, s := range []string{`[]`, `null`, `["app=web"]`, `["k8s:a=1","k8s:a=2","any:b"]`, `["cidr:2001:db8::/32"]`, `["x:"]`, `[""]`, `[1]`, `["a=;b\\:"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Set
		if json.Unmarshal(data, &s) != nil {
			require.Zero(t, s.Len())
			return
		}
		out, err := json.Marshal(s)
		require.NoError(t, err)
		var again Set
		require.NoError(t, json.Unmarshal(out, &again), "%s", out)
		require.Equal(t, s.Key(), again.Key())
		require.Equal(t, s.All(), again.All())
		for _, l := range s.All() {
			v, ok := s.Get(l.Source, l.Key)
			require.True(t, ok)
			if l.Source != SourceAny { // which asks in every source
				require.Equal(t, l.Value, v)
			}
		}
	})
}
