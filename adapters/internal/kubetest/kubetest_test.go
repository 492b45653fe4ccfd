package kubetest

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/internal/needs"
)

func TestMain(m *testing.M) { os.Exit(Shared(m)) }

// get reads a path with a configuration and gives the status of the answer.
func get(t *testing.T, config *rest.Config, path string) int {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	resp, err := client.Get(config.Host + path)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

func TestAdministratorMayDoEverything(t *testing.T) {
	c := Start(t)
	assert.Equal(t, http.StatusOK, get(t, c.Config, "/api/v1/nodes"))
	_, err := c.request(http.MethodPost, "/api/v1/namespaces/default/pods", map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a"},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "none"}}},
	})
	assert.NoError(t, err, "a pod needs no service account")
	assert.Same(t, c, Start(t), "the package's tests share one cluster")
}

func TestRolesAreEnforced(t *testing.T) {
	c := Start(t)
	account := c.ServiceAccount(t, "roles", "reader")
	user := c.As(t, "jane", "readers")
	for name, config := range map[string]*rest.Config{"service account": account, "user": user} {
		assert.Equal(t, http.StatusForbidden, get(t, config, "/api/v1/namespaces/roles/pods"), name)
	}
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/roles/"
	_, err := c.request(http.MethodPost, rbac+"roles", map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": map[string]any{"name": "pods"},
		"rules": []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"pods"}, "verbs": []any{"list"}}},
	})
	require.NoError(t, err)
	_, err = c.request(http.MethodPost, rbac+"rolebindings", map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": map[string]any{"name": "pods"},
		"roleRef": map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pods"},
		"subjects": []any{
			map[string]any{"kind": "ServiceAccount", "namespace": "roles", "name": "reader"},
			map[string]any{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "readers"},
		},
	})
	require.NoError(t, err)
	for name, config := range map[string]*rest.Config{"service account": account, "user": user} {
		assert.Eventually(t, func() bool { return get(t, config, "/api/v1/namespaces/roles/pods") == http.StatusOK },
			10*time.Second, 20*time.Millisecond, name)
		assert.Equal(t, http.StatusForbidden, get(t, config, "/api/v1/namespaces/default/pods"), name)
	}
	c.ServiceAccount(t, "roles", "reader") // a second call finds what is there
}

func TestOutageKeepsObjectsAndAddress(t *testing.T) {
	c := Start(t)
	c.Namespace(t, "outage")
	c.StopAPIServer(t)
	_, err := c.request(http.MethodGet, "/readyz", nil)
	assert.Error(t, err)
	c.StartAPIServer(t)
	_, err = c.request(http.MethodGet, "/api/v1/namespaces/outage", nil)
	assert.NoError(t, err)
}

func TestKubeconfigIsWhatKubectlReads(t *testing.T) {
	c := Start(t)
	kubectl, err := exec.LookPath(c.bin + "/kubectl")
	if err != nil {
		needs.Missing(t, "kube", err.Error())
	}
	out, err := exec.Command(kubectl, "--kubeconfig", c.Kubeconfig, "get", "namespaces", "-o", "name").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "namespace/default")
}

// TestKilledTestLeavesNothing runs itself as a process that starts a cluster and is killed.
func TestKilledTestLeavesNothing(t *testing.T) {
	bin, err := binaries()
	if err != nil {
		Start(t) // says why and skips
	}
	if os.Getenv("KUBETEST_VICTIM") != "" {
		c, err := launch(bin)
		require.NoError(t, err)
		fmt.Println("victim:", c.dir, c.etcd.cmd.Process.Pid, c.api.cmd.Process.Pid)
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledTestLeavesNothing$", "-test.v")
	cmd.Env = append(os.Environ(), "KUBETEST_VICTIM=1")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var dir string
	var pids [2]int
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if i := strings.Index(lines.Text(), "victim: "); i >= 0 {
			_, err := fmt.Sscanf(lines.Text()[i:], "victim: %s %d %d", &dir, &pids[0], &pids[1])
			require.NoError(t, err)
			break
		}
	}
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	require.NotEmpty(t, dir, "the process that was to be killed did not start a cluster")
	for _, pid := range pids {
		assert.Eventually(t, func() bool { return gone(pid) }, 10*time.Second, 20*time.Millisecond, "pid %d", pid)
	}
	require.DirExists(t, dir)
	next, lock, err := makeDir()
	require.NoError(t, err)
	defer lock.Close()
	defer os.RemoveAll(next)
	assert.NoDirExists(t, dir, "the next cluster removes what a killed process left")
}

// gone says that a process has ended; it may still wait for its new parent to notice.
func gone(pid int) bool {
	if unix.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestMissingBinariesAreNamed(t *testing.T) {
	t.Setenv("WEIR_K8S_BIN", t.TempDir())
	_, err := binaries()
	assert.ErrorContains(t, err, "no etcd in "+os.Getenv("WEIR_K8S_BIN"))
}
