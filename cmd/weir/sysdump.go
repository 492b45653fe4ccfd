package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/kubernetes/cluster"
)

// sysdumpFlags are the flags of `weir sysdump`.
type sysdumpFlags struct {
	nodes  []string
	quick  bool
	output string
	flows  uint
	since  time.Duration
	bytes  int64
}

// stampLayout is how file names of a dump tell the time.
const stampLayout = "20060102-150405"

func newSysdumpCommand(g *globals) *cobra.Command {
	f := &sysdumpFlags{}
	c := &cobra.Command{
		Use:   "sysdump",
		Short: "Collect into a zip file what is needed to find a fault",
		Long: `Collect objects of the cluster, the release and its values, logs of agents and operator, and what each agent
knows, into a zip file. The content of Secrets is left out; have a look all the same before you give the
file away: logs and objects name addresses, pods and images.

What cannot be collected is listed in the file sysdump-errors.txt.`,
		Example: `  weir sysdump
  weir sysdump --node-list node1,node2 --quick
  weir sysdump --output-filename trouble-<ts>`,
		Args: args(cobra.NoArgs),
	}
	fs := c.Flags()
	fs.StringSliceVar(&f.nodes, "node-list", nil, "only logs and agents of these nodes")
	fs.BoolVar(&f.quick, "quick", false, "without logs and flows")
	fs.StringVar(&f.output, "output-filename", "cilium-sysdump-<ts>", "name of the file without .zip; <ts> becomes the time")
	fs.UintVar(&f.flows, "hubble-flows-count", 10000, "how many flows of each agent, 0 for none")
	fs.DurationVar(&f.since, "logs-since-time", 8760*time.Hour, "how far back logs go")
	fs.Int64Var(&f.bytes, "logs-limit-bytes", 1<<30, "how much of each log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := g.cluster()
		if err != nil {
			return err
		}
		if _, err := cl.Version(); err != nil {
			return err
		}
		return g.sysdump(c.Context(), f, cl)
	}
	return c
}

// dump writes the zip file.
type dump struct {
	g      *globals
	cl     clusterAccess
	f      *sysdumpFlags
	zip    *zip.Writer
	stamp  string
	faults []string
}

func (g *globals) sysdump(ctx context.Context, f *sysdumpFlags, cl clusterAccess) (err error) {
	stamp := g.now().UTC().Format(stampLayout)
	path := strings.ReplaceAll(strings.TrimSuffix(f.output, ".zip"), "<ts>", stamp) + ".zip"
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("sysdump: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("sysdump: %w", closeErr)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	d := &dump{g: g, cl: cl, f: f, zip: zip.NewWriter(file), stamp: stamp}
	if err := d.run(ctx); err != nil {
		return fmt.Errorf("sysdump: %w", err)
	}
	if err := d.zip.Close(); err != nil {
		return fmt.Errorf("sysdump: %w", err)
	}
	if n := len(d.faults); n > 0 {
		fmt.Fprintf(g.out, "⚠️  %d parts are missing: see sysdump-errors.txt in the file\n", n)
	}
	fmt.Fprintf(g.out, "🗳 Sysdump has been saved to %s\n", path)
	return nil
}

func (d *dump) run(ctx context.Context) error {
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"🔮 Collecting the cluster's objects", d.objects},
		{"🔮 Collecting the Helm release", d.release},
		{"🔍 Collecting logs", d.logs},
		{"🔍 Collecting what the agents know", d.agents},
	} {
		fmt.Fprintln(d.g.out, part.name)
		if err := part.do(ctx); err != nil {
			return err
		}
	}
	if len(d.faults) > 0 {
		return d.put("sysdump-errors.txt", []byte(strings.Join(d.faults, "\n")+"\n"))
	}
	return nil
}

