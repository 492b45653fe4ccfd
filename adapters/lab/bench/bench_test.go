package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/adapters/lab/load"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestSpread(t *testing.T) {
	require.Equal(t, Spread{}, spreadOf(nil))
	require.Equal(t, Spread{3, 3, 3}, spreadOf([]float64{3}))
	sample := []float64{9, 1, 5}
	require.Equal(t, Spread{5, 1, 9}, spreadOf(sample))
	require.Equal(t, []float64{9, 1, 5}, sample, "left as it was")
	require.Equal(t, 4.0, median([]float64{9, 1, 5, 3}), "of an even number: between the two in the middle")
}

// The ratio is that of each round, not that of the medians: a slow moment hits both sides of its round.
func TestRatios(t *testing.T) {
	rounds := func(values ...float64) []Measurement {
		var out []Measurement
		for i, v := range values {
			out = append(out, Measurement{Round: i, Value: v})
		}
		return out
	}
	own, base := rounds(110, 55, 220), rounds(100, 50, 200)
	require.InDeltaSlice(t, []float64{1.1, 1.1, 1.1}, ratios(own, base, false), 1e-9)
	require.InDeltaSlice(t, []float64{1 / 1.1, 1 / 1.1, 1 / 1.1}, ratios(own, base, true), 1e-9)
	require.InDeltaSlice(t, []float64{1.1, 1.1}, ratios(own, []Measurement{base[2], base[0]}, false), 1e-9, "a round without its other side is left out")
	require.Empty(t, ratios(own, rounds(0, 0, 0), false))
}

func TestEvaluate(t *testing.T) {
	const server, self = 7, 8
	report := load.Report{
		Begin: 1e9, End: 3e9, Count: 1000, OwnCPU: 20 * time.Millisecond,
		CPU:     map[int]time.Duration{server: 10 * time.Millisecond, self: 4 * time.Millisecond, 9: time.Millisecond, 10: time.Millisecond},
		Machine: load.Machine{CPUs: 2, System: 100 * time.Millisecond, SoftIRQ: 36 * time.Millisecond, Steal: 40 * time.Millisecond},
	}
	m, err := evaluate(Case{Kind: load.TCPRR}, 3, report, load.ServerReport{}, server, self, false)
	require.NoError(t, err)
	require.Equal(t, 3, m.Round)
	require.Equal(t, 500.0, m.Value)
	require.InDelta(t, 30.0, m.CPU, 1e-9, "client and server")
	require.InDelta(t, 2.0, m.Agents, 1e-9)
	require.InDelta(t, 4.0, m.Follow, 1e-9)
	require.InDelta(t, 0.025, m.Others, 1e-9, "100 of 4000 ms")
	require.InDelta(t, 0.01, m.Steal, 1e-9)

	m, err = evaluate(Case{Kind: load.TCPRR}, 3, report, load.ServerReport{}, server, self, true)
	require.NoError(t, err)
	require.InDelta(t, 66.0, m.CPU, 1e-9, "and the interrupts, where the kernel keeps them apart")
	require.InDelta(t, 0.016, m.Others, 1e-9)

	report.Bytes = 5e9
	m, err = evaluate(Case{Kind: load.TCPStream}, 0, report, load.ServerReport{}, server, self, false)
	require.NoError(t, err)
	require.Equal(t, 20.0, m.Value, "Gbit/s")
	require.InDelta(t, 6.0, m.CPU, 1e-9, "a megabyte")

	report.Lost = 1000
	m, err = evaluate(Case{Kind: load.UDPRR}, 0, report, load.ServerReport{}, server, self, false)
	require.NoError(t, err)
	require.Equal(t, 0.5, m.Lost)

	slots := make([]uint32, 4000)
	for i := range slots {
		slots[i] = 1
	}
	report.Count = 4000
	m, err = evaluate(Case{Kind: load.UDPPPS}, 0, report, load.ServerReport{Slots: slots}, server, self, false)
	require.NoError(t, err)
	require.Equal(t, 1000.0, m.Value, "what arrived within the window, a second")
	require.Equal(t, 0.5, m.Lost)
	_, err = evaluate(Case{Kind: load.UDPPPS}, 0, report, load.ServerReport{}, server, self, false)
	require.ErrorContains(t, err, "received nothing")

	report.Connect.P50 = 50 * time.Microsecond
	m, err = evaluate(Case{Kind: load.TCPConnect}, 0, report, load.ServerReport{}, server, self, false)
	require.NoError(t, err)
	require.Equal(t, 50.0, m.Value)
}

