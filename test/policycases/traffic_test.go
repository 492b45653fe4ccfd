package policycases

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// traffic is about what a truth table cannot say: connections that live on, sizes, services.
func (b *bench) traffic(t *testing.T) {
	t.Run("live connections", b.liveConnections)
	t.Run("services", b.services)
	t.Run("fragments", b.fragments)
	t.Run("transfers", b.transfers)
	t.Run("broken file", b.brokenFile)
	t.Run("successor", b.successor)
}

func targetAt(to string, port uint16, proto string, v6 bool) target {
	return target{netip.AddrPortFrom(placeOf(to).addr(v6), port), proto}
}

// do gives an order to a worker and returns what went wrong there.
func (b *bench) do(t *testing.T, from string, o order) error {
	t.Helper()
	r, err := b.workers[from].do(o)
	require.NoError(t, err)
	if r.Error != "" {
		return fmt.Errorf("%s", r.Error)
	}
	return nil
}

// with applies manifests for the time of f.
func (b *bench) with(t *testing.T, manifests string, f func()) {
	t.Helper()
	ctx := context.Background()
	findings, err := b.l.Apply(ctx, text(manifests))
	require.NoError(t, err)
	require.Empty(t, findings)
	defer func() {
		t.Helper()
		_, err := b.l.Delete(ctx, text(manifests))
		require.NoError(t, err)
	}()
	f()
}

const (
	isolateY     = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: cut, namespace: "y"}, spec: {podSelector: {}, policyTypes: [Ingress]}}`
	isolateX     = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: cut, namespace: x}, spec: {podSelector: {}, policyTypes: [Egress]}}`
	denyXByY     = `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: cut, namespace: "y"}, spec: {endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: x}}], toPorts: [{ports: [{port: "80"}]}]}]}}`
	repliesOnly  = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: replies, namespace: x}, spec: {podSelector: {}, policyTypes: [Ingress]}}` + "\n---\n" + `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: replies, namespace: "y"}, spec: {podSelector: {}, policyTypes: [Egress]}}`
	stillAllowed = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: other, namespace: "y"}, spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: 80}, {port: 80, protocol: UDP}]}]}}`
)

// A connection is cut at its next packet when a policy denies it, and lives on when the policy goes. What
// only answers needs no rule.
func (b *bench) liveConnections(t *testing.T) {
	var toY, elsewhere []string
	for _, to := range []string{"y/a", "y/b", "n1", "n2", "out"} {
		for _, proto := range []string{"TCP", "UDP"} {
			for _, v6 := range []bool{false, true} {
				name := cell{"x/a", to, 80, proto, v6}.String()
				o := order{Do: "open", Names: []string{name}, Targets: []target{targetAt(to, 80, proto, v6)}, Wait: 2 * time.Second}
				require.NoError(t, b.do(t, "x/a", o), name)
				if to[0] == 'y' {
					toY = append(toY, name)
				} else {
					elsewhere = append(elsewhere, name)
				}
			}
		}
	}
	all := slices.Concat(toY, elsewhere)
	// ask returns the connections that answered and those that did not.
	ask := func(names []string, wait time.Duration) (well, dead []string) {
		if len(names) == 0 {
			return nil, nil
		}
		r, err := b.workers["x/a"].do(order{Do: "askall", Names: names, Size: 100, Wait: wait})
		require.NoError(t, err)
		for i, name := range names {
			if r.Passed[i] {
				well = append(well, name)
			} else {
				dead = append(dead, name)
			}
		}
		return well, dead
	}
	cut := func(names []string) {
		t.Helper()
		if well, _ := ask(names, 300*time.Millisecond); len(well) > 0 {
			t.Errorf("not cut: %s", well)
		}
	}
	// A segment that was lost is sent again after pauses that double; datagrams are not.
	alive := func(names []string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); len(names) > 0; {
			if _, names = ask(names, 2*time.Second); time.Now().After(deadline) {
				break
			}
		}
		if len(names) > 0 {
			t.Errorf("dead: %s", names)
		}
	}
	alive(all)
	for _, c := range []struct {
		name, policy string
		cuts, spares []string
	}{
		{"default deny of the destination", isolateY, toY, elsewhere},
		{"default deny of the source", isolateX, all, nil},
		{"deny rule", denyXByY, toY, elsewhere},
		{"isolation that concerns replies only", repliesOnly, nil, all},
		{"policy that allows it", stillAllowed, nil, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.with(t, c.policy, func() {
				cut(c.cuts)
				alive(c.spares)
			})
			alive(all)
		})
	}
	t.Run("labels of the source", func(t *testing.T) {
		relabel := func(labels string) {
			t.Helper()
			findings, err := b.l.Apply(context.Background(), text(podXA(labels)))
			require.NoError(t, err)
			require.Empty(t, findings)
		}
		b.with(t, friendsOfY, func() {
			for range 2 {
				cut(toY)
				alive(elsewhere)
				relabel(`pod: a, app: web, friend: "yes"`)
				alive(all)
				relabel("pod: a, app: web")
			}
		})
		alive(all)
	})
	require.NoError(t, b.do(t, "x/a", order{Do: "close", Names: all}))
}

