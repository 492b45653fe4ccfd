// Package porttest has a contract suite for each port. An adapter and a fake of the same port pass
// the same suite.
package porttest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// InspectorHarness is an Inspector and the hands to make it see things.
type InspectorHarness struct {
	Inspector ports.Inspector
	// Record makes the agent observe a flow. The flow's Time orders it.
	Record func(*flow.Flow)
	// Rule is a cookie that the agent can explain; NoRule is one that it can't.
	Rule, NoRule datapath.Cookie
	// FlowRows is how many rows the kernel's flow table holds at the start.
	FlowRows int
	// Translations is how many rows its table of translations holds.
	Translations int
}

// Inspector checks an implementation of ports.Inspector. start makes a fresh one for each test, with
// no flow observed yet.
func Inspector(t *testing.T, start func(t *testing.T) InspectorHarness) {
	ctx := context.Background()

	t.Run("answers name the node and agree with each other", func(t *testing.T) {
		in := start(t).Inspector
		s, err := in.Status(ctx)
		require.NoError(t, err)
		require.NotEmpty(t, s.Node)
		require.Equal(t, s.Healthy, len(s.Problems) == 0, "unhealthy agents say what the problem is")
		eps, err := in.Endpoints(ctx)
		require.NoError(t, err)
		require.Len(t, eps, s.Endpoints)
		ids := map[datapath.EndpointID]bool{}
		for _, e := range eps {
			require.NotZero(t, e.ID)
			require.False(t, ids[e.ID], "endpoint id %d twice", e.ID)
			ids[e.ID] = true
		}
		nodes, err := in.Nodes(ctx)
		require.NoError(t, err)
		names := []string{}
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		require.Contains(t, names, s.Node, "an agent knows its own node")
	})

	t.Run("lists can be had", func(t *testing.T) {
		in := start(t).Inspector
		_, err := in.Identities(ctx)
		require.NoError(t, err)
		_, err = in.Services(ctx)
		require.NoError(t, err)
		_, err = in.Tables(ctx)
		require.NoError(t, err)
		p, err := in.Policies(ctx)
		require.NoError(t, err)
		for _, o := range p.Policies {
			require.NotEmpty(t, o.Ref.Name)
			require.NotEmpty(t, o.Specs)
		}
	})

	t.Run("a rule is explained, an unknown cookie is ErrNotFound", func(t *testing.T) {
		h := start(t)
		v, err := h.Inspector.Rule(ctx, h.Rule)
		require.NoError(t, err)
		require.NotEmpty(t, v.String())
		_, err = h.Inspector.Rule(ctx, h.NoRule)
		require.ErrorIs(t, err, ports.ErrNotFound)
	})

	t.Run("translations are listed", func(t *testing.T) {
		h := start(t)
		rows, err := h.Inspector.Translations(ctx)
		require.NoError(t, err)
		require.Equal(t, h.Translations, len(rows))
		for _, r := range rows {
			require.True(t, r.From.Src.IsValid() && r.To.Dst.IsValid(), "%+v", r)
		}
	})

	t.Run("flush empties the flow table and says how many rows went", func(t *testing.T) {
		h := start(t)
		rows, err := h.Inspector.Flows(ctx)
		require.NoError(t, err)
		require.Len(t, rows, h.FlowRows)
		n, err := h.Inspector.FlushFlows(ctx)
		require.NoError(t, err)
		require.Equal(t, h.FlowRows, n)
		rows, err = h.Inspector.Flows(ctx)
		require.NoError(t, err)
		require.Empty(t, rows)
	})

	t.Run("a cancelled context is told as such", func(t *testing.T) {
		in := start(t).Inspector
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := in.Status(gone)
		require.ErrorIs(t, err, context.Canceled)
	})

	observe(t, start)
}

