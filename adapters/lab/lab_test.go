package lab

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// twoPods are pods on two nodes with addresses of their own choice.
const twoPods = `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec:
  nodeName: node1
  containers: [{name: c, ports: [{containerPort: 80}]}]
status: {podIPs: [{ip: 10.244.1.5}, {ip: "fd00:10:244:1::5"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: b}}
spec:
  containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 5353, protocol: UDP}]}]
status: {podIPs: [{ip: 10.244.1.6}, {ip: "fd00:10:244:1::6"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: h, namespace: shop}
spec:
  nodeName: node2
  hostNetwork: true
  containers: [{name: c, ports: [{containerPort: 9100}]}]
`

func manifests(text string) []ports.LabManifest {
	return []ports.LabManifest{{File: "test.yaml", Content: []byte(text)}}
}

func TestLab(t *testing.T) {
	ctx := context.Background()
	l := newLab(t, "t1")
	findings, err := l.Up(ctx, 2, manifests(twoPods))
	require.NoError(t, err)
	require.Empty(t, findings)

	t.Run("exists", func(t *testing.T) {
		_, err := stubLab(t, "t1", l.o.Root).Up(ctx, 1, nil)
		require.ErrorIs(t, err, ports.ErrConflict)
	})
	t.Run("status", func(t *testing.T) {
		nodes, err := l.Nodes(ctx)
		require.NoError(t, err)
		require.Len(t, nodes, 2)
		require.Equal(t, "node2", nodes[1].Name)
		require.True(t, nodes[0].Ready)
		require.Equal(t, []netip.Addr{netip.MustParseAddr("172.30.0.12"), netip.MustParseAddr("fd00:172:30::12")}, nodes[1].Addresses)
		pods, err := l.Pods(ctx)
		require.NoError(t, err)
		require.Len(t, pods, 3)
		require.Equal(t, "node1", pods[1].Node, "placed by its wanted address")
		require.NotZero(t, pods[1].PID)
		require.Equal(t, nodes[1].Addresses, pods[2].IPs)
	})
	t.Run("stored pod", func(t *testing.T) {
		o, err := l.stored("Pod", "shop", "b")
		require.NoError(t, err)
		require.Equal(t, "Running", o.get("status", "phase"))
		require.Equal(t, "10.244.1.6", o.get("status", "podIP"))
		require.Equal(t, "node1", o.get("spec", "nodeName"))
		require.NotEmpty(t, o.get("metadata", "uid"))
	})
	t.Run("probe", func(t *testing.T) { testProbe(t, l) })
	t.Run("exec", func(t *testing.T) { testExec(t, l) })
	t.Run("traffic", func(t *testing.T) { testTraffic(t, l) })
	t.Run("agent", func(t *testing.T) {
		before := l.node("node1").Agent
		require.NoError(t, l.KillAgent(ctx, "node1"))
		require.False(t, before.alive())
		require.NoError(t, l.StartAgent(ctx, "node1"))
		require.True(t, l.node("node1").Agent.alive())
		require.ErrorIs(t, l.KillAgent(ctx, "node9"), ports.ErrNotFound)
	})
	t.Run("apply and delete", func(t *testing.T) { testApply(t, l) })
}

func testProbe(t *testing.T, l *Lab) {
	ctx := context.Background()
	got, err := l.Probe(ctx, ports.LabProbe{Rules: true})
	require.NoError(t, err)
	// a: 1 port, b: 2 ports, h: 1 port; each from two others, by TCP and UDP.
	require.Len(t, got, (1+2+1)*2*2)
	for _, r := range got {
		require.Equal(t, ports.LabAllowed, r.Verdict, "%+v", r)
		require.Empty(t, r.Note)
	}
	first := got[0]
	require.Equal(t, ports.LabResult{From: "shop/a", To: "shop/b", Port: 80, Protocol: "TCP", Verdict: "allowed", IngressRule: "said by the stub"}, first)

	icmp, err := l.Probe(ctx, ports.LabProbe{Protocols: []string{"icmp"}, From: []cluster.Name{{Namespace: "shop", Name: "a"}}})
	require.NoError(t, err)
	require.Len(t, icmp, 2)
	for _, r := range icmp {
		require.Equal(t, ports.LabAllowed, r.Verdict, "%+v", r)
	}

	// Nobody listens: the packets came through all the same.
	closed, err := l.Probe(ctx, ports.LabProbe{Port: 81, From: []cluster.Name{{Namespace: "shop", Name: "a"}}, To: []cluster.Name{{Namespace: "shop", Name: "b"}}})
	require.NoError(t, err)
	require.Len(t, closed, 2)
	for _, r := range closed {
		require.Equal(t, ports.LabAllowed, r.Verdict, "%+v", r)
		require.Empty(t, r.Note)
	}

	// One family dead: both verdicts are told.
	b, err := l.findPod(cluster.Name{Namespace: "shop", Name: "b"})
	require.NoError(t, err)
	ns, err := dialNetns(l.podNetns(b.Name))
	require.NoError(t, err)
	defer ns.Close()
	links, err := ns.Address.List()
	require.NoError(t, err)
	for _, m := range links {
		if m.Family == unix.AF_INET6 && netip.MustParseAddr(m.Attributes.Address.String()) == b.IPs[1] {
			require.NoError(t, ns.Address.Delete(&m))
		}
	}
	odd, err := l.Probe(ctx, ports.LabProbe{Port: 80, Protocols: []string{"TCP"}, From: []cluster.Name{{Namespace: "shop", Name: "a"}}, To: []cluster.Name{b.Name}})
	require.NoError(t, err)
	require.Contains(t, odd[0].Note, "the families differ: 10.244.1.6 allowed, fd00:10:244:1::6 denied")
	in, err := ns.index("eth0")
	require.NoError(t, err)
	require.NoError(t, ns.addAddress(in, netip.PrefixFrom(b.IPs[1], 128)))
}

