package nodeconfig

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/internal/kubetest"
	ciliumv2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/core/config"
)

const namespace = "kube-system"

// rig is an API server with a node n1, and an account that has exactly an agent's rights.
type rig struct {
	t       *testing.T
	cluster *kubetest.Cluster
	core    *kubernetes.Clientset
	dynamic dynamic.Interface
	agent   *rest.Config
}

func newRig(t *testing.T) *rig {
	t.Helper()
	c := kubetest.Start(t)
	r := &rig{t: t, cluster: c}
	var err error
	r.core, err = kubernetes.NewForConfig(c.Config)
	require.NoError(t, err)
	r.dynamic, err = dynamic.NewForConfig(c.Config)
	require.NoError(t, err)
	_, err = r.core.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "ssd"}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	r.agent = c.ServiceAccount(t, namespace, "cilium")
	return r
}

// allow gives the account what Rules says, and its Node, as kubernetes.Rules does.
func (r *rig) allow() {
	r.t.Helper()
	ctx, rbac := r.t.Context(), r.core.RbacV1()
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: "cilium"}}
	meta := metav1.ObjectMeta{Name: "agent"}
	role := &rbacv1.Role{ObjectMeta: meta}
	for _, x := range Rules() {
		role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{x.Group}, Resources: []string{x.Resource}, Verbs: x.Verbs})
	}
	_, err := rbac.Roles(namespace).Create(ctx, role, metav1.CreateOptions{})
	require.NoError(r.t, err)
	_, err = rbac.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "agent"}}, metav1.CreateOptions{})
	require.NoError(r.t, err)
	nodes := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}}}}
	_, err = rbac.ClusterRoles().Create(ctx, nodes, metav1.CreateOptions{})
	require.NoError(r.t, err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "agent"}}, metav1.CreateOptions{})
	require.NoError(r.t, err)
}

// put makes a CiliumNodeConfig; a nil selector is none.
func (r *rig) put(version, name string, selector any, defaults map[string]any) {
	r.t.Helper()
	spec := map[string]any{"defaults": defaults}
	if selector != nil {
		spec["nodeSelector"] = selector
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cilium.io/" + version, "kind": "CiliumNodeConfig", "metadata": map[string]any{"name": name}, "spec": spec}}
	gvr := schema.GroupVersionResource{Group: "cilium.io", Version: version, Resource: resource}
	require.Eventually(r.t, func() bool {
		_, err := r.dynamic.Resource(gvr).Namespace(namespace).Apply(r.t.Context(), name, o, metav1.ApplyOptions{FieldManager: "test", Force: true})
		if err != nil {
			r.t.Log(err)
		}
		return err == nil
	}, 20*time.Second, 100*time.Millisecond)
}

func (r *rig) remove(name string) {
	r.t.Helper()
	gvr := ciliumv2.GroupVersion.WithResource(resource)
	require.NoError(r.t, r.dynamic.Resource(gvr).Namespace(namespace).Delete(r.t.Context(), name, metav1.DeleteOptions{}))
}

func (r *rig) label(patch string) {
	r.t.Helper()
	_, err := r.core.CoreV1().Nodes().Patch(r.t.Context(), "n1", types.MergePatchType, []byte(`{"metadata":{"labels":`+patch+`}}`), metav1.PatchOptions{})
	require.NoError(r.t, err)
}

// ear remembers what Watch tells.
type ear struct {
	mu       sync.Mutex
	known    []Known
	failures []error
}

func (e *ear) heard(k Known) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = append(e.known, k)
}

func (e *ear) failed(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures = append(e.failures, err)
}

// last is what was told last, in short, and how often something was.
func (e *ear) last() (string, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.known) == 0 {
		return "nothing", 0
	}
	return short(e.known[len(e.known)-1]), len(e.known)
}

func short(k Known) string {
	var out []string
	for _, o := range k.Overlays {
		out = append(out, strings.TrimPrefix(o.Name, namespace+"/")+"="+o.Values["mtu"])
	}
	return strings.Join(append(out, k.Problems...), " ")
}