const friendsOfY = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: friends, namespace: "y"}, spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {friend: "yes"}}}]}]}}`

// podXA is pod x/a as in testdata/cluster, with other labels.
func podXA(labels string) string {
	return strings.Replace(`
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {LABELS}}
spec:
  nodeName: n1
  containers:
    - name: serve
      ports:
        - {name: serve-80-tcp, containerPort: 80, protocol: TCP}
        - {name: serve-80-udp, containerPort: 80, protocol: UDP}
        - {name: serve-81-tcp, containerPort: 81, protocol: TCP}
        - {name: serve-81-udp, containerPort: 81, protocol: UDP}
status:
  podIP: 10.244.1.10
  podIPs: [{ip: 10.244.1.10}, {ip: "fd00:10:244:1::10"}]
`, "LABELS", labels, 1)
}

const service = `
apiVersion: v1
kind: Service
metadata: {name: api, namespace: "y"}
spec:
  selector: {app: api}
  clusterIPs: [10.96.0.10, "fd00:10:96::10"]
  ipFamilies: [IPv4, IPv6]
  ports: [{name: tcp, port: 8080, targetPort: 80, protocol: TCP}, {name: udp, port: 8080, targetPort: serve-80-udp, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: "y"}
spec:
  selector: {app: web}
  clusterIPs: [10.96.0.11, "fd00:10:96::11"]
  ipFamilies: [IPv4, IPv6]
  ports: [{name: tcp, port: 8080, targetPort: 80, protocol: TCP}, {name: udp, port: 8080, targetPort: serve-80-udp, protocol: UDP}]`

// Policies see the backend that a service leads to: its labels and its port, never the service's.
func (b *bench) services(t *testing.T) {
	check := func(from string, want bool) {
		t.Helper()
		o := order{Do: "probe", Wait: 300 * time.Millisecond}
		for _, a := range []string{"10.96.0.10", "fd00:10:96::10", "10.96.0.11", "fd00:10:96::11"} {
			for _, proto := range []string{"TCP", "UDP"} {
				o.Targets = append(o.Targets, target{netip.AddrPortFrom(netip.MustParseAddr(a), 8080), proto})
			}
		}
		if want {
			o.Wait, o.Tries = time.Second, 3
		}
		r, err := b.workers[from].do(o)
		require.NoError(t, err)
		for i, got := range r.Passed {
			if got != want {
				t.Errorf("%s -> service at %s %s: want %v, got %v", from, o.Targets[i].Addr, o.Targets[i].Proto, want, got)
			}
		}
	}
	b.with(t, service, func() {
		for _, from := range []string{"x/a", "z/a", "y/b", "n1", "n2"} {
			check(from, true)
		}
		b.with(t, stillAllowed, func() { // port 80 of the backends, from namespace x
			check("x/a", true)
			check("x/c", true)
			check("z/a", false)
		})
		b.with(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: "y"}, spec: {podSelector: {}, ingress: [{ports: [{port: 8080}, {port: 8080, protocol: UDP}]}]}}`, func() {
			check("x/a", false)
		})
		b.with(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}, {ipBlock: {cidr: "fd00:10:96::/64"}}]}]}}`, func() {
			check("x/a", false)
			check("z/b", true)
		})
		b.with(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 80}, {port: serve-80-udp, protocol: UDP}]}]}}`, func() {
			check("x/a", true)
			check("x/c", true)
		})
	})
}