func TestCases(t *testing.T) {
	all := Cases()
	names := map[string]bool{}
	for _, c := range all {
		require.False(t, names[c.Name], "%s twice", c.Name)
		names[c.Name] = true
		require.NotEmpty(t, c.Baseline)
	}
	chosen, err := Select("", false)
	require.NoError(t, err)
	limits := 0
	for _, c := range chosen {
		if c.Via == ViaLimit {
			limits++
		}
		require.Equal(t, c.Via != ViaLimit, c.Target > 0, "%s: all by default but the limits have a target", c.Name)
	}
	require.Equal(t, 4, limits)
	every, err := Select(".", true)
	require.NoError(t, err)
	require.Len(t, every, len(all))
	few, err := Select("^udp_rr/vxlan/.*/ipv6$", false)
	require.NoError(t, err)
	for _, c := range few {
		require.Equal(t, []any{load.UDPRR, PlaceVXLAN, 6}, []any{c.Kind, c.Place, c.Family})
	}
	_, err = Select("nothing like that", false)
	require.ErrorContains(t, err, "no case matches")
	_, err = Select("(", false)
	require.Error(t, err)

	compared := func(cases []Case) (n int) {
		for _, c := range cases {
			if c.Via == ViaKubeProxy {
				n++
			}
		}
		return n
	}
	require.Zero(t, compared(chosen))
	few, err = Select("", true)
	require.NoError(t, err)
	require.Equal(t, 2, compared(few))
	few, err = Select("service_1000", false)
	require.NoError(t, err)
	require.Zero(t, compared(few))
	_, err = Select("kubeproxy", false)
	require.ErrorContains(t, err, "--kube-proxy")

	for name, want := range map[string]float64{
		"tcp_rr/same/direct/policies_1/export/ipv4":        1.05,
		"udp_rr/same/direct/policies_1000/export/ipv6":     1.05,
		"tcp_stream/same/direct/policies_1/export/ipv4":    1.05,
		"tcp_crr/same/direct/policies_1/export/ipv4":       1.00,
		"tcp_rr/vxlan/direct/policies_1/export/ipv6":       1.10,
		"tcp_crr/native/direct/policies_1/export/ipv4":     1.00,
		"tcp_stream/native/direct/policies_1/export/ipv4":  1.05,
		"tcp_crr/same/service_5000/policies_1/quiet/ipv4":  0.97,
		"tcp_rr/same/service_1/policies_1/quiet/ipv6":      0.99,
		"tcp_rr/same/direct/policies_0/export/ipv4":        0,
		"tcp_rr/same/direct/policies_1/quiet/ipv4":         1.05,
		"tcp_rr_64/same/direct/policies_1/export/ipv4":     0,
		"tcp_rr/same/limit/ipv4":                           0,
		"tcp_stream/vxlan/service_1/policies_1/quiet/ipv4": 0,
	} {
		require.Equal(t, want, named(name).Target, name)
	}
	require.Equal(t, VXLAN, named("tcp_rr/native/plain/ipv4").routing(), "no lab of that routing is needed")
}

// Cases that share a lab and its state follow each other, so that each state is set once.
func TestOrderOfCases(t *testing.T) {
	type setting struct {
		r Routing
		s state
	}
	seen := map[setting]bool{}
	var last setting
	for _, c := range Cases() {
		now := setting{c.routing(), c.state()}
		require.False(t, now != last && seen[now], "%s: back to %v", c.Name, now)
		seen[now], last = true, now
	}
}

