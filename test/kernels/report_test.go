package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// spoken is what a guest says whose first suite has every kind of end and whose second is cut short.
const spoken = `
@@weir-begin adapters/one
` + "\x16" + `=== RUN   TestLoads
    layout_test.go:198: from_pod        20102 of  30000
    layout_test.go:198: connect4          898 of   2000
` + "\x16" + `--- PASS: TestLoads (0.96s)
` + "\x16" + `=== RUN   TestParts
` + "\x16" + `=== RUN   TestParts/good
` + "\x16" + `=== RUN   TestParts/bad
    x_test.go:7: what went wrong
` + "\x16" + `=== NAME  TestParts
` + "\x16" + `--- FAIL: TestParts (1.50s)
    ` + "\x16" + `--- PASS: TestParts/good (0.50s)
    ` + "\x16" + `--- FAIL: TestParts/bad (1.00s)
` + "\x16" + `=== RUN   TestElsewhere
    x_test.go:9: needs something
` + "\x16" + `--- SKIP: TestElsewhere (0.00s)
` + "\x16" + `=== NAME
FAIL

@@weir-end adapters/one 1 12.5

@@weir-begin adapters/two
` + "\x16" + `=== RUN   TestHangs
panic: test timed out`

func TestReadsWhatTheGuestSays(t *testing.T) {
	r := newReport("6.1", "6.1.0-1-cloud-amd64")
	r.read(strings.NewReader(spoken))
	require.Len(t, r.suites, 2)
	one, two := r.suites[0], r.suites[1]
	assert.True(t, one.ended)
	assert.Equal(t, 1, one.status)
	assert.False(t, one.ok())
	assert.Equal(t, []int{1, 1, 1}, []int{one.count("PASS"), one.count("FAIL"), one.count("SKIP")})
	assert.Equal(t, 2, one.tests[1].subtests)
	assert.Equal(t, 1.5, one.tests[1].seconds)
	assert.Contains(t, one.tests[1].output.String(), "what went wrong")
	assert.NotContains(t, one.tests[0].output.String(), "what went wrong")
	assert.Equal(t, map[string]count{"from_pod": {20102, 30000}, "connect4": {898, 2000}}, r.instructions)
	assert.False(t, two.ended)
	assert.False(t, two.ok())
	assert.False(t, r.finished())
}

func TestTables(t *testing.T) {
	r := newReport("6.1", "6.1.0-1-cloud-amd64")
	r.read(strings.NewReader(spoken))
	other := newReport("6.12", "6.12.9-cloud-amd64")
	other.read(strings.NewReader("@@weir-begin adapters/one\n=== RUN   TestLoads\n--- PASS: TestLoads (0.10s)\n@@weir-end adapters/one 0 1.0\n"))
	var out bytes.Buffer
	assert.False(t, printReports(&out, []*report{r, other}))
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"TEST 6.1.0-1-cloud-amd64 6.12.9-cloud-amd64",
		"TestLoads ok 1.0s ok 0.1s",
		"TestParts FAILED (2) 1.5s -",
		"TestElsewhere skipped 0.0s -",
		"TestHangs FAILED (did not end) 0.0s -",
		"from_pod 20102 - 30000",
		"panic: test timed out",
		"2 passed, 2 failed, 1 skipped",
	} {
		assert.Contains(t, got, want)
	}

	out.Reset()
	assert.True(t, printReports(&out, []*report{other}))
	other.broken = "the guest ended before its suites"
	assert.False(t, printReports(&out, []*report{other}), "a guest that broke off is a failure")
	assert.False(t, printReports(&out, []*report{newReport("6.1", "")}), "nothing passed")
}

func TestBinaryThatFailsOutsideItsTests(t *testing.T) {
	r := newReport("6.1", "")
	r.read(strings.NewReader("@@weir-begin a\nsh: ./a.test: not found\n@@weir-end a 127 1.0\n@@weir-begin b\n--- PASS: TestB (0.10s)\n@@weir-end b 0 1.0\n"))
	var out bytes.Buffer
	assert.False(t, printReports(&out, []*report{r}))
	assert.Contains(t, out.String(), "./a.test: not found")
	assert.Contains(t, out.String(), "1 passed, 1 failed, 0 skipped")
}
