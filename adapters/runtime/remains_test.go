package runtime

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
)

// A table is full while several writes to a prefix wait. The new plan keeps the last of them only, wherever the
// others would have stood.
func TestNewPlanKeepsTheLastWriteToAPrefix(t *testing.T) {
	now := time.Unix(0, 0)
	local, pod := datapath.IPCache{Identity: identity.MinLocal}, datapath.IPCache{Identity: identity.MinCluster}
	for name, writes := range map[string][2]any{"local": {pod, local}, "local again": {nil, local}, "removed": {local, nil}, "a pod's": {local, pod}} {
		last := writes[1]
		x, k := newTestExecutor(t)
		k.Fail(func(op, _ string, _ any) error {
			if op == "put" {
				return ports.ErrFull
			}
			return nil
		})
		prefix := netip.MustParsePrefix("192.0.2.1/32")
		x.submit([]engine.Op{
			{Table: engine.Policy, Key: datapath.PolicyKey{Policy: 1}, Row: datapath.PolicyRow{Allow: true}},
			{Table: engine.IPCache, Key: prefix, Row: writes[0]},
			{Table: engine.IPCache, Key: prefix, Row: last},
			{Table: engine.IPCache, Key: netip.MustParsePrefix("192.0.2.2/32"), Row: datapath.IPCache{Identity: identity.MinCluster}},
		})
		x.run(now)
		now = now.Add(rebaseEvery)
		require.True(t, x.wantsRebase(now), name)
		require.NoError(t, x.rebase(now, engine.New("node1", engine.Adopted{}, now)))
		k.Fail(nil)
		require.True(t, x.run(now).IsZero(), name)
		row, err := k.Tables().IPCache.Get(prefix)
		if last == nil {
			require.ErrorIs(t, err, ports.ErrNotFound, name)
		} else {
			require.Equal(t, last, row, name)
		}
	}
}

// Classes that are written for a predecessor's policies go when those do.
func TestClassesForAPredecessorGoWithIt(t *testing.T) {
	x, k := newTestExecutor(t)
	_, err := x.adopt()
	require.NoError(t, err)
	x.adoption.generation = 1
	x.submit([]engine.Op{{Table: engine.Classes, Key: datapath.ClassKey{Generation: 0, Identity: identity.MinCluster}, Row: datapath.Class(3)}})
	require.True(t, x.run(time.Unix(0, 0)).IsZero())
	rows, err := k.Tables().Classes.Dump()
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.NoError(t, x.prune())
	require.Empty(t, k.DumpText())
}

// The number of an identity rests for longer than a flow entry that names it may live without traffic.
func TestIdentitiesRestLongerThanFlowsLive(t *testing.T) {
	a := newAgent(Config{Node: "node1"}, Deps{Clock: clock.New(time.Time{}), Network: network.New(), Log: slog.New(slog.DiscardHandler)})
	for _, life := range []int{datapath.LifetimeTCPEstablished, datapath.LifetimeOther, datapath.LifetimeDenied} {
		require.Greater(t, a.cfg.IdentityGrace, time.Duration(life)*time.Second)
	}
}
