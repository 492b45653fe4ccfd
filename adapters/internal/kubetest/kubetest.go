// Package kubetest gives a test a real Kubernetes API: one etcd and one kube-apiserver on loopback,
// without nodes, controllers or a scheduler. Authorization is on (Node and RBAC), so that a test sees
// what a role forbids; of the admission plugins only ServiceAccount is off, because nothing makes the
// accounts and tokens which it would demand of every Pod. Nothing fills the aggregated roles (view,
// edit, admin) or collects garbage either: those are the work of controllers.
//
// The servers are ready after three to five seconds, take some 0.3 GiB, and end with the test. The
// kernel kills them if the test's process dies first.
package kubetest

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/internal/needs"
	"github.com/weirnet/weir/test/authority"
)

// readyTimeout is how long the servers may take until they answer; a busy machine needs ten seconds.
const readyTimeout = 2 * time.Minute

// Cluster is a running API server and its etcd. Its methods may be called by several goroutines,
// except that only one may stop and start the API server.
type Cluster struct {
	// Config is that of a member of system:masters, without a client-side rate limit. Copy it before
	// changing it (rest.CopyConfig).
	Config *rest.Config
	// Kubeconfig is the path of a file that says the same; it goes with the cluster.
	Kubeconfig string

	bin  string
	dir  string
	lock *os.File
	pki  *authority.Authority
	http *http.Client

	etcdPort, apiPort int

	mu        sync.Mutex
	etcd, api *process
}

// shared is the cluster of a package whose TestMain called Shared.
var shared struct {
	sync.Mutex
	on      bool
	cluster *Cluster
	err     error
}

// Shared runs a package's tests with one cluster among them: every Start then returns the same, which
// the first call makes. TestMain calls it in place of m.Run and exits with what it returns. Tests that
// share a cluster keep apart by namespaces, or by names where a kind has none.
func Shared(m *testing.M) int {
	shared.Lock()
	shared.on = true
	shared.Unlock()
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		shared.on = false
		if shared.cluster != nil {
			shared.cluster.stop()
			shared.cluster = nil
		}
	}()
	return m.Run()
}

// Start returns a cluster that is ready: a new one which ends with the test, or the package's (see
// Shared). Where the binaries are not to be found the test is skipped with the reason; if the
// environment's REQUIRE (a comma-separated list) names kube it fails.
func Start(t testing.TB) *Cluster {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		needs.Missing(t, "kube", err.Error())
	}
	shared.Lock()
	defer shared.Unlock()
	if !shared.on {
		c, err := launch(bin)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.stop)
		return c
	}
	if shared.cluster == nil && shared.err == nil { // a second try would only fail as slowly
		shared.cluster, shared.err = launch(bin)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// binaries finds the folder that holds etcd and kube-apiserver: $WEIR_K8S_BIN, else where
// test/k8s/build.sh puts them.
func binaries() (string, error) {
	dir := os.Getenv("WEIR_K8S_BIN")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no kube-apiserver: WEIR_K8S_BIN is not set, and %w", err)
		}
		dir = filepath.Join(cache, "weir-k8s", "bin")
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("no %s in %s (test/k8s/build.sh builds it; WEIR_K8S_BIN names another folder): %w", name, dir, err)
		}
	}
	return dir, nil
}

