package agenttest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/adapters/internal/kubetest"
	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/adapters/mounts"
	"github.com/weirnet/weir/ports"
)

// programs is where the programs under test are.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "agenttest")
	if err != nil {
		panic(err)
	}
	programs = dir
	code := kubetest.Shared(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", programs, "github.com/weirnet/weir/cmd/weir-agent", "github.com/weirnet/weir/cmd/weir-cni").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// node is a machine of a cluster: a network namespace with an agent, beside a host outside of the cluster,
// and an API server that it reaches by its loopback address.
type node struct {
	t               *testing.T
	cluster         *kubetest.Cluster
	client          dynamic.Interface
	name            string
	ns, outside     string
	dir             string
	config, confDir string
	binDir          string
	agent           *exec.Cmd
	log             *bytes.Buffer
	environment     []string
	arguments       []string // of the agent, more of them
}

func newNode(t *testing.T, name string) *node {
	t.Helper()
	netnstest.Require(t)
	n := &node{t: t, cluster: kubetest.Start(t), name: name, ns: netnstest.New(t), outside: netnstest.New(t), dir: t.TempDir()}
	require.NoError(t, build())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, crds.Install(ctx, n.cluster.Config, slog.New(slog.DiscardHandler)))
	var err error
	n.client, err = dynamic.NewForConfig(n.cluster.Config)
	require.NoError(t, err)
	n.config, n.confDir, n.binDir = filepath.Join(n.dir, "config"), filepath.Join(n.dir, "net.d"), filepath.Join(n.dir, "bin")
	for _, d := range []string{n.config, n.confDir, n.binDir, n.bpffs()} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	_, err = mounts.Ensure(mounts.BPF, "", n.bpffs())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(n.bpffs(), unix.MNT_DETACH)) })
	n.wire()
	n.relay()
	for k, v := range map[string]string{
		"state-dir": n.run(), "bpf-root": n.bpffs(), "cni-conf-dir": n.confDir, "cni-bin-dir": n.binDir,
		"cni-binary": filepath.Join(programs, "weir-cni"), "ipam": "kubernetes", "k8s-kubeconfig-path": n.cluster.Kubeconfig,
		"cni-log-file": filepath.Join(n.dir, "cni.log"), "flow-table-size": "4096", "policy-table-size": "4096",
	} {
		n.set(k, v)
	}
	return n
}

func (n *node) bpffs() string  { return filepath.Join(n.dir, "bpffs") }
func (n *node) run() string    { return filepath.Join(n.dir, "run") }
func (n *node) socket() string { return filepath.Join(n.run(), "weir.sock") }

// set gives a key of the configuration a value.
func (n *node) set(key, value string) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(filepath.Join(n.config, key), []byte(value), 0o644))
}

func (n *node) wire() {
	n.t.Helper()
	out, err := exec.Command("bash", "-c", fmt.Sprintf(`set -e
N="ip -n %s"; O="ip -n %s"
$N link set lo up; $O link set lo up
$N link add eth0 type veth peer name eth0 netns %[2]s
$N link set eth0 up; $O link set eth0 up
$N addr add 10.200.1.1/24 dev eth0; $N addr add fd02:1::1/64 dev eth0 nodad
$O addr add 10.200.1.2/24 dev eth0; $O addr add fd02:1::2/64 dev eth0 nodad
$N route add default via 10.200.1.2; $N route add default via fd02:1::2
`, n.ns, n.outside)).CombinedOutput()
	require.NoError(n.t, err, "%s", out)
}

// relay makes the API server answer at the same loopback address inside the node.
func (n *node) relay() {
	n.t.Helper()
	u, err := url.Parse(n.cluster.Config.Host)
	require.NoError(n.t, err)
	var l net.Listener
	require.NoError(n.t, netns.Do(netns.Path(n.ns), func() (err error) {
		l, err = net.Listen("tcp", u.Host)
		return err
	}))
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", u.Host)
				if err != nil {
					return
				}
				defer s.Close()
				go func() { _, _ = io.Copy(s, c); s.Close() }()
				_, _ = io.Copy(c, s)
			}()
		}
	}()
}

// command runs one of weir's programs in the node.
func (n *node) command(program string, args ...string) *exec.Cmd {
	c := exec.Command("nsenter", append([]string{"--net=" + netns.Path(n.ns), "--", program}, args...)...)
	c.Env = append(os.Environ(), "K8S_NODE_NAME="+n.name)
	return c
}

