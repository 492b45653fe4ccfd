package connectivity

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestExpectedDrops(t *testing.T) {
	for _, tc := range []struct {
		entries  []string
		has, not string
	}{
		{nil, "Policy denied", "CT: Map insertion failed"},
		{[]string{"+CT: Map insertion failed"}, "CT: Map insertion failed", "Invalid identity"},
		{[]string{"+CT: Map insertion failed"}, "Policy denied", "Invalid identity"},
		{[]string{"-Policy denied"}, "Invalid source ip", "Policy denied"},
		{[]string{"Invalid identity"}, "Invalid identity", "Policy denied"},
	} {
		got, err := ExpectedDrops(tc.entries)
		require.NoError(t, err)
		assert.Contains(t, got, tc.has, tc.entries)
		assert.NotContains(t, got, tc.not, tc.entries)
	}
	for _, bad := range []string{"No such reason", "+", ""} {
		_, err := ExpectedDrops([]string{bad})
		require.ErrorContains(t, err, "is no reason for a drop; allowed")
	}
}

func TestJudgeDrops(t *testing.T) {
	expected, err := ExpectedDrops(nil)
	require.NoError(t, err)
	type counts = map[datapath.Reason]uint64
	assert.Empty(t, JudgeDrops("a", counts{133: 7, 181: 1, 132: 2}, nil, expected), "policies drop, and that is what they are for")
	assert.Empty(t, JudgeDrops("a", counts{155: 0}, nil, expected))
	assert.Equal(t, []string{
		"node a has dropped 5 packets: CT: Map insertion failed (reason 155); 3 of them during this run",
	}, JudgeDrops("a", counts{155: 5, 133: 9}, counts{155: 2}, expected))
	assert.Equal(t, []string{"node a has dropped 1 packets: Missed tail call (reason 140); 0 of them during this run"},
		JudgeDrops("a", counts{140: 1}, counts{140: 4}, expected), "an agent whose counters began anew")
	assert.Equal(t, []string{"node a has dropped 1 packets: Missed tail call (reason 140)"}, JudgeDrops("a", counts{140: 1}, nil, expected))
	assert.Equal(t, []string{"node a has dropped 1 packets for the unknown reason 250"}, JudgeDrops("a", counts{250: 1}, nil, expected))
	assert.Len(t, JudgeDrops("a", counts{133: 1}, nil, nil), 1, "nothing is expected")
}

func TestLogJudge(t *testing.T) {
	j := LogJudge{Levels: []string{"ERROR"}}
	for _, line := range []string{
		`time=2024-01-02T03:04:05Z level=INFO msg="level=ERROR is only quoted"`,
		"Kernel 6.1", "", "goroutine 1 [running]:",
		`time=2024-01-02T03:04:05Z level=WARN msg="API server"`,
		`time=1 level=ERROR msg="Error initially creating lease lock" err="leases \"x\" already exists" lock=a/b`,
	} {
		j.Line(line)
	}
	assert.Empty(t, j.Problems("cilium-x"))
	j.Line("time=1 level=ERROR msg=configuration")
	j.Line(`time=1 level=ERROR msg=x err="Failed to update lock"`)
	j.Line("time=2 level=ERROR msg=configuration")
	j.Line("panic: runtime error: index out of range")
	assert.Equal(t, []string{
		"cilium-x says 2 times: time=1 level=ERROR msg=configuration",
		`cilium-x says 1 times: time=1 level=ERROR msg=x err="Failed to update lock"`,
		"cilium-x says 1 times: panic: runtime error: index out of range",
	}, j.Problems("cilium-x"))
	for _, c := range "abcdef" {
		j.Line("level=ERROR msg=" + string(c))
	}
	got := j.Problems("cilium-x")
	assert.Len(t, got, 6)
	assert.Equal(t, "cilium-x: 4 more lines like these", got[5])
	j = LogJudge{Levels: []string{"ERROR", "WARN"}}
	j.Line("time=1 level=WARN msg=x")
	assert.Len(t, j.Problems("p"), 1)
}

func TestJudgeRestarts(t *testing.T) {
	assert.Empty(t, JudgeRestarts(map[string]int{"n/a": 1}, map[string]int{"n/a": 1, "n/b": 3}))
	assert.Equal(t, []string{
		"pod n/a lost its connection: its container was restarted 2 times, and 1 times when the connections were made",
		"pod n/b, which kept a connection, is gone",
	}, JudgeRestarts(map[string]int{"n/a": 1, "n/b": 0}, map[string]int{"n/a": 2}))
	assert.Equal(t, []string{"no connections were made"}, JudgeRestarts(nil, map[string]int{"n/a": 2}))
}
