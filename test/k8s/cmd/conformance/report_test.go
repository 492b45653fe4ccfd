package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLeftOutHasReasons(t *testing.T) {
	all, err := leftOut()
	require.NoError(t, err)
	assert.NotEmpty(t, all)
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out}
	text := "Will run 2 of 7000 specs\n------------------------------\nSSS• [12.345 seconds]\n[sig-network] DNS should work [Conformance] [sig-network, Conformance]\nfile.go:1\n\n" +
		"------------------------------\n• [FAILED] [300.000 seconds]\n[sig-network] Services [It] should work [sig-network]\n[FAILED] because\n" +
		"------------------------------\n[SynchronizedBeforeSuite] PASSED [1.000 seconds]\n[SynchronizedBeforeSuite]\n" +
		"S [SKIPPED] [0.100 seconds]\n[sig-network] Other\n"
	for _, piece := range bytes.SplitAfter([]byte(text), []byte("e")) {
		n, err := p.Write(piece)
		require.NoError(t, err)
		require.Equal(t, len(piece), n)
	}
	assert.Equal(t, "2 tests\n"+
		"  1/2 passed    12 s  DNS should work [Conformance]\n"+
		"  2/2 failed   300 s  Services should work\n"+
		"  3/2 skipped    0 s  Other\n", out.String())
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "junit_01.xml"), filepath.Join(dir, "junit.xml")
	require.NoError(t, os.WriteFile(from, []byte(`<testsuites><testsuite name="e2e" tests="9">
		<testcase name="[SynchronizedBeforeSuite]" time="1"></testcase>
		<testcase name="[It] [sig-network] a" time="1"></testcase>
		<testcase name="[It] [sig-network] b" time="1"><failure message="broken" type="failed">text</failure></testcase>
		<testcase name="[It] [sig-network] c" time="1"><skipped message="skipped - no zones"></skipped></testcase>
		<testcase name="[It] [sig-network] cloud" time="0"><skipped message="skipped"></skipped></testcase>
		<testcase name="[It] [sig-network] not in focus" time="0"><skipped message="skipped"></skipped></testcase>
		<testcase name="[It] [sig-storage] cloud" time="0"><skipped message="skipped"></skipped></testcase>
	</testsuite></testsuites>`), 0o600))
	var out bytes.Buffer
	c, err := report(from, to, []exception{{pattern: regexp.MustCompile("cloud"), reason: "none"}}, &out)
	require.NoError(t, err)
	assert.Equal(t, counts{passed: 1, failed: 1, skipped: 1, left: 1}, c)
	assert.Equal(t, "1 passed, 1 failed, 1 skipped, 1 left out", c.String())
	assert.Equal(t, "FAILED   [sig-network] b\nskipped  [sig-network] c: no zones\n", out.String())
	kept, err := os.ReadFile(to)
	require.NoError(t, err)
	assert.Contains(t, string(kept), "[sig-network] a")
	assert.NotContains(t, string(kept), "cloud")
	assert.NotContains(t, string(kept), "not in focus")

	// A suite that fails before its first test has failed, whatever it skipped.
	require.NoError(t, os.WriteFile(from, []byte(`<testsuites><testsuite name="e2e">
		<testcase name="[SynchronizedBeforeSuite]"><failure message="no nodes"></failure></testcase></testsuite></testsuites>`), 0o600))
	c, err = report(from, to, nil, &out)
	require.NoError(t, err)
	assert.Equal(t, counts{failed: 1}, c)
}

// The folder for results may be one that has something else.
func TestOnlyResultsAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	require.NoError(t, emptied(dir))
	for _, name := range []string{"junit_01.xml", "junit.xml", "e2e.log", "letter.txt"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	require.NoError(t, emptied(dir))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, "letter.txt", left[0].Name())
}
