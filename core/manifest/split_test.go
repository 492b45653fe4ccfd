package manifest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSplitYAML(t *testing.T) {
	cases := map[string][]string{
		"a: 1\n---\nb: 2\n":            {"a: 1\n", "\n\nb: 2\n"},
		"---\na: 1\n---\n# c\n---":     {"\na: 1\n", "\n\n\n# c\n"},
		"--- # x\r\na: 1\r\n--- {}":    {" # x\r\na: 1\r\n", "\n\n {}"},
		"a: |\n  ---\n  x\n":           {"a: |\n  ---\n  x\n"},
		"a: |-\n ----\n----: x\n":      {"a: |-\n ----\n----: x\n"},
		"a: 1\n...\nb: 2\n":            {"a: 1\n", "\n\nb: 2\n"},
		"\ufeffa: 1":                   {"a: 1"},
		"":                             nil,
		"\n \n---\n---\n":              nil,
		"--- a\n--- b":                 {" a\n", "\n b"},
		"x: 1\n...\n--- \ny: 2\n...\n": {"x: 1\n", "\n\n \ny: 2\n"},
	}
	for in, want := range cases {
		var got []string
		for _, part := range SplitYAML([]byte(in)) {
			got = append(got, string(part))
		}
		assert.Equal(t, want, got, "%q", in)
	}
}

// A parser's line numbers in a part are those of the file.
func TestSplitYAMLKeepsLines(t *testing.T) {
	lines := strings.Repeat("x: 1\n---\n", 5) + "here: 1\n"
	parts := SplitYAML([]byte(lines))
	last := string(parts[len(parts)-1])
	assert.Equal(t, strings.Count(lines[:strings.Index(lines, "here")], "\n"), strings.Count(last[:strings.Index(last, "here")], "\n"))
}