// launch starts both servers. Another process may take a port between its choice and its use, so it
// tries more than once.
func launch(bin string) (*Cluster, error) {
	var err error
	for range 3 {
		var c *Cluster
		if c, err = launchOnce(bin); err == nil {
			return c, nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("kubetest: %w", err)
}

func launchOnce(bin string) (c *Cluster, err error) {
	c = &Cluster{bin: bin}
	defer func() {
		if err != nil {
			c.stop()
			c = nil
		}
	}()
	if c.dir, c.lock, err = makeDir(); err != nil {
		return c, err
	}
	if err = c.writeCredentials(); err != nil {
		return c, err
	}
	if c.etcdPort, c.apiPort, err = freePorts(); err != nil {
		return c, err
	}
	if c.Config, err = c.config("kubetest-admin", "system:masters"); err != nil {
		return c, err
	}
	if c.http, err = rest.HTTPClientFor(c.Config); err != nil {
		return c, fmt.Errorf("client: %w", err)
	}
	c.Kubeconfig = c.path("kubeconfig")
	if err = os.WriteFile(c.Kubeconfig, kubeconfig(c.Config), 0o600); err != nil {
		return c, fmt.Errorf("write kubeconfig: %w", err)
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", c.etcdPort)
	c.etcd, err = start(c.path("etcd.log"), filepath.Join(bin, "etcd"),
		"--data-dir", c.path("etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", "http://127.0.0.1:0")
	if err != nil {
		return c, err
	}
	return c, c.startAPI()
}

// writeCredentials makes the cluster's authority and writes what the API server reads.
func (c *Cluster) writeCredentials() (err error) {
	if c.pki, err = authority.New("kubetest-ca", 48*time.Hour); err != nil {
		return err
	}
	files, err := c.pki.APIServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	return authority.Write(c.dir, files)
}

// path is where a file of the cluster lies.
func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// startAPI starts the API server and waits until it is ready.
func (c *Cluster) startAPI() error {
	api, err := start(c.path("kube-apiserver.log"), filepath.Join(c.bin, "kube-apiserver"),
		"--etcd-servers", fmt.Sprintf("http://127.0.0.1:%d", c.etcdPort),
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.apiPort),
		// What the default/kubernetes Service leads to may not be a loopback address.
		"--advertise-address", "192.0.2.1",
		"--tls-cert-file", c.path("server.crt"), "--tls-private-key-file", c.path("server.key"),
		"--client-ca-file", c.path("ca.crt"),
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", c.path("sa.key"), "--service-account-signing-key-file", c.path("sa.key"),
		"--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112",
		"--authorization-mode", "Node,RBAC", "--allow-privileged=true", "--disable-admission-plugins", "ServiceAccount",
	)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.api = api
	c.mu.Unlock()
	deadline := time.After(readyTimeout)
	var last string
	for {
		if last = c.ready(); last == "" {
			return nil
		}
		select {
		case <-c.etcd.done:
			return fmt.Errorf("etcd ended at its start:\n%s", c.etcd.tail())
		case <-api.done:
			return fmt.Errorf("kube-apiserver ended at its start:\n%s", api.tail())
		case <-deadline:
			return fmt.Errorf("kube-apiserver not ready within %v: %s\n%s", readyTimeout, last, api.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ready is empty once every check of the API server has passed.
func (c *Cluster) ready() string {
	if _, err := c.request(http.MethodGet, "/readyz", nil); err != nil {
		return err.Error()
	}
	return ""
}

// StopAPIServer kills the API server, as a crash would; etcd keeps what it has. StartAPIServer brings
// it back, at the latest the end of the test does.
func (c *Cluster) StopAPIServer(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	api := c.api
	c.api = nil
	c.mu.Unlock()
	if api == nil {
		t.Fatal("kubetest: stop the API server: it is stopped already")
	}
	api.kill()
	c.http.CloseIdleConnections()
	t.Cleanup(func() {
		c.mu.Lock()
		stopped := c.api == nil && c.etcd != nil
		c.mu.Unlock()
		if stopped {
			c.StartAPIServer(t)
		}
	})
}

// StartAPIServer starts an API server that was stopped, at the same address, and waits until it is
// ready.
func (c *Cluster) StartAPIServer(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	running := c.api != nil
	c.mu.Unlock()
	if running {
		t.Fatal("kubetest: start the API server: it is running")
	}
	if err := c.startAPI(); err != nil {
		t.Fatalf("kubetest: start the API server again: %v", err)
	}
}

// stop ends both servers and removes their files; what is gone already is no fault.
func (c *Cluster) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range []*process{c.api, c.etcd} {
		if p != nil {
			p.kill()
		}
	}
	c.api, c.etcd = nil, nil
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	if c.dir != "" {
		os.RemoveAll(c.dir)
		c.lock.Close()
	}
}

// kubeconfig writes a configuration with client certificates as the file that kubectl reads.
func kubeconfig(c *rest.Config) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: kubetest, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: admin, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: kubetest, context: {cluster: kubetest, user: admin}}]
current-context: kubetest
`, c.Host, b64(c.CAData), b64(c.CertData), b64(c.KeyData))
}
