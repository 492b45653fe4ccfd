package k8s_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/test/k8s/bed"
)

// What the API server holds while one agent starts and works.
const (
	scaleNodes      = 2000
	scalePods       = 20000
	scaleServices   = 2000
	scaleIdentities = 400 // different sets of labels among the pods
	scalePolicies   = 200
	scaleBackends   = 10 // of each Service

	residentLimit = 100 // MiB, when the agent has come to rest
	peakLimit     = 130 // MiB, ever
	readyLimit    = time.Minute
)

// TestScale starts an agent, as a process on a node of its own, against an API server with the objects
// of a big cluster. Nothing but the agent looks at them.
func TestScale(t *testing.T) {
	bin := bed.Require(t)
	programs := programs(t)
	b, err := bed.OpenAny(bed.Options{Prefix: "ws", Bin: bin, Nodes: 1, APIOnly: true, Ephemeral: true, Log: t.Output()})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Down())
		require.Empty(t, b.Traces())
		b.Close()
	})
	require.NoError(t, b.Up(t.Context()))
	config, err := b.Config()
	require.NoError(t, err)
	require.NoError(t, crds.Install(t.Context(), config, slog.New(slog.DiscardHandler)))
	w := &writer{t: t, host: config.Host}
	w.client, err = rest.HTTPClientFor(config)
	require.NoError(t, err)
	start := time.Now()
	fill(w)
	figure(t, "%d objects written in %.0f s", w.written, time.Since(start).Seconds())

	a := startAgent(t, b, programs)
	a.waitHealthy(readyLimit)
	figure(t, "ready after %.1f s; %s", time.Since(a.started).Seconds(), a.usage())
	a.waitServices(scaleServices)
	figure(t, "every Service is in the kernel after %.1f s; %s", time.Since(a.started).Seconds(), a.usage())

	// The garbage of the start goes within the next seconds.
	var resident int
	for range 30 {
		time.Sleep(time.Second)
		if resident = a.resident(); resident <= residentLimit {
			break
		}
	}
	figure(t, "at rest: %s", a.usage())
	assert.LessOrEqual(t, resident, residentLimit, "MiB resident")

	before := a.cpu()
	time.Sleep(20 * time.Second)
	figure(t, "doing nothing: %.3f of a processor", (a.cpu()-before).Seconds()/20)

	before = a.cpu()
	churn(w, 500)
	time.Sleep(5 * time.Second)
	figure(t, "500 pods replaced on other nodes: %.2f s of processor time; %s", (a.cpu() - before).Seconds(), a.usage())
	assert.LessOrEqual(t, a.resident(), residentLimit, "MiB resident after changes")
	assert.LessOrEqual(t, a.memory("VmHWM"), peakLimit, "MiB resident at most")
	if t.Failed() {
		t.Log(a.log.String())
	}
}

// writer creates objects, many at once.
type writer struct {
	t       *testing.T
	client  *http.Client
	host    string
	written int
}

