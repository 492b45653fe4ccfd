package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/filestore"
)

func TestReport(t *testing.T) {
	var r report
	var ds []time.Duration
	for i := range 100 {
		ds = append(ds, time.Duration(100-i)*time.Millisecond)
	}
	r.times("changes", 50*time.Millisecond, ds...)
	r.times("starts", time.Second, 3*time.Second, time.Second, 2*time.Second)
	r.bytes("resident", 40, 40<<20)
	r.bytes("tables", 0, 1<<30)
	require.Equal(t, row{Name: "changes", Unit: "ms", Value: 51, Low: 1, High: 99, Rounds: 100, Target: 50}, r.Rows[0])
	require.Equal(t, row{Name: "starts", Unit: "ms", Value: 2000, Low: 1000, High: 3000, Rounds: 3, Target: 1000}, r.Rows[1])
	require.Equal(t, []bool{true, true, false, false}, []bool{r.Rows[0].missed(), r.Rows[1].missed(), r.Rows[2].missed(), r.Rows[3].missed()})
	var out bytes.Buffer
	r.print(&out)
	require.Contains(t, out.String(), "≤ 40.0 MiB met")
	require.Contains(t, out.String(), "MISSED")
}

// The manifests that are written are those that the sizes of the report speak of.
func TestManifestsAreGood(t *testing.T) {
	for _, yaml := range []bool{false, true} {
		w := writer{dir: t.TempDir(), yaml: yaml}
		require.NoError(t, w.put(node()))
		require.NoError(t, w.services(7, 3))
		require.NoError(t, w.put(pod("apps", "pod-1", "app-1")))
		require.NoError(t, w.put(gate("client")))
		for i := range 5 {
			require.NoError(t, w.put(policy(i)))
		}
		events, findings, err := filestore.ReadDir(w.dir)
		require.NoError(t, err)
		require.Empty(t, findings)
		require.Len(t, events, 1+2*7+1+1+5)
	}
}

func TestChoose(t *testing.T) {
	for _, good := range []string{"", "idle", "cold|many"} {
		_, err := choose(good)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"nosuch", "("} {
		_, err := choose(bad)
		require.ErrorContains(t, err, "-only", bad)
	}
}
