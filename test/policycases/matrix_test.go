package policycases

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/matrix"
)

// TestMatrix judges every case by the code behind "weir policy matrix".
func TestMatrix(t *testing.T) {
	cases := loadCases(t)
	require.GreaterOrEqual(t, len(cases), 60)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPaper(t)
			for _, s := range c.steps {
				p.take(t, c, s, func(want table) {
					if diff := compareTables(want, p.table(t)); diff != "" {
						t.Errorf("%s:%d: the matrix differs:\n%s", c.file, s.line, diff)
					}
				})
			}
		})
	}
}

// paper is a cluster directory: what the cases do to a lab happens to files.
type paper struct{ dir string }

func newPaper(t *testing.T) *paper {
	p := &paper{t.TempDir()}
	files, err := filepath.Glob("testdata/cluster/*.yaml")
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		p.apply(t, string(b))
	}
	return p
}

// take does a step; expect gets the tables.
func (p *paper) take(t *testing.T, c *policyCase, s step, expect func(table)) {
	switch s.kind {
	case "apply":
		checkComplaints(t, c, s, p.apply(t, s.text))
	case "delete":
		lines, _ := s.lines()
		for _, l := range lines {
			kind, name, _ := strings.Cut(l, " ")
			require.NoError(t, os.Remove(p.path(kind, name)), "%s:%d", c.file, s.line)
		}
	case "expect":
		want, err := parseTable(c.file, s)
		require.NoError(t, err)
		expect(want)
	}
}

func (p *paper) path(kind, name string) string {
	return filepath.Join(p.dir, strings.ToLower(kind)+"_"+strings.ReplaceAll(name, "/", "_")+".yaml")
}

// apply writes each object to a file of its own. A version that is refused gives way to the one before,
// as in a cluster whose API server validates.
func (p *paper) apply(t *testing.T, text string) []cluster.Finding {
	var all []cluster.Finding
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(doc), &o))
		if o.Kind == "" {
			continue
		}
		path := p.path(o.Kind, strings.Trim(o.Metadata.Namespace+"/"+o.Metadata.Name, "/"))
		before, noBefore := os.ReadFile(path)
		require.NoError(t, os.WriteFile(path, []byte(doc), 0o644))
		_, findings, err := filestore.ReadDir(p.dir)
		require.NoError(t, err)
		refused := false
		for _, f := range findings {
			if filepath.Base(f.File) == filepath.Base(path) {
				all = append(all, f)
				refused = refused || !f.Warning
			}
		}
		if refused && noBefore == nil {
			require.NoError(t, os.WriteFile(path, before, 0o644))
		} else if refused {
			require.NoError(t, os.Remove(path))
		}
	}
	return all
}

// checkComplaints holds findings against what the case expects of them.
func checkComplaints(t *testing.T, c *policyCase, s step, findings []cluster.Finding) {
	t.Helper()
	for _, want := range s.complaints {
		if !slices.ContainsFunc(findings, func(f cluster.Finding) bool { return strings.Contains(f.String(), want) }) {
			t.Errorf("%s:%d: no complaint says %q; there are %v", c.file, s.line, want, findings)
		}
	}
	for _, f := range findings {
		expected := slices.ContainsFunc(s.complaints, func(want string) bool { return strings.Contains(f.String(), want) })
		if len(s.complaints) > 0 && f.Field == "" && strings.HasPrefix(f.Message, "refused; ") {
			continue // sums up those about the fields
		}
		if !expected && !f.Warning {
			t.Errorf("%s:%d: unexpected complaint: %s", c.file, s.line, f)
		}
	}
}

func (p *paper) world(t *testing.T) *matrix.World {
	events, _, err := filestore.ReadDir(p.dir)
	require.NoError(t, err)
	return matrix.New(events)
}

// table is the matrix's answer to all questions. Of two pods the matrix's row for echo requests is about
// both families at once, and says "denied" where they differ; by address each family is judged alone.
func (p *paper) table(t *testing.T) table {
	w := p.world(t)
	require.Len(t, w.Pods(), 9)
	out := table{}
	for _, r := range w.Rows(matrix.Query{}) {
		for _, v6 := range []bool{false, true} {
			out[cell{r.From, r.To, r.Port, r.Protocol(), v6}] = r.Allowed()
		}
	}
	require.Len(t, out, 9*8*4*2)
	for _, c := range cells() {
		if _, ok := out[c]; !ok {
			out[c] = p.judge(t, w, c).Allowed()
		}
	}
	rows := w.Rows(matrix.Query{Proto: datapath.ProtoICMP})
	require.Len(t, rows, 9*8)
	for _, r := range rows {
		both := out[cell{r.From, r.To, 0, "ICMP", false}] && out[cell{r.From, r.To, 0, "ICMP", true}]
		require.Equal(t, both, r.Allowed(), "echo requests %s -> %s", r.From, r.To)
	}
	return out
}

// judge asks about one connection by the addresses of its ends.
func (p *paper) judge(t *testing.T, w *matrix.World, c cell) matrix.Row {
	proto, err := matrix.ParseProto(c.proto)
	require.NoError(t, err)
	row, err := w.Judge(placeOf(c.from).addr(c.v6).String(), placeOf(c.to).addr(c.v6).String(), proto, c.port)
	require.NoError(t, err)
	return row
}

// TestPlaces holds the places that tables name against the cluster directory.
func TestPlaces(t *testing.T) {
	events, findings, err := filestore.ReadDir("testdata/cluster")
	require.NoError(t, err)
	require.Empty(t, findings)
	want := map[string]string{}
	for _, p := range places {
		if p.name != "out" {
			want[p.name] = fmt.Sprint(p.node, p.addrs)
		}
	}
	got := map[string]string{}
	for _, e := range events {
		switch e := e.(type) {
		case cluster.PodUpsert:
			got[e.Pod.Name.String()] = fmt.Sprint(e.Pod.Node, e.Pod.IPs)
		case cluster.NodeUpsert:
			got[e.Node.Name] = fmt.Sprint(e.Node.Name, e.Node.Addresses)
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
	require.Equal(t, want, got)
}