// Datagrams that do not fit into a packet are judged as one.
func (b *bench) fragments(t *testing.T) {
	send := func(from, to string, port uint16, v6 bool, size int, wait time.Duration) error {
		return b.do(t, from, order{Do: "bigudp", Targets: []target{targetAt(to, port, "UDP", v6)}, Size: size, Wait: wait})
	}
	pairs := [][2]string{{"x/a", "y/a"}, {"x/a", "y/b"}, {"n1", "y/a"}, {"n2", "y/a"}, {"out", "y/b"}, {"y/a", "out"}, {"y/b", "n1"}}
	passes := func(from, to string, port uint16, size int) {
		t.Helper()
		for _, v6 := range []bool{false, true} {
			err := send(from, to, port, v6, size, time.Second)
			if err != nil { // a datagram may be lost
				err = send(from, to, port, v6, size, 2*time.Second)
			}
			if err != nil {
				t.Errorf("%d bytes %s: %v", size, cell{from, to, port, "UDP", v6}, err)
			}
		}
	}
	fails := func(from, to string, port uint16) {
		t.Helper()
		for _, v6 := range []bool{false, true} {
			if send(from, to, port, v6, 4000, 250*time.Millisecond) == nil {
				t.Errorf("4000 bytes passed: %s", cell{from, to, port, "UDP", v6})
			}
		}
	}
	for _, p := range pairs {
		passes(p[0], p[1], 80, 4000)
	}
	passes("x/a", "y/a", 81, 60000)
	passes("x/a", "y/b", 81, 60000)
	b.with(t, stillAllowed, func() {
		passes("x/a", "y/a", 80, 4000)
		passes("x/a", "y/b", 80, 4000)
		passes("y/a", "out", 80, 4000) // the answer is in fragments, too
		passes("n1", "y/a", 81, 4000)
		fails("x/a", "y/a", 81)
		fails("x/a", "y/b", 81)
		fails("n2", "y/a", 80)
		fails("out", "y/b", 80)
	})
	b.with(t, isolateX, func() {
		fails("x/a", "y/a", 80)
		fails("x/a", "y/b", 80)
		fails("x/c", "out", 80)
	})
}

// Much data arrives as it was sent.
func (b *bench) transfers(t *testing.T) {
	b.with(t, stillAllowed, func() {
		for _, p := range [][2]string{{"x/a", "y/a"}, {"x/a", "y/b"}, {"y/b", "out"}, {"y/a", "n1"}, {"n1", "z/a"}} {
			for _, v6 := range []bool{false, true} {
				begin := time.Now()
				err := b.do(t, p[0], order{Do: "transfer", Targets: []target{targetAt(p[1], 80, "TCP", v6)}, Size: 20 << 20, Wait: 30 * time.Second})
				if err != nil {
					t.Errorf("20 MiB %s: %v", cell{p[0], p[1], 80, "TCP", v6}, err)
				}
				t.Logf("20 MiB there and back %s: %.1f s", cell{p[0], p[1], 80, "TCP", v6}, time.Since(begin).Seconds())
			}
		}
	})
}

