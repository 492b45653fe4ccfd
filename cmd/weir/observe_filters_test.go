package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
)

// shown gives the destination ports of the fixture's flows that a command line selects. The flows go
// to 8080 (allowed), 40000 (its answer), 8080 (refused, from ops), 443, 0 (a ping) and 53.
func shown(t *testing.T, line string) []uint16 {
	t.Helper()
	r := weir(fixture(), "", append([]string{"observe", "-o", "json"}, strings.Fields(line)...)...)
	require.Zero(t, r.code, r.err)
	entries, _, err := readFlows(strings.NewReader(r.out))
	require.NoError(t, err)
	got := []uint16{}
	for _, e := range entries {
		if e.Flow != nil {
			got = append(got, e.Flow.Event.Dst.Port())
		}
	}
	return got
}

func TestFilterFlags(t *testing.T) {
	for line, want := range map[string][]uint16{
		"--pod shop/backend":                           {8080, 40000, 8080}, // either end
		"--to-pod shop/backend":                        {8080, 8080},
		"--from-pod shop/backend":                      {40000},
		"--pod backend":                                {},                  // namespace default
		"-n shop --pod backend":                        {8080, 40000, 8080}, // the namespace given
		"--to-namespace shop --to-pod backend":         {8080, 8080},
		"-n ops":                                       {8080},
		"--pod shop/frontend --port 8080":              {8080, 40000}, // ends are chosen for each filter by itself
		"--pod shop/frontend --to-port 8080":           {8080},
		"--from-pod shop/frontend --to-pod shop/back":  {8080},
		"--from-pod shop/frontend,ops/probe --port 53": {53},
		"--to-port 443 --to-port 53":                   {443, 53},
		"--identity world":                             {443},
		"--from-identity 310,301":                      {40000, 8080},
		"--ip 203.0.113.0/24":                          {443},
		"--to-ip fd00::/8":                             {0},
		"--ip-version 6":                               {0},
		"--label app=backend":                          {8080, 40000, 8080},
		"--to-label reserved:world":                    {443},
		"--service kube-system/dns":                    {53},
		"--protocol udp,icmp":                          {0, 53},
		"--verdict DROPPED":                            {8080, 443},
		"--verdict POLICY_DENIED --port 443":           {443},
		"--drop-reason-desc POLICY_DENY":               {443},
		"--traffic-direction egress":                   {443, 53},
		"--not --verdict DROPPED":                      {8080, 40000, 0, 53},
		"--not --pod shop/backend":                     {443, 0, 53},
		"--not --protocol tcp --not --protocol udp":    {0},
		"--not --verdict DROPPED --to-port 8080":       {8080}, // --not turns one filter round
		"--not -n ops --verdict DROPPED":               {443},
		"--first 2":                                    {8080, 40000},
		"--last 1 --protocol tcp":                      {443},
		"--since 2024-05-01T12:00:04Z":                 {0, 53},
		"--since 3597s":                                {443, 0, 53},
		"--until 1714564801":                           {8080, 40000},
		"--all":                                        {8080, 40000, 8080, 443, 0, 53},
	} {
		require.Equal(t, want, shown(t, line), "observe %s", line)
	}
}

// Every flag of a filter reaches the query.
func TestEveryFieldHasItsFlags(t *testing.T) {
	observe, _, err := newRootCommand(newGlobals(nil, nil, nil)).Find([]string{"observe"})
	require.NoError(t, err)
	for _, f := range flow.Fields() {
		require.NotNil(t, observe.Flags().Lookup(f.Name), f.Name)
		for _, e := range []end{fromEnd, toEnd} {
			require.Equal(t, f.Sided, observe.Flags().Lookup(string(e)+f.Name) != nil, "%s%s", e, f.Name)
		}
	}
}
