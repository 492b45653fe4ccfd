package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
)

// Any command line of filters is refused in words, or asks for something that the agent can compile.
func FuzzFilterFlags(f *testing.F) {
	for _, s := range []string{
		"--pod web", "-n shop --pod web --not --to-port 80,443", "--from-pod a --pod b", "--not", "--not=false --verdict DROPPED", "--label a in (b,c)", "--ip 10.0.0.0/8,::1 --protocol tcp",
		"--from-ip x", "--port -1", "--identity 4294967296", "--reply=maybe", "--namespace=", "--http-status 200", "-- x", "--drop-reason-desc POLICY_DENIED", "--node-name */n*",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var ff filterFlags
		c := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true}
		ff.register(c)
		if err := c.ParseFlags(strings.Split(line, " ")); err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		allow, deny, err := ff.filters()
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		_, err = flow.CompileQuery(flow.Query{Allow: allow, Deny: deny})
		require.NoError(t, err, "values are checked as they are read")
		require.Equal(t, len(ff.terms) == 0, len(allow)+len(deny) == 0)
	})
}

// Any text on standard input is flows, lines that hold nothing for us, or an error that names the line.
func FuzzReadFlows(f *testing.F) {
	f.Add([]byte("\n{}\n{\"flow\":{\"IP\":{\"source\":\"1.2.3.4\",\"destination\":\"1.2.3.5\"}}}\n"))
	f.Add([]byte("{\"lost_events\":{\"num_events_lost\":\"3\"}}"))
	f.Add([]byte("{\"flow\":{\"IP\":{\"source\":\"\"}}}"))
	f.Add([]byte("[\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, skipped, err := readFlows(bytes.NewReader(data))
		lines := bytes.Count(data, []byte("\n")) + 1
		require.LessOrEqual(t, len(entries)+skipped, lines)
		if err != nil {
			require.ErrorContains(t, err, "line")
			return
		}
		for _, e := range entries {
			require.True(t, (e.Flow == nil) != (e.Lost == nil))
		}
	})
}

// Any file of expectations is refused, naming the file in every complaint, or gives entries that can be asked,
// each with a name for the report.
func FuzzExpectations(f *testing.F) {
	for _, s := range []string{
		"", "- {from: shop/web, to: shop/db, port: 5432, expect: allowed}\n", "expectations:\n- from: 'shop/*'\n  to: 10.0.0.1\n  protocol: ICMP\n  expect: denied\n  rule: x\n",
		"- {from: shop/app=web, to: '*/*', port: 70000, expect: maybe}\n", "- 1\n- {}\n- {from: [], port: x, what: 1}\n", "a: *b\n", "expectations: 1\n", "---\n- {from: a/b, to: a/b, port: 1e1, expect: denied}\n---\nnull\n",
		"- {from: a/b, to: a/b, port: 1, protocol: GRE, expect: allowed}\n", "- {from: a/b, from: a/c}\n", "- {from: a/x in (, to: a/!, port: 1, expect: allowed}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := parseExpectations("e.yaml", data)
		if err != nil {
			for _, one := range unjoin(err) {
				require.ErrorContains(t, one, "e.yaml: ")
			}
			return
		}
		require.NotEmpty(t, out)
		for _, e := range out {
			require.NotEmpty(t, e.name)
			require.NotEmpty(t, e.From)
			require.NotEmpty(t, e.To)
			require.NoError(t, e.Check())
		}
		again, err := parseExpectations("e.yaml", data)
		require.NoError(t, err)
		require.Equal(t, out, again)
	})
}
