package k8s_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// report is what a client of the workload says, see its type of that name.
type report struct {
	New, Messages, Failed, Slow int
	Slowest                     float64 `json:"slowest_s"`
	Failures                    []string
}

// load is traffic between the pods of all nodes, on connections that stay and on new ones.
type load struct {
	c         *cluster
	namespace string
	clients   []string
}

// startLoad starts load.yaml in a namespace of its own and clients that talk to all servers and their Service; with skip, the
// number of a node, there is no client on that node and the others talk to each other's servers only.
func (c *cluster) startLoad(t *testing.T, namespace string, skip int) *load {
	t.Helper()
	c.remove(t, namespace)
	c.applyIn(t, namespace, "load.yaml")
	c.rollout(t, namespace, "daemonset/server")
	var s service
	c.get(t, &s, "-n", namespace, "service", "server")
	var targets []string
	if skip == 0 {
		targets = s.Spec.ClusterIPs
	}
	for _, p := range c.pods(t, namespace, "app=server") {
		if p.Spec.NodeName == bed.NodeName(skip) {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			targets = append(targets, ip.IP)
		}
	}
	l := &load{c: c, namespace: namespace}
	for i := 1; i <= c.nodes; i++ {
		if i == skip {
			continue
		}
		name := "client-" + bed.NodeName(i)
		args, err := json.Marshal(append([]string{"load"}, targets...))
		require.NoError(t, err)
		c.apply(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod",
			"metadata": {"name": %q, "namespace": %q, "labels": {"app": "client"}},
			"spec": {"nodeName": %q, "terminationGracePeriodSeconds": 1, "containers": [{"name": "workload", "image": %q, "args": %s}]}}`,
			name, namespace, bed.NodeName(i), bed.WorkloadImage, args))
		l.clients = append(l.clients, name)
	}
	c.kubectl(t, "-n", namespace, "wait", "--for=condition=Ready", "pod", "-l", "app=client", "--timeout=60s")
	eventually(t, 20*time.Second, "traffic", func() error {
		for name, r := range l.reports(t) {
			if r.New < 50 || r.Messages < 50 {
				return fmt.Errorf("%s: %+v", name, r)
			}
		}
		return nil
	})
	return l
}

func (l *load) reports(t *testing.T) map[string]report {
	t.Helper()
	out := map[string]report{}
	for _, name := range l.clients {
		text, err := l.c.exec(l.namespace, name, "get", "http://127.0.0.1:9090/")
		require.NoError(t, err)
		var r report
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		out[name] = r
	}
	return out
}

// wantNoFailure wants that no connection failed since the start, and that traffic went on since before.
func (l *load) wantNoFailure(t *testing.T, before map[string]report) {
	t.Helper()
	after := l.reports(t)
	for name, r := range after {
		figure(t, "%s: %d connections, %d messages on lasting ones, %d failed, %d slow, slowest %.2f s", name, r.New, r.Messages, r.Failed, r.Slow, r.Slowest)
		if r.Failed > 0 {
			t.Errorf("%s: %d failures:\n%s", name, r.Failed, strings.Join(r.Failures, "\n"))
		}
		if b := before[name]; r.New <= b.New || r.Messages <= b.Messages {
			t.Errorf("%s: traffic stands still", name)
		}
	}
}

// outage is how long the API server is away.
const outage = time.Minute

// testOutage takes the control plane away for a minute under traffic. Pods go on talking, and what
// happens afterwards works again.
func (c *cluster) testOutage(t *testing.T) {
	l := c.startLoad(t, "outage", 0)
	before := l.reports(t)
	agents := c.restarts(t)
	c.StopControlPlane()
	time.Sleep(outage)
	require.NoError(t, c.StartControlPlane(t.Context()))
	eventually(t, time.Minute, "agents answer", func() error {
		_, err := c.weir(t, "status")
		return err
	})
	l.wantNoFailure(t, before)
	require.Equal(t, agents, c.restarts(t), "no agent was started again")
	// What was away is caught up with: a Service of pods that are there already, then new pods. How soon
	// these start is up to the kubelets, which may wait a minute before they ask again.
	start := time.Now()
	c.apply(t, `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "afterwards", "namespace": "outage"},
		"spec": {"selector": {"app": "server"}, "ports": [{"port": 8081}]}}`)
	var s service
	c.get(t, &s, "-n", "outage", "service", "afterwards")
	for _, client := range l.clients {
		eventually(t, time.Minute, "the new Service, asked by "+client, func() error {
			_, err := c.exec("outage", client, "echo", net.JoinHostPort(s.Spec.ClusterIPs[0], "8081"))
			return err
		})
	}
	figure(t, "a new Service works on every node after %.1f s", time.Since(start).Seconds())
	c.workload(t, "afterwards")
	figure(t, "new pods run after %.1f s", time.Since(start).Seconds())
	l.wantNoFailure(t, before)
}

// restarts counts how often the agents' containers were started again.
func (c *cluster) restarts(t *testing.T) string {
	t.Helper()
	return c.kubectl(t, "-n", "kube-system", "get", "pods", "-l", "k8s-app=cilium", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
}

// testRollout restarts the agents one after the other under load, as for an upgrade.
func (c *cluster) testRollout(t *testing.T) {
	l := c.startLoad(t, "rollout", 0)
	before := l.reports(t)
	start := time.Now()
	c.kubectl(t, "-n", "kube-system", "rollout", "restart", "daemonset/cilium")
	c.rollout(t, "kube-system", "daemonset/cilium")
	figure(t, "the agents were replaced in %.1f s", time.Since(start).Seconds())
	time.Sleep(3 * time.Second) // what lasting connections lose shows after retransmissions
	l.wantNoFailure(t, before)
	// The operator's replicas may all go: traffic does not need them.
	c.kubectl(t, "-n", "kube-system", "rollout", "restart", "deployment/cilium-operator")
	c.rollout(t, "kube-system", "deployment/cilium-operator")
	l.wantNoFailure(t, before)
}

// testNode cuts a node's power, waits until the cluster has noticed, and boots it again. Traffic
// between the others goes on all the time.
func (c *cluster) testNode(t *testing.T) {
	gone := c.nodes
	l := c.startLoad(t, "survivors", gone)
	c.remove(t, "lost")
	c.apply(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "List", "items": [
		{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lost"}},
		{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost", "namespace": "lost", "labels": {"app": "lost"}},
		 "spec": {"nodeName": %q, "terminationGracePeriodSeconds": 1, "containers": [{"name": "workload", "image": %q, "args": ["serve"]}]}}]}`,
		bed.NodeName(gone), bed.WorkloadImage))
	c.kubectl(t, "-n", "lost", "wait", "--for=condition=Ready", "pod", "lost", "--timeout=60s")
	old := c.pods(t, "lost", "")[0].Status.PodIP
	before := l.reports(t)

	require.NoError(t, c.KillNode(gone))
	c.kubectl(t, "wait", "--for=condition=Ready=Unknown", "node/"+bed.NodeName(gone), "--timeout=60s")
	c.kubectl(t, "-n", "lost", "wait", "--for=condition=Ready=False", "pod", "lost", "--timeout=60s")
	l.wantNoFailure(t, before)

	start := time.Now()
	require.NoError(t, c.StartNode(t.Context(), gone))
	c.kubectl(t, "wait", "--for=condition=Ready", "node/"+bed.NodeName(gone), "--timeout=120s")
	figure(t, "the node is Ready %.1f s after it was started again", time.Since(start).Seconds())
	c.rollout(t, "kube-system", "daemonset/cilium")
	c.kubectl(t, "-n", "lost", "wait", "--for=condition=Ready", "pod", "lost", "--timeout=120s")
	lost := c.pods(t, "lost", "")[0]
	figure(t, "its pod works again after %.1f s; it had %s and has %s", time.Since(start).Seconds(), old, lost.Status.PodIP)
	eventually(t, 20*time.Second, "names, asked for by the returned node's pod", func() error {
		_, err := c.exec("lost", "lost", "lookup", "kubernetes.default.svc.cluster.local")
		return err
	})
	for i := 1; i <= c.nodes; i++ {
		for _, ip := range lost.Status.PodIPs {
			cmd, err := c.OnNode(t.Context(), i, filepath.Join(c.programs, "workload"), "get", "http://"+net.JoinHostPort(ip.IP, "8080")+"/hostname")
			require.NoError(t, err)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "to the returned node's pod from node %d: %s", i, out)
		}
	}
	l.wantNoFailure(t, before)
}

// testConnectivity runs weir's own test of a cluster, with the machine beside the nodes as the outside.
func (c *cluster) testConnectivity(t *testing.T) {
	require.NoError(t, c.Start("outside", "cp", filepath.Join(c.programs, "workload"), "serve"))
	defer c.Stop("outside", os.Interrupt, 5*time.Second)
	c.connectivity(t)
}

// connectivity runs cilium connectivity test, or those of its tests that flags select, with the workload that
// serves as the outside.
func (c *cluster) connectivity(t *testing.T, flags ...string) {
	t.Helper()
	start := time.Now()
	// Long enough for a second SYN; fifty tests wait that long.
	out, err := c.weir(t, append([]string{"connectivity", "test", "--cleanup", "--connect-timeout", "1500ms",
		"--external-ip", bed.Outside, "--external-ip", bed.Outside6, "--external-port", "8080"}, flags...)...)
	require.NoError(t, err)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "successful") {
			figure(t, "%s (%.0f s)", strings.TrimSpace(line), time.Since(start).Seconds())
		}
	}
}