// The bed's own manifests are good, and there are as many objects as asked for.
func TestManifests(t *testing.T) {
	count := func(files []ports.LabManifest) int {
		n := 0
		for _, f := range files {
			for _, doc := range strings.Split(strings.TrimPrefix(string(f.Content), "---\n"), "---\n") {
				j, err := yaml.YAMLToJSON([]byte(doc))
				require.NoError(t, err)
				_, findings := manifest.Decode(f.File, j)
				require.Empty(t, findings)
				n++
			}
		}
		return n
	}
	require.Equal(t, 4, count(podManifests()))
	require.Zero(t, count(policyManifests(0)))
	require.Equal(t, 1, count(policyManifests(1)))
	require.Equal(t, 1000, count(policyManifests(1000)))
	require.Zero(t, count(serviceManifests(5, 5)))
	require.Zero(t, count(serviceManifests(5, 1)))
	require.Equal(t, 2, count(serviceManifests(0, 1)))
	require.Equal(t, 999, count(serviceManifests(1, 1000)))
	all := string(serviceManifests(0, 5000)[0].Content)
	for _, family := range []int{4, 6} {
		require.Contains(t, all, clusterIP(nearService, family).String())
	}
}

func TestChooseCPUs(t *testing.T) {
	allowed := []int{0, 2, 3}
	for _, tc := range []struct {
		asked, want []int
	}{{nil, []int{3}}, {[]int{3}, []int{3}}, {[]int{3, 0}, []int{3, 0}}, {[]int{2, 2}, []int{2, 2}}} {
		got, err := chooseCPUs(tc.asked, allowed)
		require.NoError(t, err)
		require.Equal(t, tc.want, got)
	}
	one, err := chooseCPUs(nil, []int{5})
	require.NoError(t, err)
	require.Equal(t, []int{5}, one)
	_, err = chooseCPUs([]int{1}, allowed)
	require.ErrorContains(t, err, "processor 1: allowed are [0 2 3]")
	_, err = chooseCPUs([]int{0, 2, 3}, allowed)
	require.Error(t, err)
	require.NotEmpty(t, allowedCPUs())
}

func TestWarnings(t *testing.T) {
	quiet := &Run{CPUs: []int{0, 1}, Results: []Result{{Own: Side{Rounds: []Measurement{{Others: 0.02}}}}}}
	require.Empty(t, warnings(quiet))
	busy := &Run{CPUs: []int{1, 1}, Results: []Result{{Own: Side{Rounds: []Measurement{{Others: 0.4, Steal: 0.1}}}, Base: Side{Rounds: []Measurement{{Others: 0.2}}}}}}
	require.Equal(t, []string{
		"the machine was not idle: other programs used 30 % of it (up to 40 %)",
		"the hypervisor took up to 10 % of the machine away",
		"client and server shared one processor",
	}, warnings(busy))
}

func TestStoredRun(t *testing.T) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	require.NoError(t, enc.Encode(sample()))
	golden(t, "run.json", b.String())
	got, err := Read(&b)
	require.NoError(t, err)
	require.Equal(t, sample(), got)
	require.Len(t, got.Failures(), 1)
	var missed []string
	for _, r := range got.Missed() {
		missed = append(missed, r.Name)
	}
	require.Equal(t, []string{"tcp_crr/same/direct/policies_1/quiet/ipv4"}, missed)

	_, err = Read(strings.NewReader(`{"version": 99}`))
	require.ErrorContains(t, err, "version 99, this program knows 1")
	_, err = Read(strings.NewReader(`[`))
	require.Error(t, err)
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, sample().Table(&b))
	golden(t, "table.txt", b.String())
}

// The image is well-formed, with one bar for each result and everything within its frame.
func TestPlot(t *testing.T) {
	got := sample().Plot()
	golden(t, "plot.svg", got)
	dec := xml.NewDecoder(strings.NewReader(got))
	bars := 0
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "g" {
			bars++
		}
	}
	require.Equal(t, 7, bars)

	empty := (&Run{}).Plot()
	require.NoError(t, xml.Unmarshal([]byte(empty), new(struct {
		XMLName xml.Name `xml:"svg"`
	})))
}

// Without the right to make namespaces the reason is told, and nothing is tried; with it, cases are asked for.
func TestMeasureSaysWhatItLacks(t *testing.T) {
	missing := lab.Check()
	_, err := Measure(t.Context(), Options{})
	if missing != nil {
		require.ErrorIs(t, err, ports.ErrUnsupported)
		return
	}
	require.ErrorContains(t, err, "no case")
}
