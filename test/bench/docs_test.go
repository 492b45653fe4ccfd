// Package bench_test holds docs/performance.md against the run that is stored beside it.
package bench_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/lab/bench"
)

var update = flag.Bool("update", false, "write table and image of the page anew, from the stored run")

const (
	page  = "../../docs/performance.md"
	run   = "../../docs/performance/run.json"
	image = "../../docs/performance/ratios.svg"
	// The table stands between these lines of the page.
	begin = "<!-- the stored run -->\n```\n"
	end   = "```\n<!-- end of the stored run -->\n"
)

// TestPage: the table and the image in the documentation are those of the stored run.
func TestPage(t *testing.T) {
	f, err := os.Open(run)
	require.NoError(t, err)
	defer f.Close()
	stored, err := bench.Read(f)
	require.NoError(t, err)
	var table bytes.Buffer
	require.NoError(t, stored.Table(&table))

	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "the page has a place for the table")
	shown, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "the table has an end")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+begin+table.String()+end+after), 0o644))
		require.NoError(t, os.WriteFile(image, []byte(stored.Plot()), 0o644))
		return
	}
	const how = "go test ./test/bench -update writes it anew"
	require.Equal(t, table.String(), shown, how)
	drawn, err := os.ReadFile(image)
	require.NoError(t, err)
	require.Equal(t, stored.Plot(), string(drawn), how)
}

// TestPageNamesTheTargets: each target that the page states is that of the cases.
func TestPageNamesTheTargets(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, line := range []string{
		"| same node | raw same node | 1.05 | 1.00 | 1.05 | 1.05 |",
		"| two nodes, VXLAN | raw vxlan | 1.10 | 1.00 | 1.05 | – |",
		"| two nodes, native routing | raw routing | 1.10 | 1.00 | 1.05 | – |",
		"| ClusterIP | weir direct | 0.99 | 0.97 | – | – |",
	} {
		require.Contains(t, string(text), line)
	}
	want := map[string]float64{}
	cases, err := bench.Select("^(tcp_rr|tcp_crr|tcp_stream|udp_rr)/(same|vxlan|native)/(direct|service_1)/policies_1/quiet/ipv4$", false)
	require.NoError(t, err)
	for _, c := range cases {
		want[string(c.Kind)+" "+c.Place+" "+c.Via] = c.Target
	}
	for name, target := range map[string]float64{
		"tcp_rr same direct": 1.05, "tcp_crr same direct": 1, "tcp_stream same direct": 1.05, "udp_rr same direct": 1.05,
		"tcp_rr vxlan direct": 1.10, "tcp_crr vxlan direct": 1, "tcp_stream vxlan direct": 1.05, "udp_rr vxlan direct": 0,
		"tcp_rr native direct": 1.10, "tcp_crr native direct": 1, "tcp_stream native direct": 1.05, "udp_rr native direct": 0,
		"tcp_rr same service": 0.99, "tcp_crr same service": 0.97, "tcp_stream same service": 0, "udp_rr same service": 0,
	} {
		require.Equal(t, target, want[name], name)
	}
}
