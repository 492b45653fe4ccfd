package flow_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
)

// A line that can be read is written so that it reads the same again; one that cannot names the field, or says
// that there is nothing in it for us.
func FuzzEntryJSON(f *testing.F) {
	e := event()
	e.Time = time.Date(2024, 5, 1, 14, 0, 0, 123456789, time.UTC)
	for _, typ := range []datapath.EventType{datapath.EventDrop, datapath.EventNew, datapath.EventClose} {
		e.Type = typ
		line, err := json.Marshal(flow.Entry{Flow: flow.NewBuilder("n1", 1, shop).Build(e)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	for _, s := range []string{
		`{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"12","first":"2024-05-01T12:00:00Z"}}`, `{}`, `{"flow":{}}`,
		`{"flow":{"IP":{"source":"1.2.3.4","destination":"::1%eth0"},"verdict":"AUDIT","l4":{"ICMPv6":{"type":128}},"policy_log":["x"]}}`,
		`{"flow":{"IP":{"source":"x","destination":""}}}`, `{"flow":{"time":"yesterday","IP":{"source":"1.2.3.4","destination":"1.2.3.4"}}}`,
		`{"flow":{"IP":{"source":"1.2.3.4","destination":"1.2.3.4"},"ingress_denied_by":[{"name":"a"}],"egress_allowed_by":[{"labels":["weir:rule=egress[0]"]}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e flow.Entry
		if err := json.Unmarshal(data, &e); err != nil {
			requireReadable(t, err)
			return
		}
		require.True(t, (e.Flow == nil) != (e.Lost == nil), "exactly one of the two")
		out, err := json.Marshal(e)
		require.NoError(t, err)
		var again flow.Entry
		require.NoError(t, json.Unmarshal(out, &again), "%s", out)
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(out), string(twice))
	})
}

func requireReadable(t *testing.T, err error) {
	t.Helper()
	var bad *flow.ValueError
	if errors.As(err, &bad) {
		require.NotEmpty(t, bad.Field)
		require.NotEmpty(t, bad.Allowed)
	}
	require.NotEmpty(t, err.Error())
}

// flowsForFilters differ in everything that filters look at.
func flowsForFilters() []*flow.Flow {
	var out []*flow.Flow
	b := flow.NewBuilder("default/n1", 1, shop)
	for _, typ := range []datapath.EventType{datapath.EventDrop, datapath.EventNew, datapath.EventClose} {
		for _, proto := range []uint8{datapath.ProtoTCP, datapath.ProtoICMP, datapath.ProtoICMPv6, 0, 250} {
			e := event()
			e.Type, e.Proto, e.Reply = typ, proto, proto == 0
			out = append(out, b.Build(e))
			e.Src, e.Dst = netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:65535")
			out = append(out, b.Build(e))
		}
	}
	return append(out, &flow.Flow{})
}

// Any text for any filter either is refused, naming filter and text, or gives a filter that decides about
// every flow, the same each time; what matches with the filter alone is not matched by its denial.
func FuzzFilter(f *testing.F) {
	for i, field := range flow.Fields() {
		for _, v := range append([]string{"", ",", "x", "default/web", "10.0.0.0/8", "80", "true", "app in (a,b),!c"}, field.Values...) {
			f.Add(uint8(i), false, v)
		}
		f.Add(uint8(i), true, "-1")
	}
	flows := flowsForFilters()
	f.Fuzz(func(t *testing.T, which uint8, dest bool, value string) {
		field := flow.Fields()[int(which)%len(flow.Fields())]
		side := flow.Source
		if dest {
			side = flow.Dest
		}
		var filter flow.Filter
		err := field.Add(&filter, side, value)
		var match func(*flow.Flow) bool
		if err == nil {
			match, err = flow.Compile(filter)
		}
		if err != nil {
			var bad *flow.ValueError
			require.True(t, errors.As(err, &bad), "%T %v", err, err)
			require.Equal(t, field.Name, bad.Field)
			require.NotEmpty(t, bad.Allowed)
			return
		}
		only, err := flow.CompileQuery(flow.Query{Allow: []flow.Filter{filter}})
		require.NoError(t, err)
		not, err := flow.CompileQuery(flow.Query{Deny: []flow.Filter{filter}})
		require.NoError(t, err)
		for _, fl := range flows {
			require.Equal(t, match(fl), only(fl))
			require.Equal(t, match(fl), !not(fl))
		}
		again, err := flow.Compile(overTheWire(t, filter))
		require.NoError(t, err)
		for _, fl := range flows {
			require.Equal(t, match(fl), again(fl), "a filter means the same to the agent")
		}
	})
}

// overTheWire is a filter as the agent gets it.
func overTheWire(t *testing.T, f flow.Filter) (out flow.Filter) {
	t.Helper()
	b, err := json.Marshal(f)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &out))
	return out
}

// A query that arrives as bytes is refused or decides; a narrower time never selects more.
func FuzzQueryJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"Last":3}`, `{"First":1,"Last":1}`, `{"Since":"2024-05-01T12:00:00Z","Until":"2024-05-01T11:00:00Z"}`,
		`{"Allow":[{"SourcePod":["shop/"]}],"Deny":[{"Verdict":["DROPPED"]}]}`, `{"Allow":[{"IPVersion":[5]}]}`, `{"Allow":[{"SourceLabel":["a in ("]}]}`,
	} {
		f.Add([]byte(s))
	}
	flows := flowsForFilters()
	f.Fuzz(func(t *testing.T, data []byte) {
		var q flow.Query
		if json.Unmarshal(data, &q) != nil {
			return
		}
		match, err := flow.CompileQuery(q)
		if err != nil {
			requireReadable(t, err)
			return
		}
		wide := q
		wide.Since, wide.Until = time.Time{}, time.Time{}
		all, err := flow.CompileQuery(wide)
		require.NoError(t, err)
		for _, fl := range flows {
			require.False(t, match(fl) && !all(fl))
		}
	})
}

// Names that were read mean what they say.
func FuzzNames(f *testing.F) {
	f.Add("DROPPED")
	f.Add("POLICY_DENIED")
	f.Add("forwarded")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := flow.ParseVerdict(s); err == nil {
			require.True(t, strings.EqualFold(v.String(), s), "%q is %s", s, v)
		} else {
			requireReadable(t, err)
		}
		if r, err := flow.ParseReason(s); err == nil {
			require.True(t, strings.EqualFold(flow.ReasonName(r), s), "%q is %s", s, flow.ReasonName(r))
		} else {
			requireReadable(t, err)
		}
	})
}