func (e *ear) eventually(t *testing.T, want string) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for got, _ := e.last(); got != want; got, _ = e.last() {
		if time.Now().After(deadline) {
			t.Fatalf("want %q, heard %q", want, got)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// An agent hears which objects select its node from before the kind is defined, over changes of objects and
// labels, through an outage, to the end; with no more rights than it is given.
func TestFollowsWhatSelectsANode(t *testing.T) {
	r := newRig(t)
	c, err := New(r.agent, "n1", namespace)
	require.NoError(t, err)
	_, err = c.Read(t.Context())
	require.ErrorContains(t, err, "CiliumNodeConfigs of namespace kube-system: ")
	require.ErrorContains(t, err, "Role cilium-config-agent gives this right")
	r.allow()
	require.Eventually(t, func() bool {
		var k Known
		k, err = c.Read(t.Context())
		return err == nil && len(k.Overlays) == 0
	}, 20*time.Second, 100*time.Millisecond, "the kind is not defined: there are none")

	var e ear
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Watch(ctx, e.heard, e.failed) }()
	e.eventually(t, "")

	require.NoError(t, crds.Install(t.Context(), r.cluster.Config, slog.New(slog.DiscardHandler)))
	mtu := func(v string) map[string]any { return map[string]any{"mtu": v} }
	r.put("v2", "b", map[string]any{"matchLabels": map[string]any{"disk": "ssd"}}, mtu("2"))
	e.eventually(t, "b=2")
	r.put("v2alpha1", "a", map[string]any{}, mtu("1"))
	e.eventually(t, "a=1 b=2")
	r.put("v2", "c", nil, mtu("3"))
	r.put("v2", "d", map[string]any{"matchExpressions": []any{map[string]any{"key": "disk", "operator": "NotIn", "values": []any{"ssd"}}}}, mtu("4"))
	r.put("v2", "b", map[string]any{"matchLabels": map[string]any{"disk": "ssd"}}, mtu("5"))
	e.eventually(t, "a=1 b=5")
	r.label(`{"disk":"hdd"}`)
	e.eventually(t, "a=1 d=4")
	r.remove("a")
	e.eventually(t, "d=4")
	r.put("v2", "e", map[string]any{"matchLabels": map[string]any{"k8s:disk": "ssd"}}, mtu("6"))
	require.Eventually(t, func() bool {
		s, _ := e.last()
		return strings.HasPrefix(s, "d=4 CiliumNodeConfig kube-system/e: spec.nodeSelector: ") && strings.HasSuffix(s, "it counts on no node")
	}, 20*time.Second, 20*time.Millisecond)
	r.remove("e")
	e.eventually(t, "d=4")
	_, n := e.last()
	r.label(`{"other":"x"}`)
	now, err := c.Read(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Known{Node: "n1", Namespace: namespace, Overlays: []config.Overlay{{Name: "kube-system/d", Values: map[string]string{"mtu": "4"}}}}, now)
	e.mu.Lock()
	failures := len(e.failures)
	e.mu.Unlock()
	assert.Zero(t, failures)

	r.cluster.StopAPIServer(t)
	require.Eventually(t, func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.failures) > 0 }, 40*time.Second, 20*time.Millisecond)
	r.cluster.StartAPIServer(t)
	r.put("v2", "d", map[string]any{}, mtu("7"))
	e.eventually(t, "d=7")
	_, after := e.last()
	assert.Equal(t, n+1, after, "neither a label that no selector names nor an outage is news")
	require.Eventually(t, func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.failures[len(e.failures)-1] == nil }, 60*time.Second, 20*time.Millisecond)

	_, err = (&Client{configs: c.configs, nodes: c.nodes, node: "n2", namespace: namespace}).Read(t.Context())
	assert.ErrorContains(t, err, "read labels of Node n2")
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("Watch goes on after its context")
	}
}

func TestRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run", "node-config.json")
	_, known, err := Load(file, "n1", namespace)
	require.NoError(t, err)
	assert.False(t, known)
	k := Known{Node: "n1", Namespace: namespace, Overlays: []config.Overlay{{Name: "kube-system/a", Values: map[string]string{"mtu": "1400"}}}, Problems: []string{"x"}}
	require.NoError(t, Save(file, k))
	got, known, err := Load(file, "n1", namespace)
	require.NoError(t, err)
	assert.True(t, known && got.Equal(k), "%+v", got)
	for _, other := range [][2]string{{"n2", namespace}, {"n1", "other"}} {
		_, known, err = Load(file, other[0], other[1])
		assert.NoError(t, err)
		assert.False(t, known, "%v", other)
	}
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	_, known, err = Load(file, "n1", namespace)
	assert.NoError(t, err)
	assert.False(t, known)
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Len(t, left, 1, "no half-written files")
	_, _, err = Load(t.TempDir(), "n1", namespace)
	assert.Error(t, err)
	assert.Error(t, Save(filepath.Join(file, "below"), k))
}
