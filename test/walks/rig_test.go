// Package walks replays the packet walks of docs/walks on the fake kernel, step by step, with the real
// agents.
package walks

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

const tcp = datapath.ProtoTCP

// Pods a and b of the walks: a on node1, b there or on node2, and a policy that lets a reach b.
const (
	podA = `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: walk, labels: {app: a}}, spec: {nodeName: node1}}`
	podB = `{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: walk, labels: {app: b}},
  spec: {nodeName: NODE, containers: [{name: c, ports: [{containerPort: 8080}]}]}}`
	letAIn = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: b, namespace: walk}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: a}}}]
    ports: [{port: 8080}]
`
)

func newCluster(t *testing.T, docs ...string) *fakes.Cluster {
	t.Helper()
	c, err := fakes.New(func(node string, d fakes.Deps) fakes.Agent {
		return runtime.New(runtime.Config{Node: node, Datapath: "fake"}, runtime.Deps(d))
	}, fakes.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	apply(t, c, strings.Join(docs, "\n---\n"))
	return c
}

func apply(t *testing.T, c *fakes.Cluster, docs string) {
	t.Helper()
	findings, err := c.Apply(docs)
	require.NoError(t, err)
	require.Empty(t, findings)
}

// step is what a walk says of one packet at one hook.
type step struct {
	node   string
	hook   kernel.Hook
	action kernel.Action
	events []datapath.EventType
}

func stepsOf(trace kernel.Trace) []step {
	var out []step
	for _, s := range trace.Steps {
		if s.Result == nil {
			continue
		}
		x := step{node: s.Node, hook: s.Hook, action: s.Result.Action}
		for _, e := range s.Result.Events {
			x.events = append(x.events, e.Type)
		}
		out = append(out, x)
	}
	return out
}

// isNew is the report of a flow's first packet.
var isNew = []datapath.EventType{datapath.EventNew}

// eventsOf lists what the hooks reported.
func eventsOf(trace kernel.Trace) []datapath.Event {
	var out []datapath.Event
	for _, s := range trace.Steps {
		if s.Result != nil {
			out = append(out, s.Result.Events...)
		}
	}
	return out
}

func get[K comparable, V any](t *testing.T, table ports.Table[K, V], k K) V {
	t.Helper()
	v, err := table.Get(k)
	require.NoError(t, err)
	return v
}

func absent[K comparable, V any](t *testing.T, table ports.Table[K, V], k K) {
	t.Helper()
	_, err := table.Get(k)
	require.ErrorIs(t, err, ports.ErrNotFound)
}

// empty takes every row out of a table, so that a packet that needs one shows it.
func empty[K comparable, V any](t *testing.T, table ports.Table[K, V]) {
	t.Helper()
	rows, err := table.Dump()
	require.NoError(t, err)
	for _, r := range rows {
		require.NoError(t, table.Delete(r.Key))
	}
}

// flowOf finds the one entry of a kernel's flow table that ends at a port.
func flowOf(t *testing.T, k *kernel.Kernel, port uint16) datapath.Flow {
	t.Helper()
	list, err := k.Flows()
	require.NoError(t, err)
	var found []datapath.Flow
	for _, f := range list {
		if f.Dst.Port() == port {
			found = append(found, f)
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
