package cluster_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/weirnet/weir/adapters/internal/kubetest"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Shared(m)) }

// rig is a namespace of a shared API server, with an agents' DaemonSet, two agents, and a configuration.
func rig(t *testing.T, namespace string) (*cluster.Cluster, kubernetes.Interface) {
	t.Helper()
	k := kubetest.Start(t)
	k.Namespace(t, namespace)
	client, err := kubernetes.NewForConfig(k.Config)
	require.NoError(t, err)
	c, err := cluster.Open(cluster.Options{Kubeconfig: k.Kubeconfig, Namespace: namespace})
	require.NoError(t, err)
	return c, client
}

func create(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	ctx, o := t.Context(), metav1.CreateOptions{}
	labels := map[string]string{"k8s-app": "cilium", "app.kubernetes.io/part-of": "cilium"}
	spec := corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "cilium-agent", Image: "weir:test"}}}
	_, err := client.AppsV1().DaemonSets(namespace).Create(ctx, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "cilium"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}}}, o)
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cilium-config"}, Data: map[string]string{"debug": "false", "ipam": "kubernetes"}}, o)
	require.NoError(t, err)
	for _, node := range []string{"n2", "n1"} {
		s := *spec.DeepCopy()
		s.NodeName = node
		p, err := client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "cilium-" + node, Labels: labels}, Spec: s}, o)
		require.NoError(t, err)
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		if node == "n2" {
			p.Status.Conditions = nil
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "cilium-agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "kernel\ntoo old"}}}}
		}
		_, err = client.CoreV1().Pods(namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
}

func TestAgentsAndOverview(t *testing.T) {
	c, client := rig(t, "overview")
	o, err := c.Overview(t.Context())
	require.NoError(t, err)
	require.Len(t, o.Components, 2, "what has to be there is told even if it is not")
	assert.False(t, o.Components[0].Found)

	create(t, client, "overview")
	agents, err := c.Agents(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []cluster.Pod{{Name: "cilium-n1", Node: "n1", Phase: "Running", Ready: true}, {Name: "cilium-n2", Node: "n2", Phase: "Running"}}, agents)
	o, err = c.Overview(t.Context())
	require.NoError(t, err)
	assert.Empty(t, o.Errors)
	require.True(t, o.Components[0].Found)
	assert.Equal(t, "container cilium-agent: CrashLoopBackOff (last exit status 1: kernel too old)", o.Components[0].Pods[1].Problem)
	assert.Equal(t, []string{"weir:test"}, o.Components[0].Pods[0].Images)
	assert.Zero(t, o.ClusterPods, "pods of the host's network are not served")
}

func TestConfiguration(t *testing.T) {
	c, client := rig(t, "configuration")
	_, err := c.Config(t.Context())
	require.ErrorIs(t, err, cluster.ErrNotFound)
	value := "true"
	require.ErrorIs(t, c.SetConfig(t.Context(), map[string]*string{"debug": &value}), cluster.ErrNotFound)

	create(t, client, "configuration")
	require.NoError(t, c.SetConfig(t.Context(), map[string]*string{"debug": &value, "ipam": nil}))
	got, err := c.Config(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"debug": "true"}, got)

	require.NoError(t, c.RestartAgents(t.Context(), time.Unix(0, 0).UTC()))
	d, err := client.AppsV1().DaemonSets("configuration").Get(t.Context(), "cilium", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "1970-01-01T00:00:00Z", d.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"])
}

func TestWhatIsDetected(t *testing.T) {
	c, client := rig(t, "detected")
	v, err := c.Version()
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(v, "v1."), v)
	host, port, err := c.Server()
	require.NoError(t, err)
	assert.NotEmpty(t, host)
	assert.NotEmpty(t, port)
	proxy, err := c.KubeProxy(t.Context())
	require.NoError(t, err)
	assert.False(t, proxy)

	for _, n := range []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: corev1.NodeSpec{PodCIDR: "10.0.0.0/24", PodCIDRs: []string{"10.0.0.0/24"}}}} {
		_, err := client.CoreV1().Nodes().Create(t.Context(), &n, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	nodes, err := c.Nodes(t.Context())
	require.NoError(t, err)
	assert.Equal(t, cluster.Nodes{Count: 2, WithoutPodCIDR: 1}, nodes)

	_, err = client.CoreV1().ConfigMaps("kube-public").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cluster-info"},
		Data: map[string]string{"kubeconfig": "apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster: {server: 'https://[fd00::1]:6443'}\n"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	host, port, err = c.AdvertisedServer(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"fd00::1", "6443"}, []string{host, port})

	gone, err := c.DeleteNamespace(t.Context(), "no-such")
	require.NoError(t, err)
	assert.False(t, gone)
}

func TestDumpKeepsSecrets(t *testing.T) {
	c, client := rig(t, "dump")
	_, err := client.CoreV1().Secrets("dump").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "keys",
		Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "hunter2"}}, StringData: map[string]string{"password": "hunter2"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	files := map[string]string{}
	require.NoError(t, c.Dump(t.Context(), func(name string, content []byte) error {
		files[name] = string(content)
		return nil
	}, func(err error) { t.Error(err) }))
	for _, name := range []string{"nodes", "pods", "namespaces", "services", "secrets", "configmaps", "daemonsets", "customresourcedefinitions", "networkpolicies"} {
		assert.Contains(t, files, name)
	}
	assert.NotContains(t, files, "gateways", "the cluster has no such kind")
	assert.Contains(t, files["secrets"], "password: XXXXXX")
	for name, content := range files {
		assert.NotContains(t, content, "hunter2", name)
		assert.NotContains(t, content, "aHVudGVyMg", name)
	}
}

func TestUnreachable(t *testing.T) {
	path := t.TempDir() + "/config"
	require.NoError(t, os.WriteFile(path, []byte("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: kind-My_Cluster.example, user: u}}]\nclusters: [{name: kind-My_Cluster.example, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n"), 0o600))
	c, err := cluster.Open(cluster.Options{Kubeconfig: path})
	require.NoError(t, err)
	assert.Equal(t, "kind-my-cluster-example", c.Name())
	assert.Equal(t, "kube-system", c.Namespace())
	_, err = c.Overview(context.Background())
	assert.True(t, cluster.IsUnreachable(err))
	_, err = cluster.Open(cluster.Options{Kubeconfig: path + "x"})
	assert.ErrorContains(t, err, "kubeconfig:")

	env := func(values map[string]string) func(string) string { return func(k string) string { return values[k] } }
	assert.True(t, cluster.Configured(env(map[string]string{"KUBECONFIG": "/no/such:" + path})))
	assert.True(t, cluster.Configured(env(map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"})))
	assert.False(t, cluster.Configured(env(nil)))
}