func testExec(t *testing.T, l *Lab) {
	run := func(place string, argv ...string) (string, int) {
		cmd := exec.Command(testBinary(t), "-test.run=^TestExecHelper$")
		cmd.Env = append(os.Environ(), "LAB_EXEC="+l.o.Root+"|"+l.o.Name+"|"+place+"|"+strings.Join(argv, "|"))
		b, _ := cmd.CombinedOutput()
		return string(b), cmd.ProcessState.ExitCode()
	}
	out, status := run("shop/a", "sh", "-c", "hostname; cat /proc/self/cgroup; cat /proc/net/fib_trie; exit 7")
	require.Equal(t, 7, status, out)
	require.True(t, strings.HasPrefix(out, "a\n"), out)
	require.Contains(t, out, "/weir-t1/node1/pod-shop_a")
	require.Contains(t, out, "10.244.1.5")
	out, status = run("node/node2", "cat", "/proc/net/fib_trie")
	require.Zero(t, status, out)
	require.Contains(t, out, "172.30.0.12")
	_, status = run("shop/a", "no-such-program")
	require.Equal(t, 127, status)
	out, status = run("shop/zz", "true")
	require.Equal(t, 1, status)
	require.Contains(t, out, "no pod shop/zz")
}

// TestExecHelper is not a test: testExec runs it as a process that Exec may replace.
func TestExecHelper(t *testing.T) {
	spec := strings.Split(os.Getenv("LAB_EXEC"), "|")
	if len(spec) < 4 {
		t.Skip("run by another test")
	}
	l, err := New(Options{Root: spec[0], Name: spec[1]})
	require.NoError(t, err)
	err = l.Exec(spec[2], spec[3:])
	os.Stderr.WriteString(err.Error())
	os.Exit(ExitStatus(err))
}

func testTraffic(t *testing.T, l *Lab) {
	ctx := context.Background()
	streams := []ports.LabStream{{From: cluster.Name{Namespace: "shop", Name: "a"}, To: cluster.Name{Namespace: "shop", Name: "b"}, Port: 80}}
	require.NoError(t, l.StartTraffic(ctx, streams))
	require.ErrorIs(t, l.StartTraffic(ctx, streams), ports.ErrConflict)
	time.Sleep(300 * time.Millisecond)
	got, err := l.StopTraffic(ctx)
	require.NoError(t, err)
	require.Len(t, got, 6, "TCP, UDP, CONNECT on two families")
	for _, c := range got {
		require.Greater(t, c.Sent, 3, "%+v", c)
		require.Zero(t, c.Lost, "%+v", c)
		require.Zero(t, c.Broken, "%+v", c)
	}

	// A break is seen.
	require.NoError(t, l.StartTraffic(ctx, streams))
	time.Sleep(100 * time.Millisecond)
	b, err := l.findPod(streams[0].To)
	require.NoError(t, err)
	require.NoError(t, b.Server.stop(0))
	time.Sleep(100 * time.Millisecond)
	got, err = l.StopTraffic(ctx)
	require.NoError(t, err)
	for _, c := range got {
		require.NotZero(t, c.Lost+c.Broken, "%+v", c)
	}
	// Applying the same pod brings its server back.
	_, err = l.Apply(ctx, manifests(twoPods))
	require.NoError(t, err)
	b, err = l.findPod(streams[0].To)
	require.NoError(t, err)
	require.True(t, b.Server.alive())
}

