package policycases

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/matrix"
	"github.com/weirnet/weir/ports"
)

// labPrefix and the number of the process make the lab's name, so that runs at the same time do not meet.
const labPrefix = "cases"

var labName = labPrefix + strconv.Itoa(os.Getpid())

// patience is how long silence lasts until it means "denied". What should have been allowed gets a second,
// longer chance, so that a short one costs nothing but time.
const patience = 300 * time.Millisecond

// bench is the lab with a worker in every place.
type bench struct {
	l       *lab.Lab
	workers map[string]*worker // by place
	rules   int                // compared with the matrix
	silent  int                // denials of which no rule was recorded
}

// TestLab judges every case by real packets, then the traffic that goes on under changes.
func TestLab(t *testing.T) {
	if err := lab.Check(); err != nil {
		if r := strings.Split(os.Getenv("REQUIRE"), ","); slices.Contains(r, "root") || slices.Contains(r, "bpf") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cases := loadCases(t)
	b := newBench(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { b.run(t, c) })
	}
	t.Run("rules", func(t *testing.T) {
		t.Logf("%d rules of recorded flows are those of the matrix; %d denials left no record", b.rules, b.silent)
		require.Less(t, b.silent*20, b.rules+20)
	})
	t.Run("nothing left", b.checkLeftovers)
	t.Run("traffic", b.traffic)
	t.Run("nothing left of traffic", b.checkLeftovers)
}

func newBench(t *testing.T) *bench {
	ctx := context.Background()
	dir := t.TempDir()
	out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/weir-agent", "../../cmd/weir-cni").CombinedOutput()
	require.NoError(t, err, string(out))
	l, err := lab.New(lab.Options{
		Name:      labName,
		AgentPath: filepath.Join(dir, "weir-agent"),
		CNIPath:   filepath.Join(dir, "weir-cni"),
		Dial:      func(socket string) lab.Agent { return api.NewClient(socket) },
		Validate: func(file string, object []byte) []cluster.Finding {
			_, findings := manifest.Decode(file, object)
			return findings
		},
	})
	require.NoError(t, err)
	clearAway(t)
	t.Cleanup(func() {
		require.NoError(t, l.Down(ctx))
		left, err := l.Traces()
		require.NoError(t, err)
		require.Empty(t, left)
	})
	findings, err := l.Up(ctx, 2, base(t))
	require.NoError(t, err)
	require.Empty(t, findings)
	b := &bench{l: l, workers: map[string]*worker{}}
	for _, p := range places {
		inside := p.name
		switch {
		case p.name == "out":
			inside = lab.OutsideName
		case !p.pod:
			inside = lab.NodeNamespace + "/" + p.name
		}
		if !p.pod {
			serveOn(t, labName, inside)
		}
		b.workers[p.name] = startWorker(t, labName, inside)
	}
	return b
}

// clearAway takes down the labs of runs that ended without doing so.
func clearAway(t *testing.T) {
	me, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	for _, name := range lab.List("") {
		pid, err := strconv.Atoi(strings.TrimPrefix(name, labPrefix))
		if err != nil || !strings.HasPrefix(name, labPrefix) {
			continue
		}
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && string(comm) == string(me) {
			continue
		}
		l, err := lab.New(lab.Options{Name: name})
		require.NoError(t, err)
		require.NoError(t, l.Down(context.Background()), "what an earlier run left")
	}
}

func base(t *testing.T) []ports.LabManifest {
	files, err := lab.ReadManifests([]string{"testdata/cluster"})
	require.NoError(t, err)
	return files
}

func text(s string) []ports.LabManifest {
	return []ports.LabManifest{{File: "case.yaml", Content: []byte(s)}}
}

func (b *bench) run(t *testing.T, c *policyCase) {
	ctx := context.Background()
	p := newPaper(t)
	defer b.restore(t, c)
	for _, s := range c.steps {
		switch s.kind {
		case "apply":
			findings, err := b.l.Apply(ctx, text(s.text))
			require.NoError(t, err)
			checkComplaints(t, c, s, findings)
		case "delete":
			lines, _ := s.lines()
			for _, l := range lines {
				kind, name, _ := strings.Cut(l, " ")
				require.NoError(t, b.l.DeleteObject(ctx, kind, name))
			}
		}
		p.take(t, c, s, func(want table) { b.expect(t, c, s, p, want) })
		if t.Failed() {
			return
		}
	}
}

// restore takes back what a case changed.
func (b *bench) restore(t *testing.T, c *policyCase) {
	ctx := context.Background()
	cluster := false
	for _, s := range c.steps {
		if s.kind != "apply" {
			continue
		}
		var policies []string
		for doc := range strings.SplitSeq("\n"+s.text, "\n---\n") {
			if strings.Contains(doc, "NetworkPolicy") {
				policies = append(policies, doc)
			} else {
				cluster = true
			}
		}
		if len(policies) > 0 {
			_, err := b.l.Delete(ctx, text(strings.Join(policies, "\n---\n")))
			require.NoError(t, err)
		}
	}
	if cluster {
		findings, err := b.l.Apply(ctx, base(t))
		require.NoError(t, err)
		require.Empty(t, findings)
	}
}

