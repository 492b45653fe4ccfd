package helm_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/internal/kubetest"
	"github.com/weirnet/weir/deploy"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Shared(m)) }

// An API server takes every object of the chart, with its own validation, and gives it back.
func TestChartOnAnAPIServer(t *testing.T) {
	cluster := kubetest.Start(t)
	client, err := kubernetes.NewForConfig(cluster.Config)
	require.NoError(t, err)
	ctx := t.Context()
	chart, err := helm.Load(deploy.Chart(), "v1.2.3")
	require.NoError(t, err)
	for _, name := range []string{"guide-everything", "extra", "scheduling"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("../../test/chart/testdata/values/" + name + ".yaml")
			require.NoError(t, err)
			values := map[string]any{}
			require.NoError(t, yaml.Unmarshal(text, &values))
			open := func() *helm.Client {
				c, err := helm.Open(helm.Target{Kubeconfig: cluster.Kubeconfig, Namespace: "kube-system", Release: "cilium"}, nil)
				require.NoError(t, err)
				return c
			}
			_, err = open().Install(ctx, chart, helm.Change{Values: values})
			require.NoError(t, err)
			ds, err := client.AppsV1().DaemonSets("kube-system").Get(ctx, "cilium", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, "cilium", ds.Spec.Selector.MatchLabels["k8s-app"])
			first := ds.Generation

			r, err := open().Upgrade(ctx, chart, helm.ResetThenReuse, 10, helm.Change{})
			require.NoError(t, err)
			assert.Equal(t, 2, r.Revision)
			ds, err = client.AppsV1().DaemonSets("kube-system").Get(ctx, "cilium", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, first, ds.Generation, "an upgrade to the same restarts nothing")

			_, err = open().Upgrade(ctx, chart, helm.Keep, 10, helm.Change{Values: map[string]any{"debug": map[string]any{"enabled": true}}})
			require.NoError(t, err)
			config, err := client.CoreV1().ConfigMaps("kube-system").Get(ctx, "cilium-config", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, "true", config.Data["debug"])

			require.NoError(t, open().Uninstall(ctx, 0))
			list, err := client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=cilium"})
			require.NoError(t, err)
			assert.Empty(t, list.Items, "nothing stays behind")
		})
	}
}
