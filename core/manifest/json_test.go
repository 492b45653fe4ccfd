package manifest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainJSON turns what parseJSON returns into what encoding/json does.
func plainJSON(v any) any {
	switch v := v.(type) {
	case fields:
		m := map[string]any{}
		for _, f := range v {
			m[f.key] = plainJSON(f.value)
		}
		return m
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plainJSON(v[i])
		}
		return out
	}
	return v
}

// parseJSON accepts what encoding/json does and reads the same from it, but for keys that stand twice.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{
		``, ` `, `{}`, `[]`, `null`, `true`, `nul`, `0`, `-0`, `01`, `-`, `1.`, `1.5e+3`, `1e`, `.5`, `+1`, `"a\"bé\ud800"`, "\"\xff\"", "\"\x01\"",
		`"`, `"\`, `"\x"`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a" 1}`, `{"a":{"b":[1,{"c":null}]}, "d":"é"}`, `{"a":1} x`, `{"a":1,"a":2}`, `{"a":[{"b":1,"b":2}]}`,
		strings.Repeat("[", 10001) + strings.Repeat("]", 10001), strings.Repeat("[", 10000) + strings.Repeat("]", 10000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := parseJSON(doc)
		_, isTwice := err.(twice)
		if isTwice {
			return // the first fault counts, and the document may have another behind it
		}
		require.Equal(t, json.Valid(doc), err == nil, "%v", err)
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(string(doc)))
		d.UseNumber()
		var want any
		require.NoError(t, d.Decode(&want))
		require.Equal(t, want, plainJSON(got))
		docs, err := Documents(doc)
		require.NoError(t, err)
		require.Len(t, docs, 1)
		require.JSONEq(t, string(doc), string(docs[0]))
	})
}

func TestKeysThatStandTwiceAreNamed(t *testing.T) {
	many := `{"first":0`
	for i := range 100 {
		many += `,"k` + strings.Repeat("x", i) + `":1`
	}
	for doc, path := range map[string]string{
		`{"a":1,"a":2}`:                "a",
		`{"a":{"b":1,"b":1}}`:          "a.b",
		`{"a":[0,[{"b":1,"b":2}]]}`:    "a[1][0].b",
		`[{"a":1,"a":1}]`:              "[0].a",
		`{"":1,"":2}`:                  `""`,
		`{"a":{"":1,"":2}}`:            `a.""`,
		`{"a":[{"":[],"":2}]}`:         `a[0].""`,
		many + `,"first":1}`:           "first",
		many + `,"k` + "xx" + `": []}`: "kxx",
	} {
		_, err := parseJSON([]byte(doc))
		require.EqualError(t, err, "key "+path+" stands twice")
	}
}

func TestDocuments(t *testing.T) {
	docs, err := Documents([]byte(" {\"a\":1}\n\n[2] 3 \"x\"\t"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte(`{"a":1}`), []byte(`[2]`), []byte(`3`), []byte(`"x"`)}, docs)
	docs, err = Documents([]byte(`{"a":1} {"b":`))
	require.Error(t, err)
	require.Len(t, docs, 1, "what stands before the fault is read")
	docs, err = Documents(nil)
	require.NoError(t, err)
	require.Empty(t, docs)
}

// The short way says what the long one does.
func TestDecodeSingle(t *testing.T) {
	for doc, single := range map[string]bool{
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`: true,
		`{"apiVersion":"v1","kind":"Namespace"}`:                            true,
		` {"kind":1} `:                                                      true, `{}`: true, `null`: false, `[]`: false, `{`: false, `{} {}`: false, ``: false, `{"a":1,"a":2}`: false,
		`{"kind":"List","items":[]}`: false, `{"kind":"List","ITEMſ":[]}`: false, `{"kind":"List","itemſ":[]}`: false,
	} {
		o, findings, ok := DecodeSingle("f", []byte(doc))
		require.Equal(t, single, ok, doc)
		if ok {
			wantO, want := Decode("f", []byte(doc))
			require.Equal(t, wantO, o)
			require.Equal(t, want, findings)
			items, err := Items([]byte(doc))
			require.NoError(t, err)
			require.Equal(t, []json.RawMessage{json.RawMessage(doc)}, items)
		}
	}
}