func observe(t *testing.T, start func(t *testing.T) InspectorHarness) {
	ctx := context.Background()
	collect := func(t *testing.T, in ports.Inspector, q flow.Query) []uint16 {
		var got []uint16
		require.NoError(t, in.Observe(ctx, q, func(e flow.Entry) error {
			if e.Flow != nil {
				got = append(got, e.Flow.Event.Dst.Port())
			}
			return nil
		}))
		return got
	}
	filled := func(t *testing.T, n int) InspectorHarness {
		h := start(t)
		for i := 1; i <= n; i++ {
			h.Record(SampleFlow(i))
		}
		return h
	}

	t.Run("the last flows come oldest first", func(t *testing.T) {
		in := filled(t, 30).Inspector
		require.Equal(t, []uint16{28, 29, 30}, collect(t, in, flow.Query{Last: 3}))
		require.Len(t, collect(t, in, flow.Query{}), flow.DefaultLast, "an empty query means the last 20")
		require.Len(t, collect(t, in, flow.Query{All: true}), 30)
		require.Equal(t, []uint16{1, 2}, collect(t, in, flow.Query{First: 2}))
	})

	t.Run("a window of time includes its ends", func(t *testing.T) {
		in := filled(t, 10).Inspector
		q := flow.Query{Since: SampleFlow(4).Time, Until: SampleFlow(6).Time}
		require.Equal(t, []uint16{4, 5, 6}, collect(t, in, q))
	})

	t.Run("filters count before numbers do", func(t *testing.T) {
		in := filled(t, 10).Inspector
		q := flow.Query{Last: 2, Allow: []flow.Filter{{DestPort: []string{"3"}}, {DestPort: []string{"5", "7"}}}}
		require.Equal(t, []uint16{5, 7}, collect(t, in, q))
		q = flow.Query{Last: 2, Deny: []flow.Filter{{DestPort: []string{"10"}}}}
		require.Equal(t, []uint16{8, 9}, collect(t, in, q))
	})

	t.Run("a query that makes no sense is refused", func(t *testing.T) {
		in := start(t).Inspector
		none := func(flow.Entry) error { return errors.New("nothing should be delivered") }
		err := in.Observe(ctx, flow.Query{Allow: []flow.Filter{{Verdict: []string{"dropped"}}}}, none)
		require.ErrorContains(t, err, "verdict")
		require.ErrorContains(t, err, "DROPPED", "the error says what is allowed")
		require.ErrorContains(t, in.Observe(ctx, flow.Query{First: 1, Follow: true}, none), "follow")
	})

	t.Run("an error of the receiver ends it and is returned", func(t *testing.T) {
		in := filled(t, 3).Inspector
		enough := errors.New("enough")
		n := 0
		err := in.Observe(ctx, flow.Query{All: true}, func(flow.Entry) error { n++; return enough })
		require.ErrorIs(t, err, enough)
		require.Equal(t, 1, n)
	})

	t.Run("following delivers what comes and ends with the context", func(t *testing.T) {
		h := filled(t, 2)
		follow, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		got := make(chan uint16, 16)
		done := make(chan error, 1)
		go func() {
			done <- h.Inspector.Observe(follow, flow.Query{Last: 1, Follow: true}, func(e flow.Entry) error {
				if e.Flow != nil {
					got <- e.Flow.Event.Dst.Port()
				}
				return nil
			})
		}()
		require.Equal(t, uint16(2), <-got)
		h.Record(SampleFlow(3))
		require.Equal(t, uint16(3), <-got)
		h.Record(SampleFlow(4))
		require.Equal(t, uint16(4), <-got)
		cancel()
		if err := <-done; err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	})

	t.Run("a flow arrives as it was recorded", func(t *testing.T) {
		h := start(t)
		want := SampleFlow(9)
		h.Record(want)
		var got *flow.Flow
		require.NoError(t, h.Inspector.Observe(ctx, flow.Query{Last: 1}, func(e flow.Entry) error { got = e.Flow; return nil }))
		require.Equal(t, want, got)
	})
}

// SampleFlow makes the i-th of a row of flows, a second apart, to port i.
func SampleFlow(i int) *flow.Flow {
	at := time.Date(2024, 5, 1, 12, 0, i, 0, time.UTC)
	return &flow.Flow{
		Time: at, UUID: time.Duration(i).String(), Node: "n1", Verdict: flow.VerdictForwarded,
		Source: flow.Endpoint{ID: 1, Identity: 300, Namespace: "shop", Pod: "frontend", Labels: []string{"k8s:app=frontend"}},
		Dest:   flow.Endpoint{ID: 2, Identity: 301, Namespace: "shop", Pod: "backend", Labels: []string{"k8s:app=backend"}},
		Event: datapath.Event{
			Type: datapath.EventNew, Point: datapath.PointToEndpoint, Time: at,
			Src: netip.MustParseAddrPort("10.0.0.1:40000"), Dst: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(i)),
			Proto: datapath.ProtoTCP, TCPFlags: datapath.TCPSyn, SrcIdentity: 300, DstIdentity: 301,
			SrcEndpoint: 1, DstEndpoint: 2, IngressCookie: 7, IngressJudged: true, EgressJudged: true, Ifindex: 4, Length: 60,
		},
	}
}
