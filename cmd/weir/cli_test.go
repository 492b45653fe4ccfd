package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
)

func emptyInspector() *agent.Inspector { return agent.NewInspector(agent.State{}, 0) }

func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, visit)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	root := newRootCommand(newGlobals(nil, nil, nil))
	n := 0
	eachCommand(root, func(c *cobra.Command) {
		n++
		require.NotEmpty(t, c.Short, c.CommandPath())
		require.NotContains(t, c.Short, "\n", c.CommandPath())
		require.NotEmpty(t, c.Example, c.CommandPath())
		for _, l := range strings.Split(c.Example, "\n") {
			require.Contains(t, l, "weir ", "an example of %s", c.CommandPath())
		}
		r := weir(nil, "", append(strings.Fields(c.CommandPath())[1:], "--help")...)
		require.Zero(t, r.code)
		require.Contains(t, r.out, "Examples:", c.CommandPath())
	})
	require.Greater(t, n, 20)
}

// Examples that a command of ours starts are accepted by it.
func TestExamplesParse(t *testing.T) {
	root := newRootCommand(newGlobals(nil, nil, nil))
	eachCommand(root, func(c *cobra.Command) {
		for _, l := range strings.Split(c.Example, "\n") {
			l, _, _ = strings.Cut(l, "#")
			l, _, _ = strings.Cut(l, "|")
			words := strings.Fields(l)
			if len(words) == 0 || words[0] != "weir" || c.Name() == "completion" {
				continue
			}
			found, rest, err := newRootCommand(newGlobals(nil, nil, nil)).Find(words[1:])
			require.NoError(t, err, l)
			require.NoError(t, found.ParseFlags(rest), l)
			require.NoError(t, found.ValidateArgs(found.Flags().Args()), l)
		}
	})
}

func TestWrongUsage(t *testing.T) {
	for line, want := range map[string]string{
		"obsrve":                                        `unknown command "obsrve"; did you mean observe?`,
		"bpf lb lst":                                    "did you mean list?",
		"status extra":                                  `unknown command "extra"`,
		"status --nope":                                 "unknown flag: --nope",
		"status -o yaml":                                "allowed: json",
		"endpoint get":                                  "accepts 1 arg",
		"endpoint get web":                              "namespace/pod",
		"endpoint get 70000":                            "1 to 65535",
		"identity list a:b:c":                           "label",
		"bpf policy get 1 --all":                        "--all",
		"bpf lb list --frontends --backends":            "exclude each other",
		"bpf ipcache get web":                           "not an IP address",
		"completion tcsh":                               "invalid argument",
		"observe --verdict dropped":                     "DROPPED",
		"observe --protocol ipx":                        "icmpv6",
		"observe --port 70000":                          "0 to 65535",
		"observe --ip 10.0.0":                           "--ip",
		"observe --from-identity nobody":                "kube-apiserver",
		"observe -o xml":                                "compact, dict, json, jsonpb, table",
		"observe --color sometimes":                     "auto, always, never",
		"observe --last 0":                              "1 or more",
		"observe --first 1 --last 1":                    "first and last exclude each other",
		"observe --first 1 -f":                          "first and follow exclude each other",
		"observe --all --last 3":                        "all and last exclude each other",
		"observe --all --since 5m":                      "all and since exclude each other",
		"observe -f -o table":                           "--follow and -o table exclude each other",
		"observe -f --input-file x":                     "--follow and --input-file exclude each other",
		"observe --pod a/b --from-pod a/c":              "--pod and --from-pod exclude each other",
		"observe --to-port 1 --port 2":                  "--port and --to-port exclude each other",
		"observe --not":                                 "followed by a filter",
		"observe --not --not --pod a/b":                 "followed by a filter",
		"observe --since yesterday":                     "duration such as 5m",
		"observe --since 1m --until 5m":                 "before since",
		"observe --label app=a=b":                       "key in (a,b)",
		"policy matrix":                                 "-f DIR is missing",
		"policy matrix -f x --port 0":                   "1 to 65535",
		"policy matrix -f x --port 70000":               "value out of range",
		"policy matrix -f x --protocol sctp6":           "TCP, UDP, SCTP, ICMP",
		"policy matrix -f x --protocol ICMP --port 1":   "no --port",
		"policy verdict -f x":                           "--from and --to",
		"policy verdict -f x --from a/b --to a/c":       "--port is needed",
		"policy test":                                   "--expect FILE is missing",
		"policy test --expect testdata/expect/met.yaml": "-f DIR is missing",
		"policy test -f testdata/shop --expect no/such": "read expectations: open no/such",
		"policy test -f x --expect testdata/shop":       "read expectations",
		"policy test -f x --expect x -o yaml":           "allowed: json",
	} {
		r := weir(fixture(), "", strings.Fields(line)...)
		require.Equal(t, exitUsage, r.code, "%s: %s", line, r.err)
		require.Contains(t, r.err, want, line)
		require.Contains(t, r.err, "--help", line)
		require.Empty(t, r.out, line)
	}
}

