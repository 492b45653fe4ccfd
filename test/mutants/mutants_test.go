package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The list is true: every mutant can still be made.
func TestEveryMutantApplies(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range all() {
		assert.False(t, seen[m.name], "%s is there twice", m.name)
		seen[m.name] = true
		assert.NotEmpty(t, m.why, m.name)
		assert.NotEmpty(t, m.by.steps, m.name)
		assert.Equal(t, m.by.bpf, strings.HasPrefix(m.file, "bpf/"), m.name)
		text, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if assert.NoError(t, err) {
			_, err = m.apply(string(text))
			assert.NoError(t, err)
		}
	}
	assert.GreaterOrEqual(t, len(seen), 40)
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "fuzzing-and-mutants.md"))
	require.NoError(t, err)
	assert.Contains(t, string(text), fmt.Sprintf("%d mutants", len(seen)))
}

func TestApply(t *testing.T) {
	m := mutant{name: "a/b", file: "f", old: "x < y", new: "x <= y"}
	out, err := m.apply("if x < y {")
	require.NoError(t, err)
	assert.Equal(t, "if x <= y {", out)
	_, err = m.apply("if x > y {")
	assert.ErrorContains(t, err, "does not hold")
	_, err = m.apply("x < y, x < y")
	assert.ErrorContains(t, err, "2 times")
	m.new = m.old
	_, err = m.apply("x < y")
	assert.ErrorContains(t, err, "the same")
}

// module writes a small module with a tested function and an untested one.
func module(t *testing.T) (source string) {
	t.Helper()
	source = t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.org/m\n\ngo 1.24\n",
		"p/p.go":      "package p\n\nfunc Tested(a, b int) bool { return a < b }\n\nfunc Untested(a, b int) bool { return a > b }\n\nfunc Loop(n int) { for n > 0 { n-- } }\n",
		"p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestTested(t *testing.T) {\n\tLoop(1)\n\tt.Run(\"equal\", func(t *testing.T) {\n\t\tif Tested(1, 1) {\n\t\t\tt.Fatal(\"1 < 1\")\n\t\t}\n\t})\n}\n",
	} {
		path := filepath.Join(source, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	out, err := exec.Command("git", "-C", source, "init", "-q").CombinedOutput()
	require.NoError(t, err, string(out))
	return source
}

func TestFates(t *testing.T) {
	source := module(t)
	tr, err := copyTree(source, t.TempDir())
	require.NoError(t, err)
	r := &runner{tree: tr, limit: 30 * time.Second, bpf: "no clang here", kube: "no server here"}
	by := tests("./p", "./absent")
	for _, c := range []struct {
		m    mutant
		want fate
		how  string
	}{
		{mutant{old: "a < b", new: "a <= b", by: by}, killed, "TestTested/equal"},
		{mutant{old: "a > b", new: "a >= b", by: by}, survived, ""},
		{mutant{old: "a > b", new: "a >", by: by}, broken, "does not compile"},
		{mutant{old: "a >> b", new: "a", by: by}, broken, "does not hold the text"},
		{mutant{old: "a > b", new: "a >= b", by: tests("./absent")}, broken, "none of its packages"},
		{mutant{old: "a > b", new: "a >= b", by: suite{bpf: true}}, skipped, "no clang here"},
		{mutant{old: "a > b", new: "a >= b", by: suite{kube: true}}, skipped, "no server here"},
		{mutant{old: "a < b", new: "a <= b", by: by.and(suite{kube: true})}, skipped, "no server here"},
		{mutant{old: "n--", new: "panic(n)", by: by}, killed, "TestTested"},
	} {
		c.m.name, c.m.file = "p/x", "p/p.go"
		o := r.try(context.Background(), c.m)
		assert.Equal(t, c.want, o.fate, "%s: %s", c.m.new, o.how)
		assert.Contains(t, o.how, c.how)
		after, err := os.ReadFile(filepath.Join(tr.root, "p", "p.go"))
		require.NoError(t, err)
		before, err := os.ReadFile(filepath.Join(source, "p", "p.go"))
		require.NoError(t, err)
		assert.Equal(t, string(before), string(after), "the tree is as it was")
	}
}

func TestATestThatHangsIsEnded(t *testing.T) {
	tr, err := copyTree(module(t), t.TempDir())
	require.NoError(t, err)
	r := &runner{tree: tr, limit: time.Second}
	o := r.try(context.Background(), mutant{name: "p/x", file: "p/p.go", old: "n--", new: "n++; n--", by: tests("./p")})
	assert.Equal(t, killed, o.fate, o.how)
	assert.Contains(t, o.how, "timed out")
}

func TestLeftoversAreSwept(t *testing.T) {
	tr, err := copyTree(module(t), t.TempDir())
	require.NoError(t, err)
	left := filepath.Join(tr.root, "p", "testdata", "rapid", "x.fail")
	require.NoError(t, os.MkdirAll(filepath.Dir(left), 0o755))
	require.NoError(t, os.WriteFile(left, nil, 0o644))
	require.NoError(t, tr.sweep())
	assert.NoFileExists(t, left)
	assert.FileExists(t, filepath.Join(tr.root, "p", "p.go"))
}

func TestBaselineMustPass(t *testing.T) {
	source := module(t)
	path := filepath.Join(source, "p", "p.go")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), "a < b", "a <= b", 1)), 0o644))
	tr, err := copyTree(source, t.TempDir())
	require.NoError(t, err)
	_, err = baseline(context.Background(), []*runner{{tree: tr, limit: time.Minute}}, []mutant{{by: tests("./p")}}, &bytes.Buffer{})
	assert.ErrorContains(t, err, "fails without any mutant")
}