// start starts the agent.
func (n *node) start() {
	n.t.Helper()
	n.log = &bytes.Buffer{}
	n.agent = n.command(filepath.Join(programs, "weir-agent"), append([]string{"--config-dir", n.config}, n.arguments...)...)
	n.agent.Env = append(n.agent.Env, n.environment...)
	n.agent.Stdout, n.agent.Stderr = n.log, n.log
	require.NoError(n.t, n.agent.Start())
	n.t.Cleanup(func() {
		if n.agent != nil {
			n.stop()
		}
		if n.t.Failed() {
			n.t.Logf("agent:\n%s", n.log)
		}
	})
}

// stop ends the agent as the kubelet does.
func (n *node) stop() {
	n.t.Helper()
	a := n.agent
	n.agent = nil
	require.NoError(n.t, a.Process.Signal(syscall.SIGTERM))
	done := make(chan error, 1)
	go func() { done <- a.Wait() }()
	select {
	case err := <-done:
		require.NoError(n.t, err)
	case <-time.After(15 * time.Second):
		_ = a.Process.Kill()
		n.t.Fatal("the agent does not end")
	}
}

// health asks /healthz inside the node.
func (n *node) health(headers ...string) (code int, body string) {
	n.t.Helper()
	_ = netns.Do(netns.Path(n.ns), func() error {
		c, err := net.DialTimeout("tcp", "[::1]:9879", 3*time.Second)
		if err != nil {
			return err
		}
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }, DisableKeepAlives: true}
		r, _ := http.NewRequest(http.MethodGet, "http://localhost:9879/healthz", nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		code, body = resp.StatusCode, string(b)
		return err
	})
	return code, body
}

func (n *node) status() ports.Status {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := api.NewClient(n.socket()).Status(ctx)
	require.NoError(n.t, err)
	return s
}

// eventually waits for what must become true within seconds.
func (n *node) eventually(what string, f func() bool) {
	n.t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%s: not within 30 s; agent:\n%s", what, n.log)
		}
	}
}

func (n *node) ready() {
	n.t.Helper()
	n.eventually("the agent is ready", func() bool {
		code, _ := n.health("brief", "true")
		return code == http.StatusOK
	})
}

// apply creates an object, or its status if it has one.
func (n *node) apply(resource, manifest string) {
	n.t.Helper()
	var o unstructured.Unstructured
	require.NoError(n.t, yaml.Unmarshal([]byte(manifest), &o.Object))
	gv, err := schema.ParseGroupVersion(o.GetAPIVersion())
	require.NoError(n.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var c dynamic.ResourceInterface = n.client.Resource(gv.WithResource(resource))
	if o.GetNamespace() != "" {
		c = n.client.Resource(gv.WithResource(resource)).Namespace(o.GetNamespace())
	}
	status, has := o.Object["status"]
	made, err := c.Create(ctx, &o, metav1.CreateOptions{})
	require.NoError(n.t, err)
	n.t.Cleanup(func() {
		zero := int64(0)
		_ = c.Delete(context.Background(), made.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &zero})
	})
	if has {
		made.Object["status"] = status
		_, err = c.UpdateStatus(ctx, made, metav1.UpdateOptions{})
		require.NoError(n.t, err)
	}
}

// add attaches a pod by CNI and returns its network namespace.
func (n *node) add(namespace, pod string) string {
	n.t.Helper()
	ns := netnstest.New(n.t)
	out, err := n.cni("ADD", ns, namespace, pod)
	require.NoError(n.t, err, out)
	return ns
}

func (n *node) cni(verb, ns, namespace, pod string) (string, error) {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.confDir, cni.ConflistName))
	require.NoError(n.t, err)
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Name       string           `json:"name"`
		Plugins    []map[string]any `json:"plugins"`
	}
	require.NoError(n.t, json.Unmarshal(b, &list))
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, list.Name
	in, err := json.Marshal(conf)
	require.NoError(n.t, err)
	c := n.command(filepath.Join(n.binDir, "weir-cni"))
	c.Stdin = bytes.NewReader(in)
	c.Env = append(c.Env, "CNI_COMMAND="+verb, "CNI_CONTAINERID="+ns, "CNI_NETNS="+netns.Path(ns), "CNI_IFNAME=eth0", "CNI_PATH="+n.binDir,
		fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s", namespace, pod))
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
