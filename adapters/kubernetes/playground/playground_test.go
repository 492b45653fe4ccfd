package playground

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weirnet/weir/adapters/internal/kubetest"
	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/ports"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Shared(m)) }

func open(t *testing.T) *Playground {
	t.Helper()
	c := kubetest.Start(t)
	p, err := Open(Options{Kubeconfig: c.Kubeconfig, AgentNamespace: "kube-system", Tolerations: []string{"dedicated"}})
	require.NoError(t, err)
	return p
}

// world is what the plans of this test are made for.
func world(namespace string) connectivity.World {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	pod := func(name, role string) connectivity.Pod {
		return connectivity.Pod{Name: cluster.Name{Namespace: namespace, Name: name}, Role: role, Node: "a", IPs: addrs}
	}
	return connectivity.World{
		Namespace: namespace, Outside: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443")},
		Pods: []connectivity.Pod{pod("c", connectivity.RoleClient), pod("d", connectivity.RoleClient2), pod("e", connectivity.RoleEchoSameNode)},
	}
}

// What the test deploys and every policy is what an API server takes, twice; and goes away again.
func TestApplyAndDelete(t *testing.T) {
	p := open(t)
	ctx := t.Context()
	require.NoError(t, crds.Install(ctx, p.config, slog.New(slog.DiscardHandler)))
	const ns = "apply-and-delete"
	l := connectivity.Layout{Namespace: ns, Image: "weir:test", Node: "a", OtherNode: "b", PodAnnotations: map[string]string{"x": "y"}}
	for range 2 {
		require.NoError(t, p.Apply(ctx, l.Objects()...))
	}
	services, err := p.Services(ctx, ns)
	require.NoError(t, err)
	require.Len(t, services, 5)
	byName := map[string]connectivity.Service{}
	for _, s := range services {
		byName[s.Name.Name] = s
	}
	same := byName[connectivity.RoleEchoSameNode]
	require.Len(t, same.ClusterIPs, 2, "dual stack")
	require.Len(t, same.Ports, 2)
	require.NotZero(t, same.Ports[0].NodePort)
	require.Len(t, byName[connectivity.ExternalIPService].ExternalIPs, 2)
	require.Len(t, byName[connectivity.LoadBalancerService].Ingress, 2, "the address that the test gives it")
	require.Empty(t, byName[connectivity.HeadlessService].ClusterIPs)

	steps, err := connectivity.Plan(world(ns), connectivity.Filter{})
	require.NoError(t, err)
	var all []connectivity.Document
	for _, s := range steps {
		all = append(all, s.Policies...)
	}
	require.NotEmpty(t, all)
	for range 2 {
		require.NoError(t, p.Apply(ctx, all...))
	}
	require.NotZero(t, countPolicies(t, p, ns))

	// Others' policies are not the test's.
	foreign := connectivity.Document{Name: "foreign", Content: []byte("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n" +
		"metadata: {name: foreign, namespace: " + ns + "}\nspec: {podSelector: {}}\n")}
	require.NoError(t, p.Apply(ctx, foreign))
	require.NoError(t, p.Delete(ctx, steps[2].Policies...))
	require.NoError(t, p.Delete(ctx, steps[2].Policies...), "absent is no error")
	require.NoError(t, p.DeletePolicies(ctx, ns))
	require.Equal(t, 1, countPolicies(t, p, ns))
	require.NoError(t, p.DeletePolicies(ctx, "no-such-namespace"))

	err = p.Apply(ctx, connectivity.Document{Name: "odd", Content: []byte("apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: default}\n")})
	require.ErrorContains(t, err, "Secret")
	err = p.Apply(ctx, connectivity.Document{Name: "bad", Content: []byte("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n" +
		"metadata: {name: bad, namespace: " + ns + "}\nspec: {podSelector: {}, policyTypes: [Sideways]}\n")})
	require.ErrorContains(t, err, "NetworkPolicy bad")
}

func countPolicies(t *testing.T, p *Playground, namespace string) (n int) {
	t.Helper()
	for _, r := range policyResources[false] {
		list, err := p.objects.Resource(r).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		n += len(list.Items)
	}
	return n
}

// Nobody finalizes namespaces here, so the test does: Delete returns when it is gone, and says so when
// it stays.
func TestDeleteNamespace(t *testing.T) {
	p := open(t)
	ctx := t.Context()
	const ns = "delete-namespace"
	require.NoError(t, p.DeleteNamespace(ctx, ns), "absent is no error")
	_, err := p.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, p.DeleteNamespace(short, ns), "is still there")

	done := make(chan error, 1)
	go func() { done <- p.DeleteNamespace(ctx, ns) }()
	o, err := p.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
	require.NoError(t, err)
	o.Spec.Finalizers = nil
	_, err = p.client.CoreV1().Namespaces().Finalize(ctx, o, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, <-done)
	_, err = p.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
}