func (d *dump) put(name string, content []byte) error {
	w, err := d.zip.CreateHeader(&zip.FileHeader{Name: "cilium-sysdump-" + d.stamp + "/" + name, Method: zip.Deflate, Modified: d.g.now()})
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

func (d *dump) failed(err error) { d.faults = append(d.faults, err.Error()) }

func (d *dump) objects(ctx context.Context) error {
	if v, err := d.cl.Version(); err == nil {
		if err := d.put("k8s-version-"+d.stamp+".txt", []byte(v+"\n")); err != nil {
			return err
		}
	}
	return d.cl.Dump(ctx, func(name string, content []byte) error { return d.put(name+"-"+d.stamp+".yaml", content) }, d.failed)
}

func (d *dump) release(context.Context) error {
	h, err := d.g.helm()
	if err != nil {
		d.failed(err)
		return nil
	}
	r, err := h.Current()
	if err != nil {
		d.failed(err)
		return nil
	}
	metadata := fmt.Sprintf("name: %s\nnamespace: %s\nrevision: %d\nstatus: %s\nchart: %s\nappVersion: %s\nupdated: %s\n",
		r.Name, r.Namespace, r.Revision, r.Status, r.ChartVersion, r.AppVersion, r.Updated.UTC().Format(time.RFC3339))
	if err := d.put("cilium-helm-metadata-"+d.stamp+".yaml", []byte(metadata)); err != nil {
		return err
	}
	values, err := h.Values(false)
	if err != nil {
		d.failed(err)
		return nil
	}
	text, err := yaml.Marshal(maskValues(values))
	if err != nil {
		return err
	}
	return d.put("cilium-helm-values-"+d.stamp+".yaml", text)
}

// maskValues takes keys and certificates out of values.
func maskValues(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			name := strings.ToLower(k)
			_, text := x.(string)
			if text && x != "" && (name == "key" || name == "cert" || strings.Contains(name, "password") || strings.Contains(name, "token") || strings.HasSuffix(name, "secret")) {
				out[k] = cluster.Masked
				continue
			}
			out[k] = maskValues(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = maskValues(x)
		}
		return out
	}
	return v
}

func (d *dump) logs(ctx context.Context) error {
	if d.f.quick {
		return nil
	}
	return d.cl.Logs(ctx, d.f.nodes, cluster.LogOptions{Since: d.f.since, Bytes: d.f.bytes}, func(pod, container string, previous bool, content []byte) error {
		end := ".log"
		if previous {
			end = "-prev.log"
		}
		return d.put(fmt.Sprintf("logs-%s-%s-%s%s", pod, container, d.stamp, end), content)
	}, d.failed)
}

// agents asks each agent the questions that a fault's story begins with.
func (d *dump) agents(ctx context.Context) error {
	questions := []struct{ file, command string }{
		{"cilium-status", "status --verbose"}, {"endpoints", "endpoint list -o json"}, {"identities", "identity list -o json"},
		{"services", "service list -o json"}, {"node-list", "node list -o json"}, {"policies", "policy get"}, {"bpf-lb", "bpf lb list"},
		{"bpf-policy", "bpf policy get --all -o json"}, {"bpf-ipcache", "bpf ipcache list"}, {"bpf-endpoint", "bpf endpoint list"},
		{"bpf-ct", "bpf ct list global"}, {"maps", "map list"},
	}
	if !d.f.quick && d.f.flows > 0 {
		questions = append(questions, struct{ file, command string }{"hubble-flows", fmt.Sprintf("observe --last %d -o json", d.f.flows)})
	}
	pods, err := d.cl.Agents(ctx)
	if err != nil {
		d.failed(err)
		return nil
	}
	for _, p := range pods {
		if len(d.f.nodes) > 0 && !slices.Contains(d.f.nodes, p.Node) {
			continue
		}
		for _, q := range questions {
			var out, complaint strings.Builder
			err := d.cl.Exec(ctx, p.Name, append([]string{agentProgram}, strings.Fields(q.command)...), &out, &complaint)
			var exit *cluster.ExitError
			if err != nil && (!errors.As(err, &exit) || out.Len() == 0) {
				d.failed(fmt.Errorf("agent %s on node %s: %s: %w %s", p.Name, p.Node, q.command, err, strings.TrimSpace(complaint.String())))
				continue
			}
			end := ".txt"
			if strings.HasSuffix(q.command, "json") {
				end = ".json"
			}
			if err := d.put(fmt.Sprintf("%s-%s-%s%s", q.file, p.Name, d.stamp, end), []byte(out.String())); err != nil {
				return err
			}
		}
	}
	return nil
}
