package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample is a module with every way in which tests end.
var sample = map[string]string{
	"go.mod":         "module example.org/sample\n\ngo 1.24\n",
	"good/g_test.go": "package good\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { t.Run(\"one\", func(*testing.T) {}); t.Run(\"two\", func(t *testing.T) { t.Log(\"hm\"); t.Skip(\"needs root\") }) }\nfunc TestC(t *testing.T) { t.SkipNow() }\nfunc TestD(t *testing.T) { t.Skip(\"needs root\") }\n",
	"bad/b_test.go":  "package bad\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Error(\"two is\\nnot three\") }) }\n",
	"own/o_test.go":  "package own\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) {}); t.Error(\"after its subtests\") }\n",
	"panics/p_test.go": "package panics\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { panic(\"oh no\") }\n" +
		"func TestC(t *testing.T) {}\n",
	"exits/e_test.go":  "package exits\n\nimport (\"os\"; \"testing\")\n\nfunc TestMain(m *testing.M) { m.Run(); os.Exit(3) }\nfunc TestA(t *testing.T) {}\n",
	"broken/b_test.go": "package broken\n\nfunc f() { undefinedThing() }\n",
	"empty/e.go":       "package empty\n",
}

// run builds the command and runs it in a fresh copy of the sample.
func run(t *testing.T, files map[string]string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	bin := filepath.Join(t.TempDir(), "testreport")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err = cmd.CombinedOutput()
	return string(out), err
}

func TestReport(t *testing.T) {
	text, err := run(t, sample, "-vet=off", "./...")
	assert.Error(t, err)
	t.Log(text)

	lines := strings.Split(strings.TrimSpace(text), "\n")
	assert.Equal(t, "6 passed, 5 failed, 3 skipped", lines[len(lines)-1])

	line := func(prefix string) string {
		for _, l := range lines {
			if strings.HasPrefix(l, prefix) {
				return strings.Join(strings.Fields(l), " ")
			}
		}
		return ""
	}
	assert.Regexp(t, `^ok good 2 passed, 3 skipped`, line("ok    good"))
	assert.Regexp(t, `^FAIL bad 1 passed, 1 failed`, line("FAIL  bad"))
	assert.Regexp(t, `^- empty no tests`, line("-     empty"))

	for _, want := range []string{
		"Skipped:\n  needs root\n    good TestB/two\n    good TestD\n  no reason given\n    good TestC\n",
		"two is\n", "not three", "after its subtests", "panic: oh no", "undefined: undefinedThing",
		"Failed:\n  bad TestB/sub\n  broken (does not build)\n  exits (failed outside its tests)\n  own TestA\n  panics TestB\n",
	} {
		assert.Contains(t, text, want)
	}
}

func TestAllWell(t *testing.T) {
	text, err := run(t, map[string]string{"go.mod": sample["go.mod"], "good/g_test.go": sample["good/g_test.go"]}, "./...")
	require.NoError(t, err, text)
	assert.True(t, strings.HasSuffix(text, "\n2 passed, 0 failed, 3 skipped\n"), text)
}

func TestGoTestThatCannotRunIsAFailure(t *testing.T) {
	text, err := run(t, map[string]string{"go.mod": "not a module file"}, "./...")
	assert.Error(t, err)
	assert.Contains(t, text, "go.mod:1")
	assert.True(t, strings.HasSuffix(text, "0 passed, 1 failed, 0 skipped\n"), text)
}

func TestSkipReason(t *testing.T) {
	for output, want := range map[string]string{
		"=== RUN   TestX\n    a_test.go:3: needs root\n--- SKIP: TestX (0.00s)\n":                           "needs root",
		"    a_test.go:3: first\n    b_test.go:4: needs clang:\n        install it\n--- SKIP: TestX (0s)\n": "needs clang: install it",
		"--- SKIP: TestX (0.00s)\n": "no reason given",
		"":                          "no reason given",
	} {
		assert.Equal(t, want, skipReason(output), output)
	}
}
