package policycases

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file of cases reads:
//
//	=== NAME
//	# why the table is as it is
//	>>> apply
//	manifests (YAML)
//	>>> complaints
//	texts that the complaints about the manifests above contain, one a line; without this section there
//	must be none but warnings
//	>>> delete
//	KIND NAMESPACE/NAME
//	>>> expect
//	the truth table, see table_test.go
//
// The sections take effect in their order, and any may come again. What a case leaves behind is
// taken back after it.
type policyCase struct {
	name, file string
	line       int // of the name
	steps      []step
}

type step struct {
	kind string // apply, delete, expect
	line int    // of the first line of text
	text string
	// complaints about what is applied.
	complaints []string
}

// lines are those of the text that say something, with their numbers.
func (s step) lines() (out []string, at []int) {
	for i, l := range strings.Split(s.text, "\n") {
		if l, _, _ = strings.Cut(l, "#"); strings.TrimSpace(l) != "" {
			out, at = append(out, strings.TrimSpace(l)), append(at, s.line+i)
		}
	}
	return out, at
}

func parseCases(file, text string) ([]*policyCase, error) {
	var out []*policyCase
	var open *step
	for i, l := range strings.Split(text, "\n") {
		fault := func(format string, a ...any) error {
			return fmt.Errorf("%s:%d: %s", file, i+1, fmt.Sprintf(format, a...))
		}
		head, section := strings.CutPrefix(l, ">>> ")
		switch name, named := strings.CutPrefix(l, "=== "); {
		case named:
			out, open = append(out, &policyCase{name: strings.TrimSpace(name), file: file, line: i + 1}), nil
		case section && len(out) == 0:
			return nil, fault("section before the first case")
		case section:
			c := out[len(out)-1]
			kind := strings.TrimSpace(head)
			if !slices.Contains([]string{"apply", "delete", "expect", "complaints"}, kind) {
				return nil, fault("section %q: apply, delete, complaints or expect are allowed", kind)
			}
			if kind == "complaints" && (len(c.steps) == 0 || c.steps[len(c.steps)-1].kind != "apply") {
				return nil, fault("complaints are about the apply section above")
			}
			c.steps = append(c.steps, step{kind: kind, line: i + 2})
			open = &c.steps[len(c.steps)-1]
		case open != nil:
			open.text += l + "\n"
		case strings.TrimSpace(l) != "" && !strings.HasPrefix(l, "#"):
			return nil, fault("text outside a section")
		}
	}
	for _, c := range out {
		c.adoptComplaints()
		if len(c.steps) == 0 || c.steps[len(c.steps)-1].kind != "expect" {
			return nil, fmt.Errorf("%s:%d: case %s does not end with what it expects", c.file, c.line, c.name)
		}
	}
	return out, nil
}

// adoptComplaints moves complaints to the step that they are about.
func (c *policyCase) adoptComplaints() {
	var kept []step
	for _, s := range c.steps {
		if s.kind == "complaints" {
			kept[len(kept)-1].complaints, _ = s.lines()
			continue
		}
		kept = append(kept, s)
	}
	c.steps = kept
}

// loadCases reads all cases, in the order of files and lines.
func loadCases(t *testing.T) []*policyCase {
	t.Helper()
	files, err := filepath.Glob("testdata/cases/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var out []*policyCase
	names := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		cases, err := parseCases(f, string(b))
		require.NoError(t, err)
		for _, c := range cases {
			require.False(t, names[c.name], "%s:%d: there is another case %s", c.file, c.line, c.name)
			names[c.name] = true
			for _, s := range c.steps {
				if s.kind == "expect" {
					_, err := parseTable(c.file, s)
					require.NoError(t, err)
				}
			}
		}
		out = append(out, cases...)
	}
	return out
}

func TestParseCases(t *testing.T) {
	cases, err := parseCases("f", "=== one\n# why\n>>> apply\nkind: X\n>>> complaints\nbad\n>>> expect\ndeny * -> x/a\n=== two\n>>> expect\n")
	require.NoError(t, err)
	require.Len(t, cases, 2)
	require.Equal(t, []step{
		{kind: "apply", line: 4, text: "kind: X\n", complaints: []string{"bad"}},
		{kind: "expect", line: 8, text: "deny * -> x/a\n"},
	}, cases[0].steps)
	for text, want := range map[string]string{
		">>> apply\n":                     "before the first case",
		"=== a\n>>> later\n":              `section "later"`,
		"=== a\n>>> complaints\n":         "apply section above",
		"=== a\nkind: X\n":                "outside a section",
		"=== a\n>>> apply\nkind: X\n":     "does not end with what it expects",
		"=== a\n>>> expect\n=== b\n# c\n": "case b does not end",
	} {
		_, err := parseCases("f", text)
		require.ErrorContains(t, err, want, text)
	}
}