func testApply(t *testing.T, l *Lab) {
	ctx := context.Background()
	before, err := l.findPod(cluster.Name{Namespace: "shop", Name: "b"})
	require.NoError(t, err)
	// New labels keep the pod, a new port makes it anew; a service gets addresses and keeps them.
	_, err = l.Apply(ctx, manifests(strings.Replace(twoPods, "app: b", "app: c", 1)))
	require.NoError(t, err)
	same, err := l.findPod(before.Name)
	require.NoError(t, err)
	require.Equal(t, before.Server, same.Server)
	service := `{apiVersion: v1, kind: Service, metadata: {name: b, namespace: shop}, spec: {selector: {app: b}, ports: [{port: 80}]}}`
	_, err = l.Apply(ctx, manifests(strings.Replace(twoPods, "containerPort: 80}, {", "containerPort: 81}, {", 1)+"\n---\n"+service))
	require.NoError(t, err)
	other, err := l.findPod(before.Name)
	require.NoError(t, err)
	require.NotEqual(t, before.Server, other.Server)
	require.Equal(t, []uint16{81, 5353}, other.Ports)
	svc, err := l.stored("Service", "shop", "b")
	require.NoError(t, err)
	first := svc.get("spec", "clusterIPs")
	require.Len(t, first, 2)
	_, err = l.Apply(ctx, manifests(service))
	require.NoError(t, err)
	svc, err = l.stored("Service", "shop", "b")
	require.NoError(t, err)
	require.Equal(t, first, svc.get("spec", "clusterIPs"))

	// A pod that the plugin refuses is an error; the others take effect.
	bad := strings.ReplaceAll(twoPods, "name: a,", "name: refused,")
	bad = strings.ReplaceAll(bad, "name: b,", "name: good,")
	bad = strings.NewReplacer("244.1.5", "244.1.15", "::5", "::15", "244.1.6", "244.1.16", "::6", "::16", "9100", "9101", "name: h,", "name: i,").Replace(bad)
	_, err = l.Apply(ctx, manifests(bad))
	require.ErrorContains(t, err, "pod shop/refused: CNI ADD: no room for this pod (code 100)")
	good, err := l.findPod(cluster.Name{Namespace: "shop", Name: "good"})
	require.NoError(t, err)
	require.True(t, good.Server.alive())
	names, err := listNetns(l.netnsPrefix())
	require.NoError(t, err)
	require.NotContains(t, names, l.podNetns(cluster.Name{Namespace: "shop", Name: "refused"}))

	// An unknown node is a finding.
	findings, err := l.Apply(ctx, manifests(`{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {nodeName: moon}}`))
	require.NoError(t, err)
	require.Len(t, findings, 1)
	require.Equal(t, `test.yaml: Pod default/x: spec.nodeName: "moon" is no node of the lab; there are node1, node2`, findings[0].String())

	_, err = l.Delete(ctx, manifests(bad))
	require.NoError(t, err)
	require.NoError(t, l.DeleteObject(ctx, "pod", "shop/b"))
	require.NoError(t, l.DeleteObject(ctx, "pod", "shop/b"))
	require.False(t, other.Server.alive())
	pods, err := l.Pods(ctx)
	require.NoError(t, err)
	require.Len(t, pods, 2)
	require.NoFileExists(t, filepath.Join(l.clusterDir(), "pod", "shop_b.yaml"))
	require.Error(t, l.DeleteObject(ctx, "node", "node1"))
}

func TestUpFails(t *testing.T) {
	l := newLab(t, "t2")
	_, err := l.Up(context.Background(), 1, manifests(`{apiVersion: v1, kind: Node, metadata: {name: broken}}`))
	require.ErrorContains(t, err, "node broken: the agent ended")
	require.ErrorContains(t, err, "this node is broken")
	requireNoTrace(t, l)
}

// TestCrash kills the tool in the middle of its work, at several places, and takes down what is left.
func TestCrash(t *testing.T) {
	crash := strings.ReplaceAll(twoPods, "name: b,", "name: crash,")
	for _, tc := range []struct {
		name  string
		after func(*testing.T, *Lab)
	}{
		{"as it was", func(*testing.T, *Lab) {}},
		{"without its record", func(t *testing.T, l *Lab) { require.NoError(t, os.Remove(l.statePath())) }},
		{"with a broken record", func(t *testing.T, l *Lab) { require.NoError(t, os.WriteFile(l.statePath(), []byte("{"), 0o644)) }},
		{"without its directory", func(t *testing.T, l *Lab) {
			require.NoError(t, unmountBelow(l.dir))
			require.NoError(t, os.RemoveAll(l.dir))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, "t3")
			require.NoError(t, os.WriteFile(filepath.Join(l.o.Root, "pods.yaml"), []byte(crash), 0o644))
			cmd := exec.Command(testBinary(t), "-test.run=^TestUpHelper$")
			cmd.Env = append(os.Environ(), "LAB_UP="+l.o.Root+"|"+l.o.Name)
			out, err := cmd.CombinedOutput()
			require.ErrorContains(t, err, "killed", string(out))
			left, err := l.Traces()
			require.NoError(t, err)
			require.NotEmpty(t, left)
			tc.after(t, l)
			require.NoError(t, l.Down(context.Background()))
			requireNoTrace(t, l)
			require.NoError(t, l.Down(context.Background()), "again")
		})
	}
}

// TestUpHelper is not a test: TestCrash runs it as a process that dies.
func TestUpHelper(t *testing.T) {
	spec := strings.Split(os.Getenv("LAB_UP"), "|")
	if len(spec) != 2 {
		t.Skip("run by another test")
	}
	l := stubLab(t, spec[1], spec[0])
	files, err := ReadManifests([]string{filepath.Join(spec[0], "pods.yaml")})
	require.NoError(t, err)
	_, err = l.Up(context.Background(), 2, files)
	require.NoError(t, err)
}
