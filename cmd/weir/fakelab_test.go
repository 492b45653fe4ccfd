package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// The whole story, as weir demo tells it where eBPF is not permitted.
func TestDemoOnTheFakeKernel(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var out bytes.Buffer
	g := newGlobals(strings.NewReader(""), &out, &out)
	err := runDemo(context.Background(), g, &story{out: &out, pause: 50 * time.Millisecond}, demoOptions{name: "demo", fake: true})
	require.NoError(t, err, out.String())
	require.True(t, strings.HasPrefix(out.String(), "weir demo on the FAKE KERNEL"), out.String())
	require.Contains(t, out.String(), "1000 of 1000 connections reached a backend")
	require.Contains(t, out.String(), "0 of ")
	require.Contains(t, out.String(), "every step showed what it should")
}

func newShopSimulation(t *testing.T) ports.Lab {
	t.Helper()
	shop, err := demoManifests("shop")
	require.NoError(t, err)
	l, err := newSimulation(t.Context(), 2, shop)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Down(context.Background())) })
	return l
}

func TestSimulationProbesServicesAndRules(t *testing.T) {
	l := newShopSimulation(t)
	files, err := demoManifests("policies")
	require.NoError(t, err)
	findings, err := l.Apply(t.Context(), files)
	require.NoError(t, err)
	require.Empty(t, findings)

	rows, err := l.Probe(t.Context(), ports.LabProbe{From: []cluster.Name{frontend, stranger}, Service: backendSv, Rules: true})
	require.NoError(t, err)
	require.Len(t, rows, 2, "the service has one TCP port")
	require.Equal(t, ports.LabResult{
		From: "production/frontend", To: "production/backend", Port: 80, Protocol: "TCP", Verdict: ports.LabAllowed,
		EgressRule:  "CiliumNetworkPolicy production/frontend-egress egress[0]",
		IngressRule: "NetworkPolicy production/backend-ingress ingress[0]",
	}, rows[0])
	require.Equal(t, ports.LabDenied, rows[1].Verdict)
	require.Equal(t, "default deny (NetworkPolicy production/backend-ingress)", rows[1].IngressRule)

	_, err = l.Delete(t.Context(), files)
	require.NoError(t, err)
	rows, err = l.Probe(t.Context(), ports.LabProbe{From: []cluster.Name{stranger}, To: []cluster.Name{database}})
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Equal(t, ports.LabAllowed, rows[0].Verdict)
}

func TestSimulationRefusesWhatIsNotThere(t *testing.T) {
	l := newShopSimulation(t)
	nobody := cluster.Name{Namespace: "production", Name: "nobody"}
	ctx := t.Context()
	_, err := l.Probe(ctx, ports.LabProbe{From: []cluster.Name{nobody}})
	require.ErrorIs(t, err, ports.ErrNotFound)
	_, err = l.Probe(ctx, ports.LabProbe{Service: nobody})
	require.ErrorIs(t, err, ports.ErrNotFound)
	_, err = l.Connects(ctx, frontend, nobody, 1)
	require.ErrorIs(t, err, ports.ErrNotFound)
	require.ErrorIs(t, l.KillAgent(ctx, "node9"), ports.ErrNotFound)
	require.ErrorIs(t, l.StartAgent(ctx, "node9"), ports.ErrNotFound)
	require.ErrorIs(t, l.StartTraffic(ctx, []ports.LabStream{{From: frontend, To: nobody, Port: 1}}), ports.ErrNotFound)
	require.NoError(t, l.StartTraffic(ctx, []ports.LabStream{{From: frontend, To: database, Port: 5432}}))
	require.ErrorIs(t, l.StartTraffic(ctx, nil), ports.ErrConflict)
	_, err = l.LastDrops(ctx, 0)
	require.ErrorContains(t, err, "at least one")
}

// Traffic that a policy cuts is counted as lost.
func TestSimulationCountsLosses(t *testing.T) {
	l := newShopSimulation(t)
	ctx := t.Context()
	require.NoError(t, l.StartTraffic(ctx, []ports.LabStream{{From: stranger, To: database, Port: 5432, Interval: time.Millisecond}}))
	files, err := demoManifests("policies")
	require.NoError(t, err)
	_, err = l.Apply(ctx, files)
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond)
	report, err := l.StopTraffic(ctx)
	require.NoError(t, err)
	require.Len(t, report, 6)
	for _, r := range report {
		require.Positive(t, r.Lost, "%+v", r)
	}
}