// all calls f for 0 to n-1, 16 at a time, and writes what it gives: a path and an object.
func (w *writer) all(n int, f func(i int) (path string, object map[string]any)) {
	w.t.Helper()
	var group sync.WaitGroup
	errs := make(chan error, 16)
	for k := range 16 {
		group.Go(func() {
			for i := k; i < n; i += 16 {
				path, object := f(i)
				if err := w.do(http.MethodPost, path, object); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	require.NoError(w.t, <-errs)
	w.written += n
}

func (w *writer) do(method, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, w.host+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return err
}

// object is a map; the words of Kubernetes' own format are easier to read as they are.
type object = map[string]any

func meta(name string, more ...any) object {
	m := object{"name": name}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

// Everything is a function of its number. Pods lie on nodes in turn, the first node has its share.
const podsOnNode = scalePods / scaleNodes

func scaleNodeIP(node int) string {
	if node == 0 {
		return bed.NodeAddress(1).String()
	}
	return netip.AddrFrom4([4]byte{172, 31, byte(node >> 8), byte(node)}).String()
}

func scaleNodeName(node int) string { return bed.NodeName(node + 1) }

// nodeRange is one /28 for each node.
func nodeRange(node int) netip.Prefix {
	n := 10<<24 | 128<<16 | node<<4
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 28)
}

func podNode(pod int) int { return pod / podsOnNode }

func podIP(pod int) string {
	a := nodeRange(podNode(pod)).Addr().Next()
	for range pod%podsOnNode + 1 {
		a = a.Next()
	}
	return a.String()
}

func podIdentity(pod int) int   { return 10000 + pod%scaleIdentities }
func podName(pod int) string    { return fmt.Sprintf("pod-%d", pod) }
func podLabels(pod int) object  { return identityLabels(pod % scaleIdentities) }
func namespace(kind int) string { return fmt.Sprintf("team-%d", kind%20) }

func identityLabels(kind int) object {
	return object{"app": fmt.Sprintf("app-%d", kind), "tier": fmt.Sprintf("tier-%d", kind%4)}
}

func fill(w *writer) {
	w.all(20, func(i int) (string, map[string]any) {
		return "/api/v1/namespaces", object{"metadata": meta(namespace(i), "labels", object{"team": fmt.Sprint(i)})}
	})
	w.all(20, func(i int) (string, map[string]any) {
		return "/api/v1/namespaces/" + namespace(i) + "/serviceaccounts", object{"metadata": meta("default")}
	})
	w.all(scaleNodes, func(i int) (string, map[string]any) {
		return "/api/v1/nodes", object{"metadata": meta(scaleNodeName(i)), "spec": object{"podCIDR": nodeRange(i).String(), "podCIDRs": []any{nodeRange(i).String()}},
			"status": object{"addresses": []any{object{"type": "InternalIP", "address": scaleNodeIP(i)}}}}
	})
	w.all(scaleNodes-1, func(i int) (string, map[string]any) {
		i++ // the first node's is written by its agent
		return "/apis/cilium.io/v2/ciliumnodes", object{"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": meta(scaleNodeName(i)),
			"spec": object{"addresses": []any{object{"type": "InternalIP", "ip": scaleNodeIP(i)}, object{"type": "CiliumInternalIP", "ip": nodeRange(i).Addr().Next().String()}},
				"ipam": object{"podCIDRs": []any{nodeRange(i).String()}}}}
	})
	w.all(scaleIdentities, func(i int) (string, map[string]any) {
		ls := object{"k8s:io.kubernetes.pod.namespace": namespace(i), "k8s:io.cilium.k8s.policy.serviceaccount": "default", "k8s:io.cilium.k8s.policy.cluster": "default"}
		for k, v := range identityLabels(i) {
			ls["k8s:"+k] = v
		}
		return "/apis/cilium.io/v2/ciliumidentities", object{"apiVersion": "cilium.io/v2", "kind": "CiliumIdentity", "metadata": meta(fmt.Sprint(10000 + i)), "security-labels": ls}
	})
	w.all(scalePods, func(i int) (string, map[string]any) {
		return "/api/v1/namespaces/" + namespace(i%scaleIdentities) + "/pods", object{"metadata": meta(podName(i), "labels", podLabels(i)),
			"spec": object{"nodeName": scaleNodeName(podNode(i)), "containers": []any{object{"name": "c", "image": "none", "ports": []any{object{"name": "http", "containerPort": 8080}}}}}}
	})
	w.all(scalePods-podsOnNode, func(i int) (string, map[string]any) {
		i += podsOnNode // the first node's are its agent's
		return endpointsPath(i), endpoint(i, podIP(i))
	})
	w.all(scaleServices, func(i int) (string, map[string]any) {
		return "/api/v1/namespaces/" + namespace(i) + "/services", object{"metadata": meta(fmt.Sprintf("svc-%d", i)),
			"spec": object{"selector": identityLabels(i % scaleIdentities), "ports": []any{object{"name": "http", "port": 80, "targetPort": "http"}}}}
	})
	w.all(scaleServices, func(i int) (string, map[string]any) {
		var backends []any
		for k := range scaleBackends {
			pod := (i*scaleBackends + k) % scalePods
			backends = append(backends, object{"addresses": []any{podIP(pod)}, "nodeName": scaleNodeName(podNode(pod)),
				"conditions": object{"ready": true, "serving": true, "terminating": false},
				"targetRef":  object{"kind": "Pod", "namespace": namespace(i), "name": podName(pod)}})
		}
		name := fmt.Sprintf("svc-%d", i)
		return "/apis/discovery.k8s.io/v1/namespaces/" + namespace(i) + "/endpointslices", object{
			"metadata": meta(name+"-x", "labels", object{"kubernetes.io/service-name": name}), "addressType": "IPv4",
			"endpoints": backends, "ports": []any{object{"name": "http", "port": 8080, "protocol": "TCP"}}}
	})
	w.all(scalePolicies, func(i int) (string, map[string]any) {
		return "/apis/networking.k8s.io/v1/namespaces/" + namespace(i) + "/networkpolicies", object{"metadata": meta(fmt.Sprintf("allow-%d", i)),
			"spec": object{"podSelector": object{"matchLabels": object{"app": fmt.Sprintf("app-%d", i)}}, "policyTypes": []any{"Ingress"},
				"ingress": []any{object{"from": []any{object{"podSelector": object{"matchLabels": object{"tier": fmt.Sprintf("tier-%d", i%4)}}}}, "ports": []any{object{"port": 8080}}}}}}
	})
}

func endpointsPath(pod int) string {
	return "/apis/cilium.io/v2/namespaces/" + namespace(pod%scaleIdentities) + "/ciliumendpoints"
}

func endpoint(pod int, ip string) object {
	return object{"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", "metadata": meta(podName(pod), "labels", podLabels(pod)),
		"status": object{"id": 100 + pod%podsOnNode, "state": "ready", "identity": object{"id": podIdentity(pod)},
			"networking": object{"node": scaleNodeIP(podNode(pod)), "addressing": []any{object{"ipv4": ip}}}}}
}

// churn replaces pods by others with the same addresses and other names, one after the other.
func churn(w *writer, n int) {
	w.t.Helper()
	for i := range n {
		pod := podsOnNode + i
		require.NoError(w.t, w.do(http.MethodDelete, endpointsPath(pod)+"/"+podName(pod), nil))
		next := endpoint(pod, podIP(pod))
		next["metadata"] = meta(podName(pod)+"-next", "labels", podLabels(pod))
		require.NoError(w.t, w.do(http.MethodPost, endpointsPath(pod), next))
	}
}

// agent is the one that is measured.
type agent struct {
	t        *testing.T
	b        *bed.Bed
	programs string
	started  time.Time
	log      *bytes.Buffer
	pid      int
}

// startAgent runs an agent on the node, in all its namespaces, as its DaemonSet would.
func startAgent(t *testing.T, b *bed.Bed, programs string) *agent {
	t.Helper()
	a := &agent{t: t, b: b, programs: programs, log: &bytes.Buffer{}}
	cmd, err := b.OnNode(context.Background(), 1, "bash", "-c",
		`mkdir -p /run/cilium/cgroupv2; mount -t cgroup2 none /run/cilium/cgroupv2; exec "$@"`, "start",
		filepath.Join(programs, "weir-agent"), "--node-name="+bed.NodeName(1), "--kubeconfig="+b.Kubeconfig(),
		"--k8s-api-server=https://"+bed.APIServer+":"+fmt.Sprint(bed.APIPort), "--ipam=kubernetes", "--kube-proxy-replacement=true",
		"--cgroup-root=/run/cilium/cgroupv2", "--state-dir=/run/cilium", "--enable-ipv6=false")
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = a.log, a.log
	require.NoError(t, cmd.Start())
	a.started = time.Now()
	t.Cleanup(func() {
		exec.Command("kill", strconv.Itoa(a.pid)).Run() // it may have ended
		cmd.Wait()
	})
	// nsenter waits for its child, which is the agent once the shell has become it.
	eventually(t, 10*time.Second, "the agent's process", func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err != nil {
			return err
		}
		if a.pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
			return err
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", a.pid))
		if err == nil && strings.TrimSpace(string(name)) != "weir-agent" {
			err = fmt.Errorf("it is %s", name)
		}
		return err
	})
	return a
}

func (a *agent) waitHealthy(within time.Duration) {
	a.t.Helper()
	deadline := time.Now().Add(within)
	for {
		cmd, err := a.b.OnNode(a.t.Context(), 1, filepath.Join(a.programs, "workload"), "get", "http://127.0.0.1:9879/healthz")
		require.NoError(a.t, err)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("the agent is not ready: %s\n%s", out, a.log)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// waitServices waits until the agent says that it serves so many Services.
func (a *agent) waitServices(n int) {
	a.t.Helper()
	eventually(a.t, readyLimit, "Services", func() error {
		cmd, err := a.b.OnNode(a.t.Context(), 1, filepath.Join(a.programs, "weir"), "--socket=/run/cilium/weir.sock", "service", "list", "-o", "json")
		require.NoError(a.t, err)
		out, err := cmd.Output()
		if err != nil {
			return err
		}
		if have := strings.Count(string(out), `"frontend"`); have < n {
			return fmt.Errorf("%d of %d", have, n)
		}
		return nil
	})
}

// memory is a line of the process's status in MiB.
func (a *agent) memory(what string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid))
	require.NoError(a.t, err, "%s", a.log)
	_, rest, _ := strings.Cut(string(status), what+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(a.t, err)
	return kib / 1024
}

func (a *agent) resident() int { return a.memory("VmRSS") }

// cpu is the time that the agent has used so far.
func (a *agent) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.pid))
	require.NoError(a.t, err, "%s", a.log)
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	require.NoError(a.t, err)
	system, err := strconv.Atoi(fields[12])
	require.NoError(a.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // 100 ticks a second
}

func (a *agent) usage() string {
	return fmt.Sprintf("resident %d MiB (at most %d), %.1f s of processor time", a.resident(), a.memory("VmHWM"), a.cpu().Seconds())
}