func TestAgentThatIsNotThere(t *testing.T) {
	for _, line := range []string{"status", "status --brief", "endpoint list", "observe", "bpf ct flush global"} {
		r := weir(nil, "", append(strings.Fields(line), "--socket", t.TempDir()+"/weir.sock")...)
		require.Equal(t, exitFailed, r.code, line)
		require.Contains(t, r.err, "agent not reachable at", line)
		require.Contains(t, r.err, "Is weir-agent running", line)
	}
	r := weir(nil, "", "version", "--socket", t.TempDir()+"/weir.sock")
	require.Zero(t, r.code, "the version of the client is known without an agent")
	require.Contains(t, r.out, "Client: v0.0.0-test")
	require.Contains(t, r.out, "Daemon: unknown (agent not reachable")
}

func TestVersion(t *testing.T) {
	r := weir(fixture(), "", "version")
	require.Contains(t, r.out, "Daemon: v0.0.0-test\n")
	r = weir(fixture(), "", "version", "--client", "-o", "json")
	require.Contains(t, r.out, `"version": "v0.0.0-test"`)
	require.NotContains(t, r.out, "daemon")
}

func TestSocketFromTheEnvironment(t *testing.T) {
	g := newGlobals(nil, nil, nil)
	g.getenv = func(k string) string { return map[string]string{"WEIR_SOCKET": "/tmp/x.sock"}[k] }
	require.Equal(t, "/tmp/x.sock", newRootCommand(g).PersistentFlags().Lookup("socket").DefValue)
}

func TestUnhealthyAgent(t *testing.T) {
	in := agent.NewInspector(agent.State{Status: ports.Status{Node: "n1", Version: "v1",
		Problems: []string{`table policy: 3 rows pending: {policy 4}: no space left in table`},
		Tables:   []ports.TableStatus{{Name: "policy", Rows: 10, Capacity: 10, Pending: 3, Error: "no space left in table"}}}}, 0)
	r := weir(in, "", "status")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "Failure   1 problem(s)")
	require.Contains(t, r.out, "3 rows pending")
	require.Contains(t, r.out, "BPF Maps:", "a table in trouble is shown without asking")
	r = weir(in, "", "status", "--brief")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "error in table policy: 3 rows pending: {policy 4}: no space left in table\n", r.out)
	require.Equal(t, exitFailed, weir(in, "", "status", "-o", "json").code)
}

func TestErrorsOfTheAgent(t *testing.T) {
	in := fixture()
	in.Fail(fmt.Errorf("dump flows: %w", errors.New("permission denied")))
	r := weir(in, "", "bpf", "ct", "list", "global")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "weir bpf ct list global: dump flows: permission denied\n", r.err)
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := weir(nil, "", "completion", shell)
		require.Zero(t, r.code)
		require.Contains(t, r.out, "weir")
	}
	r := weir(nil, "", "__complete", "observe", "--verdict", "DRO")
	require.Contains(t, r.out, "DROPPED")
}

func TestFollowEndsQuietly(t *testing.T) {
	in := fixture()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out := &waitingWriter{until: "portX", found: cancel}
	g := newGlobals(nil, out, out)
	g.connect = func(string) ports.Inspector { return in }
	late := recordedFlows()[0]
	late.Flow.Source.Pod = "portX"
	go func() {
		for ctx.Err() == nil { // the follower may not listen yet
			in.Record(flow.Entry{Flow: late.Flow})
			time.Sleep(time.Millisecond)
		}
	}()
	require.Equal(t, exitOK, run(ctx, g, []string{"observe", "-f"}))
	require.NotContains(t, out.String(), "interrupted")
}

// waitingWriter tells when a text was written.
type waitingWriter struct {
	strings.Builder
	until string
	found func()
}

func (w *waitingWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.until) {
		w.found()
	}
	return w.Builder.Write(p)
}
