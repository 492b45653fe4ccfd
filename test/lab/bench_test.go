package lab_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/lab/bench"
)

// TestBench measures two cases for a moment, stores the run, and shows and draws it. The numbers are not judged: the
// machine may be busy.
func TestBench(t *testing.T) {
	n := name(t, "b")
	store := filepath.Join(t.TempDir(), "run.json")
	out := must(t, "lab", "bench", "--name", n, "--rounds", "2", "--seconds", "0.2", "--store", store,
		"--case", `^(tcp_rr/same/limit/ipv6|tcp_crr/vxlan/service_1/policies_1/quiet/ipv4|udp_pps/vxlan/direct/policies_0/quiet/ipv6|tcp_rr/native/direct/policies_0/quiet/ipv4)$`)
	for _, want := range []string{"CASE", "RATIO", "one link", "weir service", "weir direct", "raw vxlan", "packets/s"} {
		require.Contains(t, out, want)
	}
	requireNoTrace(t, n)

	f, err := os.Open(store)
	require.NoError(t, err)
	defer f.Close()
	run, err := bench.Read(f)
	require.NoError(t, err)
	require.Len(t, run.Results, 4)
	for _, r := range run.Results {
		require.Empty(t, r.Failed)
		if r.Skipped != "" {
			require.Equal(t, bench.PlaceNative, r.Place)
			continue
		}
		require.Len(t, r.PerRound, 2)
		for _, s := range []bench.Side{r.Own, r.Base} {
			require.Len(t, s.Rounds, 2)
			require.Positive(t, s.Value.Min)
			require.Positive(t, s.CPU)
		}
	}
	require.Equal(t, out, must(t, "lab", "bench", "show", store))
	require.NoError(t, xml.Unmarshal([]byte(must(t, "lab", "bench", "plot", store)), new(struct {
		XMLName xml.Name `xml:"svg"`
	})))
	var list []bench.Case
	require.NoError(t, json.Unmarshal([]byte(must(t, "lab", "bench", "--list", "-o", "json", "--case", "^tcp_rr/same/limit")), &list))
	require.Len(t, list, 2)
}

// A lab that exists already is not touched.
func TestBenchRefusesAForeignLab(t *testing.T) {
	n := name(t, "f")
	must(t, "lab", "up", "--nodes", "1", "--name", n)
	_, errs, status := weir(t, "lab", "bench", "--name", n, "--case", "^tcp_rr/same/limit/ipv4$", "--rounds", "1", "--seconds", "0.1")
	require.Equal(t, 1, status)
	require.Contains(t, errs, "it exists, or was not cleared away")
	must(t, "lab", "status", "--name", n)
}

// However early or late it is interrupted, a run leaves nothing behind.
func TestBenchInterrupted(t *testing.T) {
	for _, tc := range []struct {
		name, after string
		wait        time.Duration // from that line on
	}{
		{"while nodes are made", "building the bed", 50 * time.Millisecond},
		{"while pods are made", "3 pods", 50 * time.Millisecond},
		{"while it measures", "3 pods", 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := name(t, "i")
			cmd := exec.Command(filepath.Join(bin, "weir"), "lab", "bench", "--name", n, "--rounds", "100", "--seconds", "0.1",
				"--case", "^(tcp_rr/same/limit/ipv4|tcp_crr/same/direct/policies_1/export/ipv4)$")
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			told, sent := "", false
			for s := bufio.NewScanner(stderr); s.Scan(); {
				told += s.Text() + "\n"
				if !sent && strings.Contains(s.Text(), tc.after) {
					sent = true
					time.Sleep(tc.wait)
					require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
				}
			}
			require.True(t, sent, told)
			require.Error(t, cmd.Wait())
			require.Equal(t, 1, cmd.ProcessState.ExitCode(), told)
			require.Contains(t, told, "interrupted")
			requireNoTrace(t, n)
		})
	}
}
