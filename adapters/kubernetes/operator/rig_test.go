package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/internal/kubetest"
	"github.com/weirnet/weir/adapters/kubernetes/crds"
)

func TestMain(m *testing.M) {
	if values := os.Getenv(childValues); values != "" {
		child(values)
	}
	os.Exit(kubetest.Shared(m))
}

// childValues is the variable that makes an operator of a process of this test: its configuration.
const childValues = "OPERATOR_TEST_CHILD"

// child is an operator in a process of its own, which a test can kill.
func child(values string) {
	var all map[string]string
	if err := json.Unmarshal([]byte(values), &all); err != nil {
		panic(err)
	}
	c, err := NewConfig(all)
	if err != nil {
		panic(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	fx.New(fx.NopLogger, fx.Supply(Options{Config: c, Log: log}), Module).Run()
	os.Exit(0)
}

// process is an operator in a process of its own.
type process struct {
	cmd *exec.Cmd
	log *lockedBuffer
}

func (r *rig) process(values ...string) *process {
	r.t.Helper()
	body, err := json.Marshal(r.values(values...))
	require.NoError(r.t, err)
	p := &process{exec.Command(os.Args[0]), &lockedBuffer{}}
	p.cmd.Env = append(os.Environ(), childValues+"="+string(body))
	p.cmd.Stderr, p.cmd.SysProcAttr = p.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(r.t, p.cmd.Start())
	r.t.Cleanup(p.kill)
	return p
}

// kill ends it as SIGKILL does: without giving the lease back.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *process) leads() string {
	if strings.Contains(p.log.String(), "msg=leading") {
		return ""
	}
	return "not leading:\n" + p.log.String()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// rig is an API server with the definitions, and ways to look at it and change it.
type rig struct {
	t       *testing.T
	cluster *kubetest.Cluster
	api     *clients
	ctx     context.Context
}

var coreNodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}

func newRig(t *testing.T) *rig {
	t.Helper()
	c := kubetest.Start(t)
	config := rest.CopyConfig(c.Config)
	config.QPS = -1
	api, err := newClients(config, nil)
	require.NoError(t, err)
	r := &rig{t, c, api, t.Context()}
	require.NoError(t, crds.Install(r.ctx, config, slog.New(slog.DiscardHandler)))
	r.wipe()
	t.Cleanup(func() {
		r.ctx = context.Background()
		r.wipe()
	})
	return r
}

// wipe removes what tests make.
func (r *rig) wipe() {
	r.t.Helper()
	for _, gvr := range []schema.GroupVersionResource{coreNodes, ciliumNodes, ciliumClusterPolicies, ciliumCIDRGroups, ciliumEndpointSlices, ciliumIdentities} {
		require.NoError(r.t, r.api.dynamic.Resource(gvr).DeleteCollection(r.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	}
	for _, ns := range []string{"default", "kube-system"} {
		for _, gvr := range []schema.GroupVersionResource{corePods, ciliumEndpoints, ciliumPolicies, {Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}} {
			zero := int64(0)
			require.NoError(r.t, r.api.dynamic.Resource(gvr).Namespace(ns).DeleteCollection(r.ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{}))
		}
	}
}

// quick makes elections short.
var quick = map[string]string{
	"operator-api-serve-addr": "127.0.0.1:0", "operator-prometheus-serve-addr": "127.0.0.1:0", "unmanaged-pod-watcher-interval": "0",
	"leader-election-lease-duration": "3s", "leader-election-renew-deadline": "2s",
	"leader-election-retry-period": "200ms", "identity-gc-interval": "0", "cilium-endpoint-gc-interval": "0", "nodes-gc-interval": "0",
	"cluster-pool-ipv4-cidr": "10.20.0.0/16",
}

func (r *rig) config(values ...string) Config {
	r.t.Helper()
	c, err := NewConfig(r.values(values...))
	require.NoError(r.t, err)
	return c
}

func (r *rig) values(values ...string) map[string]string {
	all := maps.Clone(quick)
	all["k8s-kubeconfig-path"] = r.cluster.Kubeconfig
	for _, v := range values {
		key, value, _ := strings.Cut(v, "=")
		all[key] = value
	}
	return all
}

// operator starts one; values are "key=value" of its configuration.
func (r *rig) operator(values ...string) *Operator {
	r.t.Helper()
	return r.named("", values...)
}

func (r *rig) named(identity string, values ...string) *Operator {
	r.t.Helper()
	op := r.make(identity, values...)
	require.NoError(r.t, op.Start(func(err error) { r.t.Errorf("operator ended: %v", err) }))
	r.t.Cleanup(func() { r.stop(op) })
	return op
}

func (r *rig) make(identity string, values ...string) *Operator {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("replica", identity)
	op, err := New(Options{Config: r.config(values...), Identity: identity, Log: log})
	require.NoError(r.t, err)
	return op
}

func (r *rig) stop(op *Operator) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(r.t, op.Stop(ctx))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// eventually waits until check returns nothing.
func (r *rig) eventually(check func() string) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("still after %s: %s", patience, why)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// never watches for a while that check keeps returning nothing.
func (r *rig) never(d time.Duration, check func() string) {
	r.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		if why := check(); why != "" {
			r.t.Fatal(why)
		}
	}
}

func (r *rig) get(gvr schema.GroupVersionResource, ns, name string) *unstructured.Unstructured {
	r.t.Helper()
	o, err := r.api.dynamic.Resource(gvr).Namespace(ns).Get(r.ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(r.t, err)
	return o
}

func (r *rig) list(gvr schema.GroupVersionResource) []unstructured.Unstructured {
	r.t.Helper()
	l, err := r.api.dynamic.Resource(gvr).List(r.ctx, metav1.ListOptions{})
	require.NoError(r.t, err)
	return l.Items
}

func (r *rig) create(gvr schema.GroupVersionResource, ns string, object map[string]any) *unstructured.Unstructured {
	r.t.Helper()
	o, err := r.api.dynamic.Resource(gvr).Namespace(ns).Create(r.ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{FieldManager: "test"})
	require.NoError(r.t, err)
	return o
}

func (r *rig) patch(gvr schema.GroupVersionResource, ns, name, patch string, sub ...string) {
	r.t.Helper()
	_, err := r.api.dynamic.Resource(gvr).Namespace(ns).Patch(r.ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "test"}, sub...)
	require.NoError(r.t, err)
}

func (r *rig) delete(gvr schema.GroupVersionResource, ns, name string) {
	r.t.Helper()
	zero := int64(0)
	require.NoError(r.t, r.api.dynamic.Resource(gvr).Namespace(ns).Delete(r.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}))
}

func (r *rig) node(name string, taints ...corev1.Taint) *corev1.Node {
	r.t.Helper()
	n, err := r.api.core.Nodes().Create(r.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: taints}}, metav1.CreateOptions{})
	require.NoError(r.t, err)
	return n
}

// pod makes a pod that is bound to a node.
func (r *rig) pod(ns, name, node string, labels map[string]string) *corev1.Pod {
	r.t.Helper()
	p, err := r.api.core.Pods(ns).Create(r.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	require.NoError(r.t, err)
	return p
}

func (r *rig) ready(ns, name string, ready bool) {
	r.t.Helper()
	status := "False"
	if ready {
		status = "True"
	}
	r.patch(corePods, ns, name, fmt.Sprintf(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":%q}]}}`, status), "status")
}

func (r *rig) podCIDRs(node string) []string {
	r.t.Helper()
	n := r.get(ciliumNodes, "", node)
	if n == nil {
		return nil
	}
	list, _, err := unstructured.NestedStringSlice(n.Object, "spec", "ipam", "podCIDRs")
	require.NoError(r.t, err)
	return list
}
