package lab_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nodePortCluster has a server on each node with a service of its own, one that tells who asks and is only to be
// asked at its own node, and host ports.
const nodePortCluster = `
apiVersion: v1
kind: Namespace
metadata: {name: np}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: np, labels: {app: one}}
spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 9000, hostPort: 8088}, {containerPort: 9000, hostPort: 8088, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: np, labels: {app: two}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{containerPort: 9000}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: teller, namespace: np, labels: {app: teller}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: np}
spec:
  type: NodePort
  selector: {app: one}
  clusterIPs: ["10.96.7.1", "fd00:10:96::701"]
  ports: [{name: t, port: 80, targetPort: 9000, nodePort: 30081}, {name: u, port: 80, targetPort: 9000, protocol: UDP, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: np}
spec:
  type: NodePort
  selector: {app: two}
  clusterIPs: ["10.96.7.2", "fd00:10:96::702"]
  ports: [{name: t, port: 80, targetPort: 9000, nodePort: 30082}, {name: u, port: 80, targetPort: 9000, protocol: UDP, nodePort: 30082}]
---
apiVersion: v1
kind: Service
metadata: {name: teller, namespace: np}
spec:
  type: LoadBalancer
  selector: {app: teller}
  externalTrafficPolicy: Local
  healthCheckNodePort: 32100
  clusterIPs: ["10.96.7.3", "fd00:10:96::703"]
  ports: [{name: t, port: 80, targetPort: 9700, nodePort: 30083}]
`

// machines of the lab, by name, one address a family.
var machines = map[string][]string{
	"outside": {"172.30.0.1", "fd00:172:30::1"},
	"node1":   {"172.30.0.11", "fd00:172:30::11"},
	"node2":   {"172.30.0.12", "fd00:172:30::12"},
}

// caller starts this test binary somewhere in a lab.
func caller(lab, place, order string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(filepath.Join(bin, "weir"), "lab", "exec", "--name", lab, place, "--", self)
	c.Env = append(os.Environ(), callEnv+"="+order)
	return c
}

// asks lets somebody ask targets and returns who answered each.
func asks(t *testing.T, lab, place string, targets ...string) []string {
	t.Helper()
	c := caller(lab, place, "ask "+strings.Join(targets, " "))
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	require.NoError(t, err, "%s", errs.String())
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func requireAnswers(t *testing.T, lab, place string, want map[string]string) {
	t.Helper()
	var targets []string
	for target := range want {
		targets = append(targets, target)
	}
	for i, got := range asks(t, lab, place, targets...) {
		if want[targets[i]] == "nobody" {
			assert.True(t, strings.HasPrefix(got, "nobody"), "%s asks %s: %s", place, targets[i], got)
		} else {
			assert.Equal(t, want[targets[i]], got, "%s asks %s", place, targets[i])
		}
	}
	if t.Failed() {
		for _, args := range [][]string{{"service", "list"}, {"observe", "--verdict", "DROPPED"}} {
			t.Log(must(t, append([]string{"lab", "exec", "--name", lab, "node/node1", "--", filepath.Join(bin, "weir")}, args...)...))
		}
		t.FailNow()
	}
}

func at(network, machine string, family int, port int) string {
	return network + "/" + net.JoinHostPort(machines[machine][family], fmt.Sprint(port))
}

// Who is outside reaches services at every node, be the backend there or elsewhere, and host ports at the pod's.
func TestNodePorts(t *testing.T) {
	for _, routing := range []string{"tunnel", "native"} {
		t.Run(routing, func(t *testing.T) {
			n := name(t, "p"+routing[:1])
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "np.yaml"), []byte(nodePortCluster), 0o644))
			must(t, "lab", "up", "--name", n, "--routing", routing, "-f", dir)

			everywhere, hostPorts := map[string]string{}, map[string]string{}
			for family := range 2 {
				for _, node := range []string{"node1", "node2"} {
					for _, network := range []string{"tcp", "udp"} {
						everywhere[at(network, node, family, 30081)] = "np/one"
						everywhere[at(network, node, family, 30082)] = "np/two"
					}
				}
				for _, network := range []string{"tcp", "udp"} {
					hostPorts[at(network, "node1", family, 8088)] = "np/one"
					hostPorts[at(network, "node2", family, 8088)] = "nobody"
				}
			}
			for _, place := range []string{"outside", "np/one", "np/two", "node/node1", "node/node2"} {
				requireAnswers(t, n, place, everywhere)
				requireAnswers(t, n, place, hostPorts)
			}
			requireAnswers(t, n, "node/node1", map[string]string{"tcp/127.0.0.1:30082": "np/two", "tcp/[::1]:30081": "np/one"})

			requireClientsAddress(t, n)
			requireUndisturbed(t, n, []string{
				at("tcp", "node1", 0, 30081), at("tcp", "node1", 1, 30082), at("tcp", "node2", 0, 30081),
				at("udp", "node1", 0, 30082), at("udp", "node2", 1, 30081), at("tcp", "node1", 1, 8088),
			})
			requireAnswers(t, n, "outside", everywhere)
		})
	}
}

// requireClientsAddress asks a service that keeps traffic at its node: it sees who asks, and only its node answers.
func requireClientsAddress(t *testing.T, lab string) {
	t.Helper()
	teller := caller(lab, "np/teller", "tell :9700")
	out, err := teller.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, teller.Start())
	defer func() {
		_ = teller.Process.Signal(os.Interrupt)
		_ = teller.Wait()
	}()
	_, err = io.ReadAtLeast(out, make([]byte, 16), len("listening"))
	require.NoError(t, err)
	want := map[string]string{}
	for family := range 2 {
		want[at("tcp", "node1", family, 30083)] = machines["outside"][family]
		want[at("tcp", "node2", family, 30083)] = "nobody"
	}
	requireAnswers(t, lab, "outside", want)
	for node, status := range map[string]int{"node1": http.StatusOK, "node2": http.StatusServiceUnavailable} {
		got := must(t, "lab", "exec", "--name", lab, "outside", "--", "curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}",
			"http://"+net.JoinHostPort(machines[node][0], "32100"))
		assert.Equal(t, fmt.Sprint(status), got, node)
	}
}

// requireUndisturbed kills the agents while somebody outside keeps calling: nobody notices.
func requireUndisturbed(t *testing.T, lab string, targets []string) {
	t.Helper()
	c := caller(lab, "outside", "keep "+strings.Join(targets, " "))
	in, err := c.StdinPipe()
	require.NoError(t, err)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	require.NoError(t, c.Start())
	time.Sleep(time.Second)
	for _, node := range []string{"node1", "node2"} {
		must(t, "lab", "agent", "kill", "--name", lab, node)
		time.Sleep(time.Second)
		must(t, "lab", "agent", "start", "--name", lab, node)
	}
	time.Sleep(time.Second)
	require.NoError(t, in.Close())
	require.NoError(t, c.Wait(), errs.String())
	var got []calls
	require.NoError(t, json.Unmarshal(out.Bytes(), &got), out.String())
	for _, c := range got {
		assert.Zero(t, c.Lost, "%+v", c)
		assert.Greater(t, c.Sent, 50, "%+v", c)
	}
	require.Greater(t, len(got), len(targets))
}