// A file that breaks while the agents run keeps the rules it had, also over a restart of the agents, and
// does not keep others from taking effect.
func (b *bench) brokenFile(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(lab.DefaultRoot, labName, "cluster", "by-hand")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	defer os.RemoveAll(dir)
	write := func(name, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	// passes says whether TCP by IPv4 and UDP by IPv6 do; agents take up a change between the two, too.
	passes := func(to string) (tcp4, udp6 bool) {
		r, err := b.workers["z/a"].do(order{Do: "probe", Wait: 300 * time.Millisecond, Targets: []target{targetAt(to, 80, "TCP", false), targetAt(to, 80, "UDP", true)}})
		if !assert.NoError(t, err) {
			return false, false
		}
		return r.Passed[0], r.Passed[1]
	}
	becomes := func(to string, want bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			tcp4, udp6 := passes(to)
			return tcp4 == want && udp6 == want
		}, 10*time.Second, 100*time.Millisecond, to)
	}
	stays := func(to, why string) {
		t.Helper()
		tcp4, udp6 := passes(to)
		require.False(t, tcp4 || udp6, why)
	}
	write("y.yaml", isolateY)
	becomes("y/a", false)
	becomes("y/b", false)

	write("y.yaml", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: cut, namespace: "y"}, spec: {podSelector: {}, policyTypes: [Ingress], ingres: [{}]}}`)
	write("x.yaml", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: by-hand, namespace: x}, spec: {podSelector: {}, policyTypes: [Ingress]}}`)
	becomes("x/a", false)
	stays("y/a", "the last good version stays")
	st, err := api.NewClient(b.l.Socket("n1")).Status(ctx)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(st.Findings), "spec.ingres")

	write("y.yaml", "{ this is: [not YAML")
	require.NoError(t, os.Remove(filepath.Join(dir, "x.yaml")))
	becomes("x/a", true)
	stays("y/a", "the last good version stays")
	for _, node := range []string{"n1", "n2"} {
		require.NoError(t, b.l.KillAgent(ctx, node))
		require.NoError(t, b.l.StartAgent(ctx, node))
	}
	stays("y/a", "also over a restart")
	stays("y/b", "also over a restart")

	write("y.yaml", "# nothing\n")
	becomes("y/a", true)
	becomes("y/b", true)
}

// A pod that comes into the address of another has its own labels' rights from its first packet on, and
// those of its predecessor's connections are of no use to it.
func (b *bench) successor(t *testing.T) {
	ctx := context.Background()
	name := cluster.Name{Namespace: "x", Name: "a"}
	passes := func() []string {
		t.Helper()
		results, err := b.l.Probe(ctx, ports.LabProbe{
			From: []cluster.Name{name}, To: []cluster.Name{{Namespace: "y", Name: "a"}, {Namespace: "y", Name: "b"}}, Protocols: []string{"TCP", "UDP", "ICMP"},
		})
		require.NoError(t, err)
		require.Len(t, results, 2*5)
		var out []string
		for _, r := range results {
			require.Empty(t, r.Note)
			if r.Verdict == ports.LabAllowed {
				out = append(out, fmt.Sprintf("%s %d/%s", r.To, r.Port, r.Protocol))
			}
		}
		return out
	}
	b.workers["x/a"].end(t) // it lives in the pod
	replace := func(labels string) {
		t.Helper()
		require.NoError(t, b.l.DeleteObject(ctx, "Pod", name.String()))
		findings, err := b.l.Apply(ctx, text(podXA(labels)))
		require.NoError(t, err)
		require.Empty(t, findings)
	}
	replace(`pod: a, app: web, friend: "yes"`)
	b.with(t, friendsOfY, func() {
		require.Len(t, passes(), 10)
		replace("pod: a, app: web")
		require.Empty(t, passes())
		replace(`pod: a, app: web, friend: "yes"`)
		require.Len(t, passes(), 10)
	})
	replace("pod: a, app: web")
	require.Len(t, passes(), 10)
	b.workers["x/a"] = startWorker(t, labName, "x/a")
}
