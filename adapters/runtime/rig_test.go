package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

const (
	tcp = datapath.ProtoTCP
	udp = datapath.ProtoUDP
)

func agent(node string, d fakes.Deps) fakes.Agent {
	return runtime.New(runtime.Config{Node: node, Datapath: "fake"}, runtime.Deps(d))
}

// newCluster builds a cluster whose agents must leave no goroutine behind and keep the contract with
// their kernels.
func newCluster(t *testing.T, o fakes.Options) *fakes.Cluster {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	c, err := fakes.New(agent, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		require.Empty(t, c.Violations())
		goleak.VerifyNone(t, leaks)
	})
	return c
}

func apply(t *testing.T, c *fakes.Cluster, docs ...string) {
	t.Helper()
	for _, d := range docs {
		findings, err := c.Apply(d)
		require.NoError(t, err)
		require.Empty(t, findings)
	}
}

// shop has pairs on one node and on two.
const shop = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node1, containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: web}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: default, labels: {app: stranger}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour, namespace: default, labels: {app: stranger}}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80}]}
`

// guard lets only the web pods reach the database.
const guard = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
`

// otherGuard says the same for the pods, in other words, and something about the world.
const otherGuard = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, cron]}]}}]
    ports: [{port: sql}, {port: 6000, endPort: 6100}]
  - from: [{ipBlock: {cidr: 172.30.0.0/24, except: [172.30.0.128/25]}}]
    ports: [{port: 5432}]
`

// traffic are connections that pass as long as the shop's policies do.
type traffic struct {
	c     *fakes.Cluster
	conns map[string]*kernel.Conn
}

func openTraffic(t *testing.T, c *fakes.Cluster) *traffic {
	t.Helper()
	tr := &traffic{c: c, conns: map[string]*kernel.Conn{}}
	for _, p := range []struct {
		from, to string
		port     uint16
		proto    uint8
	}{
		{"shop/web", "shop/db", 5432, tcp}, {"shop/api", "shop/db", 5432, tcp},
		{"shop/db", "shop/web", 80, udp}, {"shop/db", "shop/api", 80, tcp}, {"default/stranger", "shop/web", 80, tcp},
	} {
		conn, a, trace := c.Open(p.from, p.to, p.port, p.proto)
		require.True(t, a.Connected, "%s to %s: %s", p.from, p.to, trace)
		tr.conns[p.from+" to "+p.to] = conn
	}
	return tr
}

// wrong says what does not pass and should, or passes and should not. It asks no agent.
func (tr *traffic) wrong() string {
	for name, conn := range tr.conns {
		if a, trace := conn.Send("still there?"); !a.Connected {
			return name + " is cut: " + trace.String()
		}
		if a, trace := conn.SendBack("and you?"); !a.Connected {
			return name + " is cut on the way back: " + trace.String()
		}
	}
	for _, from := range []string{"shop/web", "shop/api"} {
		if a, trace := tr.c.Dial(from, "shop/db", 5432, tcp); !a.Connected {
			return from + " can't connect to shop/db: " + trace.String()
		}
	}
	for _, from := range []string{"default/stranger", "default/neighbour"} {
		if a, trace := tr.c.Dial(from, "shop/db", 5432, tcp); a.Connected || a.Refused {
			return from + " reaches shop/db: " + trace.String()
		}
		if a, trace := tr.c.Ping(from, "shop/db"); a.Connected {
			return from + " pings shop/db: " + trace.String()
		}
	}
	if a, trace := tr.c.Fabric().Dial("shop/db", tcp, tr.c.Service("shop/web")[0].Addr(), 80); !a.Connected {
		return "the service does not answer: " + a.By + trace.String()
	}
	return ""
}

// within gives a call a short life.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for something that agents do by themselves.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, time.Millisecond, what)
}

func reserve(t *testing.T, a fakes.Agent, r ports.ReserveRequest) ports.Reservation {
	t.Helper()
	got, err := a.Reserve(t.Context(), r)
	require.NoError(t, err)
	return got
}

func keyOf(kind, namespace, name string) manifest.Key {
	return manifest.Key{Kind: kind, Namespace: namespace, Name: name}
}
