package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldens are command lines; what they print is in testdata/golden, one file each.
var goldens = map[string]string{
	"status":                "status",
	"status-verbose":        "status --verbose",
	"status-brief":          "status --brief",
	"status-json":           "status -o json",
	"endpoint-list":         "endpoint list",
	"endpoint-list-json":    "endpoint list -o json",
	"endpoint-get":          "endpoint get shop/backend",
	"endpoint-get-json":     "endpoint get 12 -o json",
	"endpoint-get-absent":   "endpoint get 99",
	"identity-list":         "identity list",
	"identity-list-use":     "identity list --endpoints",
	"identity-list-label":   "identity list k8s:app=backend -o json",
	"service-list":          "service list",
	"service-list-json":     "service list -o json",
	"node-list":             "node list",
	"node-list-json":        "node list -o json",
	"bpf-lb-list":           "bpf lb list",
	"bpf-lb-list-json":      "bpf lb list -o json",
	"bpf-nat-list":          "bpf nat list",
	"bpf-nat-list-json":     "bpf nat list -o json",
	"bpf-lb-list-frontends": "bpf lb list --frontends",
	"bpf-lb-list-backends":  "bpf lb list --backends",
	"bpf-lb-list-revnat":    "bpf lb list --revnat",
	"bpf-ct-list":           "bpf ct list global",
	"bpf-ct-list-d":         "bpf ct list global -d",
	"bpf-ct-list-json":      "bpf ct list global -o json",
	"bpf-ct-flush":          "bpf ct flush global",
	"bpf-policy-get":        "bpf policy get shop/backend",
	"bpf-policy-get-n":      "bpf policy get 12 -n",
	"bpf-policy-get-all":    "bpf policy get --all",
	"bpf-policy-get-json":   "bpf policy get 12 -o json",
	"bpf-ipcache-list":      "bpf ipcache list",
	"bpf-ipcache-list-json": "bpf ipcache list -o json",
	"bpf-ipcache-get":       "bpf ipcache get 10.244.2.6",
	"bpf-ipcache-get-world": "bpf ipcache get 198.51.100.1",
	"bpf-endpoint-list":     "bpf endpoint list",
	"policy-get":            "policy get",
	"policy-get-json":       "policy get shop/backend-ingress -o json",
	"policy-get-absent":     "policy get shop/none",
	"policy-matrix":         "policy matrix -f testdata/shop",
	"policy-matrix-json":    "policy matrix -f testdata/shop -o json --port 9090 --protocol tcp",
	"policy-matrix-icmp":    "policy matrix -f testdata/shop --protocol icmp",
	"policy-matrix-broken":  "policy matrix -f testdata/broken",
	"policy-verdict":        "policy verdict -f testdata/shop --from shop/frontend --to shop/backend --port 9090",
	"policy-verdict-denied": "policy verdict -f testdata/shop --from shop/frontend --to 203.0.113.9 --port 443 --protocol udp",
	"policy-verdict-json":   "policy verdict -f testdata/shop --from ops/monitor --to shop/backend --protocol icmp -o json",
	"policy-test":           "policy test -f testdata/shop --expect testdata/expect/met.yaml",
	"policy-test-json":      "policy test -f testdata/shop --expect testdata/expect/met.yaml -o json",
	"policy-test-miss":      "policy test -f testdata/shop --expect testdata/expect/missed.yaml",
	"policy-test-miss-json": "policy test -f testdata/shop --expect testdata/expect/missed.yaml -o json",
	"policy-test-broken":    "policy test -f testdata/broken --expect testdata/expect/broken.yaml",
	"policy-test-wrong":     "policy test -f testdata/shop --expect testdata/expect/wrong.yaml",
	"observe":               "observe",
	"observe-policy-names":  "observe --print-policy-names --print-node-name",
	"observe-numeric":       "observe --numeric --time-format RFC3339Milli",
	"observe-color":         "observe --color always --verdict FORWARDED,DROPPED",
	"observe-dict":          "observe -o dict --last 2",
	"observe-table":         "observe -o table --print-policy-names",
	"observe-json":          "observe -o json",
	"observe-jsonpb":        "observe -o jsonpb --verdict POLICY_DENIED",
}

func TestGolden(t *testing.T) {
	for name, line := range goldens {
		t.Run(name, func(t *testing.T) {
			r := weir(fixture(), "", strings.Fields(line)...)
			got := r.out
			if r.err != "" {
				got += "[standard error]\n" + r.err
			}
			if r.code != 0 {
				got += fmt.Sprintf("[exit status %d]\n", r.code)
			}
			path := filepath.Join("testdata", "golden", name+".txt")
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "run with -update to make it")
			require.Equal(t, string(want), got, "weir %s", line)
			if r.code == 0 && strings.Contains(line, "-o json") {
				dec := json.NewDecoder(strings.NewReader(r.out))
				for dec.More() {
					var v any
					require.NoError(t, dec.Decode(&v))
				}
			}
		})
	}
}

func TestNoGoldenIsLeftBehind(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.txt")
	require.NoError(t, err)
	for _, f := range files {
		require.Contains(t, goldens, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
}

// What observe writes as JSON it reads back, and shows the same.
func TestObserveReadsWhatItWrote(t *testing.T) {
	written := weir(fixture(), "", "observe", "-o", "json", "--all").out
	for _, format := range []string{"compact", "dict", "table", "json"} {
		direct := weir(fixture(), "", "observe", "--all", "-o", format, "--print-policy-names")
		read := weir(nil, written, "observe", "--all", "-o", format, "--print-policy-names", "--input-file", "-")
		require.Zero(t, read.code, read.err)
		require.Equal(t, direct.out, read.out)
	}
}

func TestObserveSkipsWhatItDoesNotKeep(t *testing.T) {
	r := weir(nil, `{"node_status":{"state_change":"NODE_CONNECTED"}}`+"\n", "observe", "--input-file", "-")
	require.Zero(t, r.code)
	require.Empty(t, r.out)
	require.Contains(t, r.err, "1 line(s) left out")
	r = weir(nil, "{}\nrubbish\n", "observe", "--input-file", "-")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "line 2")
}

// An empty agent answers lists, not null.
func TestEmptyListsInJSON(t *testing.T) {
	for _, line := range []string{"endpoint list", "identity list", "service list", "node list", "bpf ct list global", "bpf policy get --all"} {
		r := weir(empty(), "", append(strings.Fields(line), "-o", "json")...)
		require.Zero(t, r.code, r.err)
		require.Equal(t, "[]\n", r.out, line)
	}
	for _, line := range []string{"bpf lb list", "bpf ipcache list", "bpf endpoint list"} {
		require.Equal(t, "{}\n", weir(empty(), "", append(strings.Fields(line), "-o", "json")...).out, line)
	}
	var rows []flow.Entry
	require.Error(t, json.Unmarshal([]byte(weir(empty(), "", "observe", "-o", "json").out), &rows), "no flow, no output")
}

func empty() ports.Inspector { return emptyInspector() }