// expect measures the table.
func (b *bench) expect(t *testing.T, c *policyCase, s step, p *paper, want table) {
	t.Helper()
	w := p.world(t)
	all := func(cell) bool { return true }
	got := b.measure(t, w, patience, all)
	again := map[cell]bool{}
	for c, v := range got {
		if want[c] && !v {
			again[c] = true
		}
	}
	if len(again) > 0 {
		for c, v := range b.measure(t, w, 0, func(c cell) bool { return again[c] }) {
			got[c] = got[c] || v
		}
	}
	if diff := compareTables(want, got); diff != "" {
		t.Errorf("%s:%d: packets differ:\n%s", c.file, s.line, diff)
	}
}

// measure asks the chosen questions by packets: those between pods through the lab's own probe, which may
// ask a few more. Patience 0 is the lab's.
func (b *bench) measure(t *testing.T, w *matrix.World, patience time.Duration, chosen func(cell) bool) table {
	t.Helper()
	out := table{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	q := ports.LabProbe{Protocols: []string{"TCP", "UDP", "ICMP"}, Patience: patience, Rules: true}
	for _, from := range places {
		o := order{Do: "probe", Wait: patience}
		if patience == 0 {
			o.Wait, o.Tries = 500*time.Millisecond, 3
		}
		var asked []cell
		for _, c := range cells() {
			switch {
			case c.from != from.name || !chosen(c):
			case from.pod && placeOf(c.to).pod:
				q.From, q.To = addName(q.From, c.from), addName(q.To, c.to)
			default:
				asked = append(asked, c)
				o.Targets = append(o.Targets, targetAt(c.to, c.port, c.proto, c.v6))
			}
		}
		if len(asked) == 0 {
			continue
		}
		wg.Go(func() {
			r, err := b.workers[from.name].do(o)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(r.Passed) != len(asked) {
				t.Errorf("%v %+v", err, r)
				return
			}
			for i, c := range asked {
				out[c] = r.Passed[i]
			}
		})
	}
	var results []ports.LabResult
	var err error
	if len(q.From) > 0 {
		results, err = b.l.Probe(context.Background(), q)
	}
	wg.Wait()
	require.NoError(t, err)
	for _, r := range results {
		for _, v6 := range []bool{false, true} {
			c := cell{r.From, r.To, r.Port, r.Protocol, v6}
			out[c] = r.Verdict == ports.LabAllowed
			addr := placeOf(r.To).addr(v6).String()
			switch {
			case strings.HasPrefix(r.Note, "the families differ: "):
				out[c] = strings.Contains(r.Note, addr+" allowed")
			case r.Note != "":
				t.Errorf("%s: %s", c, r.Note)
			}
		}
	}
	b.compareRules(t, w, results)
	return out
}

func addName(list []cluster.Name, name string) []cluster.Name {
	n, err := cluster.ParseName(name)
	if err != nil || slices.Contains(list, n) {
		return list
	}
	return append(list, n)
}

// compareRules holds the recorded rules of the probes against those that the matrix names.
func (b *bench) compareRules(t *testing.T, w *matrix.World, results []ports.LabResult) {
	rows := map[string]matrix.Row{}
	key := func(from, to string, port uint16, proto string) string { return fmt.Sprint(from, to, port, proto) }
	for _, r := range slices.Concat(w.Rows(matrix.Query{}), w.Rows(matrix.Query{Proto: datapath.ProtoICMP})) {
		rows[key(r.From, r.To, r.Port, r.Protocol())] = r
	}
	wrong := map[string]int{}
	for _, r := range results {
		row := rows[key(r.From, r.To, r.Port, r.Protocol)]
		if r.Note != "" || (r.Verdict == ports.LabAllowed) != row.Allowed() {
			continue // told already
		}
		sides := []struct{ got, want string }{{r.EgressRule, row.Egress.String()}, {r.IngressRule, row.Ingress.String()}}
		if !row.Egress.Allowed {
			sides = sides[:1] // the destination never saw it
		}
		for _, s := range sides {
			switch s.got {
			case s.want:
				b.rules++
			case "":
				b.silent++
			default:
				wrong[fmt.Sprintf("recorded %q, the matrix says %q", s.got, s.want)]++
			}
		}
	}
	for what, n := range wrong {
		t.Errorf("%d times: %s", n, what)
	}
}

// checkLeftovers: without policies all endpoints share one policy id, and the kernel holds rows of no other.
func (b *bench) checkLeftovers(t *testing.T) {
	for _, node := range []string{"n1", "n2"} {
		var ids map[datapath.PolicyID]bool
		require.Eventually(t, func() bool {
			dump, err := api.NewClient(b.l.Socket(node)).Tables(context.Background())
			require.NoError(t, err)
			ids = map[datapath.PolicyID]bool{}
			for _, r := range dump.EndpointPolicy {
				ids[r.Value.Policy] = true
			}
			for _, r := range dump.Policy {
				ids[r.Key.Policy] = true
			}
			return len(ids) == 1
		}, 5*time.Second, 50*time.Millisecond, "node %s: %v", node, ids)
	}
}