func TestReport(t *testing.T) {
	ms := []mutant{{name: "a/1"}, {name: "a/2", why: "harm", old: "x", new: "y"}, {name: "a/3"}, {name: "a/4"}}
	var b bytes.Buffer
	assert.False(t, report(&b, ms, []outcome{{fate: killed}, {fate: survived}, {fate: broken, how: "stale"}, {fate: skipped}}))
	assert.Contains(t, b.String(), "4 mutants: 1 killed, 1 survived, 1 broken, 1 skipped")
	assert.Contains(t, b.String(), "SURVIVED a/2")
	assert.Contains(t, b.String(), "stale")
	assert.True(t, report(&b, ms[:1], []outcome{{fate: killed}}))

	b.Reset()
	ms[0].why = "one too few"
	assert.True(t, report(&b, ms[:1], []outcome{{fate: killed, how: "core/p TestX\nmore", took: 1500 * time.Millisecond}}))
	assert.Regexp(t, `(?m)^a/1 +one too few +core/p TestX +1\.5s$`, b.String())

	for _, required := range []string{"root,bpf", "netns,kube"} {
		t.Setenv("REQUIRE", required)
		assert.False(t, report(&b, ms[:1], []outcome{{fate: skipped, how: "no clang here"}}))
	}
	t.Setenv("REQUIRE", "")
	assert.True(t, report(&b, ms[:1], []outcome{{fate: skipped, how: "no clang here"}}))
}

func TestNoticedBy(t *testing.T) {
	for out, want := range map[string]string{
		"ok  \tgithub.com/weirnet/weir/core/a\t0.1s\n--- FAIL: TestB (0.00s)\n    --- FAIL: TestB/c (0.00s)\nFAIL\nFAIL\tgithub.com/weirnet/weir/core/b\t0.1s\n--- FAIL: TestB/z (0.00s)\nFAIL\tgithub.com/weirnet/weir/core/d\t0.1s\n": "core/b TestB/c",
		"panic: oh\nFAIL\tgithub.com/weirnet/weir/core/b\t0.1s\n": "panic: oh",
		"FAIL\tgithub.com/weirnet/weir/core/b\t0.1s\n":            "core/b",
	} {
		assert.Equal(t, want, noticedBy(out))
	}
}

func TestServerOfTheAPI(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("WEIR_K8S_BIN", dir)
	assert.Equal(t, "needs etcd in "+dir+" (make k8s-api)", whyNoKube())
	for _, name := range []string{"etcd", "kube-apiserver"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o755))
	}
	assert.Empty(t, whyNoKube())
}

func TestFlags(t *testing.T) {
	var out, errs bytes.Buffer
	assert.Equal(t, 0, run(context.Background(), []string{"-list", "-run", "^policy/deny-precedence$"}, &out, &errs))
	assert.Contains(t, out.String(), "core/policy/outcome.go")
	assert.Contains(t, out.String(), "1 mutants")
	for _, bad := range [][]string{{"-run", "("}, {"what"}, {"-jobs", "0"}, {"-nonsense"}} {
		assert.Equal(t, 2, run(context.Background(), bad, &out, &errs), bad)
	}
}

// An expression that selects nothing would otherwise look like a run that nothing survived.
func TestNoSuchMutant(t *testing.T) {
	for _, args := range [][]string{{"-run", "nosuch"}, {"-list", "-run", "nosuch"}} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(context.Background(), args, &stdout, &stderr))
		assert.Contains(t, stderr.String(), "-run nosuch: no mutant")
		assert.Empty(t, stdout.String())
	}
}