// node makes a node; ready unless told otherwise.
func node(t *testing.T, p *Playground, name string, change func(*corev1.Node)) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: "172.18.0.2"}, {Type: corev1.NodeInternalIP, Address: "fc00::2"},
		{Type: corev1.NodeExternalIP, Address: "203.0.113.2"},
	}
	change(n)
	status, taints := n.Status, n.Spec.Taints
	made, err := p.client.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.client.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}) })
	made.Spec.Taints = taints // without the one that every new node is given
	made, err = p.client.CoreV1().Nodes().Update(t.Context(), made, metav1.UpdateOptions{})
	require.NoError(t, err)
	made.Status = status
	_, err = p.client.CoreV1().Nodes().UpdateStatus(t.Context(), made, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// agentOn makes the pod of a node's agent.
func agentOn(t *testing.T, p *Playground, nodeName string) {
	t.Helper()
	pods := p.client.CoreV1().Pods("kube-system")
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "cilium-" + nodeName, Labels: map[string]string{"k8s-app": "cilium"}},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: agentContainer, Image: "weir:1"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	pod.Status.Phase = corev1.PodRunning
	_, err = pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func TestNodes(t *testing.T) {
	p := open(t)
	ctx := t.Context()
	node(t, p, "fit", func(*corev1.Node) {})
	node(t, p, "cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	node(t, p, "tainted", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "keep-out", Effect: corev1.TaintEffectNoSchedule}}
	})
	node(t, p, "tolerated", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}, {Key: "soft", Effect: corev1.TaintEffectPreferNoSchedule}}
	})
	node(t, p, "broken", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse })
	node(t, p, "alone", func(*corev1.Node) {})
	for _, n := range []string{"fit", "cordoned", "tainted", "tolerated", "broken"} {
		agentOn(t, p, n)
	}
	list, err := p.Nodes(ctx)
	require.NoError(t, err)
	unfit := map[string]string{}
	for _, n := range list {
		unfit[n.Name] = n.Unfit
	}
	require.Equal(t, map[string]string{
		"fit": "", "tolerated": "", "cordoned": "cordoned", "tainted": "has the taint keep-out", "broken": "not ready", "alone": "no agent runs there",
	}, unfit)
	require.Equal(t, "alone", list[0].Name, "sorted")
	require.Equal(t, []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fc00::2")}, list[0].Addresses, "InternalIPs only")

	p.o.NodeSelector = map[string]string{"disk": "ssd"}
	list, err = p.Nodes(ctx)
	require.NoError(t, err)
	require.Equal(t, "lacks the label disk=ssd", list[3].Unfit, list[3].Name)

	_, err = p.Policies(ctx, "alone")
	require.ErrorIs(t, err, ports.ErrNotFound)
	_, err = p.Policies(ctx, "fit") // its kubelet does not exist
	require.ErrorContains(t, err, "weir policy get")
}

func TestImageAndAPIServers(t *testing.T) {
	p := open(t)
	ctx := t.Context()
	_, err := p.Image(ctx)
	require.ErrorIs(t, err, ports.ErrNotFound)
	labels := map[string]string{"k8s-app": "cilium"}
	_, err = p.client.AppsV1().DaemonSets("kube-system").Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: agentDaemonSet},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "side", Image: "no"}, {Name: agentContainer, Image: "weir:1"}}},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	image, err := p.Image(ctx)
	require.NoError(t, err)
	require.Equal(t, "weir:1", image)

	require.Eventually(t, func() bool { // the API server writes its own endpoints a little later
		list, err := p.APIServers(ctx)
		return err == nil && len(list) == 1 && list[0].Addr() == netip.MustParseAddr("192.0.2.1")
	}, 30*time.Second, 100*time.Millisecond)
}

func TestPodsSayWhatIsWrong(t *testing.T) {
	p := open(t)
	ctx := t.Context()
	const ns = "pods-say"
	_, err := p.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
	require.NoError(t, err)
	add := func(name, role string, s corev1.PodStatus) {
		l := map[string]string{"name": role}
		if role != "" {
			l[connectivity.OwnerLabel] = "true"
		}
		pod, err := p.client.CoreV1().Pods(ns).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l},
			Spec:       corev1.PodSpec{NodeName: "a", Containers: []corev1.Container{{Name: "weir", Image: "weir:1"}}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		pod.Status = s
		_, err = p.client.CoreV1().Pods(ns).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	condition := func(t corev1.PodConditionType, s corev1.ConditionStatus, message string) []corev1.PodCondition {
		return []corev1.PodCondition{{Type: t, Status: s, Message: message}}
	}
	waiting := []corev1.ContainerStatus{{Name: "weir", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}}}}
	add("ready", connectivity.RoleClient, corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: condition(corev1.PodReady, corev1.ConditionTrue, ""), PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
	})
	add("homeless", connectivity.RoleClient2, corev1.PodStatus{Phase: corev1.PodPending, Conditions: condition(corev1.PodScheduled, corev1.ConditionFalse, "0/1 nodes")})
	add("imageless", connectivity.RoleEchoSameNode, corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: waiting})
	add("stranger", "", corev1.PodStatus{Phase: corev1.PodRunning})
	list, err := p.Pods(ctx, ns)
	require.NoError(t, err)
	require.Len(t, list, 3)
	assert.Equal(t, "not scheduled: 0/1 nodes", list[0].Problem)
	assert.Equal(t, "ErrImagePull no such image", list[1].Problem)
	assert.True(t, list[2].Ready)
	assert.Equal(t, connectivity.RoleClient, list[2].Role)
	assert.Len(t, list[2].IPs, 2)
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	_, err := Open(Options{Kubeconfig: "/nonexistent/kubeconfig"})
	require.ErrorContains(t, err, "/nonexistent/kubeconfig")
}
