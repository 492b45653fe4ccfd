package crds

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/internal/kubetest"
)

var quiet = slog.New(slog.DiscardHandler)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the machine may be busy
	t.Cleanup(cancel)
	return ctx
}

func clientOf(t *testing.T, config *rest.Config) dynamic.Interface {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = 1000, 1000
	client, err := dynamic.NewForConfig(c)
	require.NoError(t, err)
	return client
}

// replace puts another definition in the place of ours until the test ends.
func replace(t *testing.T, client dynamic.Interface, d *apiextensions.CustomResourceDefinition) {
	ctx := testContext(t)
	remove(t, client, d.Name)
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	require.NoError(t, err)
	delete(m, "status")
	u := &unstructured.Unstructured{Object: m}
	_, err = client.Resource(resource).Create(ctx, u, metav1.CreateOptions{FieldManager: "cilium-operator-generic"})
	require.NoError(t, err)
	require.NoError(t, established(ctx, client.Resource(resource), d.Name))
	t.Cleanup(func() {
		remove(t, client, d.Name)
		for _, ours := range Definitions() {
			if ours.Name == d.Name {
				assert.NoError(t, install(testContext(t), client.Resource(resource), ours, quiet))
				assert.NoError(t, established(testContext(t), client.Resource(resource), d.Name))
			}
		}
	})
}

// remove deletes a definition with all its objects.
func remove(t *testing.T, client dynamic.Interface, name string) {
	ctx := testContext(t)
	err := client.Resource(resource).Delete(ctx, name, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		d, err := get(ctx, client.Resource(resource), name)
		return err == nil && d == nil
	}, time.Minute, 20*time.Millisecond)
}

// older is a definition as an older release may have left it: only the first version, stored, and no
// more fields than the spec's.
func older(name, plural, scope, version string) *apiextensions.CustomResourceDefinition {
	yes := true
	return &apiextensions.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: plural + ".cilium.io", Labels: map[string]string{VersionLabel: "1.26.5"}},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: "cilium.io", Scope: apiextensions.ResourceScope(scope),
			Names: apiextensions.CustomResourceDefinitionNames{Plural: plural, Singular: strings.ToLower(name), Kind: name, ListKind: name + "List"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{Name: version, Served: true, Storage: true,
				Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{Type: "object",
					Properties: map[string]apiextensions.JSONSchemaProps{"spec": {Type: "object", XPreserveUnknownFields: &yes}}}}}},
		},
	}
}

func TestInstallOverOlder(t *testing.T) {
	ctx, c, client := installed(t)
	of := func(plural, version string) dynamic.ResourceInterface {
		return client.Resource(schema.GroupVersionResource{Group: "cilium.io", Version: version, Resource: plural})
	}
	object := func(version, kind, name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cilium.io/" + version, "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec}}
	}

	// The stored version becomes an older one.
	replace(t, client, older("CiliumLoadBalancerIPPool", "ciliumloadbalancerippools", "Cluster", "v2alpha1"))
	pool := map[string]any{"cidrs": []any{map[string]any{"cidr": "192.0.2.0/24"}}}
	_, err := of("ciliumloadbalancerippools", "v2alpha1").Create(ctx, object("v2alpha1", "CiliumLoadBalancerIPPool", "p", pool), metav1.CreateOptions{})
	require.NoError(t, err)

	// A version that is unknown here, under which objects are stored.
	group := older("CiliumCIDRGroup", "ciliumcidrgroups", "Cluster", "v2beta7")
	delete(group.Labels, VersionLabel)
	replace(t, client, group)
	prefixes := map[string]any{"externalCIDRs": []any{"192.0.2.0/24"}}
	_, err = of("ciliumcidrgroups", "v2beta7").Create(ctx, object("v2beta7", "CiliumCIDRGroup", "g", prefixes), metav1.CreateOptions{})
	require.NoError(t, err)

	// Policies that the older definition took and ours refuses.
	replace(t, client, older("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", "Cluster", "v2"))
	wrong := map[string]any{"endpointSelector": map[string]any{}, "ingress": []any{map[string]any{"fromCIDR": []any{"10.0.0.0/8"}, "fromEntities": []any{"world"}}}}
	_, err = of("ciliumclusterwidenetworkpolicies", "v2").Create(ctx, object("v2", "CiliumClusterwideNetworkPolicy", "w", wrong), metav1.CreateOptions{})
	require.NoError(t, err)

	require.NoError(t, Install(ctx, c.Config, quiet))
	require.NoError(t, Install(ctx, c.Config, quiet), "and again, with what the first left")

	for _, v := range []string{"v2", "v2alpha1"} {
		got, err := of("ciliumloadbalancerippools", v).Get(ctx, "p", metav1.GetOptions{})
		require.NoError(t, err, v)
		contains(t, pool, got.Object["spec"])
	}
	for _, v := range []string{"v2", "v2alpha1", "v2beta7"} {
		got, err := of("ciliumcidrgroups", v).Get(ctx, "g", metav1.GetOptions{})
		require.NoError(t, err, v)
		assert.Equal(t, prefixes, got.Object["spec"])
	}
	d, err := get(ctx, client.Resource(resource), "ciliumcidrgroups.cilium.io")
	require.NoError(t, err)
	assert.Equal(t, SchemaVersion, d.Labels[VersionLabel])
	assert.Contains(t, d.Status.StoredVersions, "v2beta7")

	// What is stored stays, and may change where nothing is wrong with it.
	got, err := of("ciliumclusterwidenetworkpolicies", "v2").Get(ctx, "w", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, wrong, got.Object["spec"])
	got.SetLabels(map[string]string{"a": "b"})
	_, err = of("ciliumclusterwidenetworkpolicies", "v2").Update(ctx, got, metav1.UpdateOptions{})
	assert.NoError(t, err)
	_, err = of("ciliumclusterwidenetworkpolicies", "v2").Create(ctx, object("v2", "CiliumClusterwideNetworkPolicy", "x", wrong), metav1.CreateOptions{})
	assert.ErrorContains(t, err, "a rule names one kind of peers")
}

func TestInstallLeavesNewerAlone(t *testing.T) {
	ctx, c, client := installed(t)
	d := older("CiliumPodIPPool", "ciliumpodippools", "Cluster", "v3")
	d.Labels[VersionLabel] = "1.400.0"
	replace(t, client, d)
	before, err := get(ctx, client.Resource(resource), d.Name)
	require.NoError(t, err)
	require.NoError(t, Install(ctx, c.Config, quiet))
	after, err := get(ctx, client.Resource(resource), d.Name)
	require.NoError(t, err)
	assert.Equal(t, before.ResourceVersion, after.ResourceVersion)
}

// TestInstallNeedsNoMoreRights installs as somebody who may do this and nothing else.
func TestInstallNeedsNoMoreRights(t *testing.T) {
	ctx, c, client := installed(t)
	remove(t, client, "ciliumpodippools.cilium.io") // so that one is made
	create := func(plural string, o map[string]any) {
		o["apiVersion"] = "rbac.authorization.k8s.io/v1"
		r := client.Resource(schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: plural})
		_, err := r.Create(ctx, &unstructured.Unstructured{Object: o}, strict)
		require.NoError(t, err)
	}
	create("clusterroles", map[string]any{"kind": "ClusterRole", "metadata": map[string]any{"name": "definitions"}, "rules": []any{
		map[string]any{"apiGroups": []any{"apiextensions.k8s.io"}, "resources": []any{"customresourcedefinitions"}, "verbs": []any{"get", "create", "patch"}}}})
	create("clusterrolebindings", map[string]any{"kind": "ClusterRoleBinding", "metadata": map[string]any{"name": "definitions"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "definitions"},
		"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "installer"}}})
	require.Eventually(t, func() bool { return Install(ctx, c.As(t, "installer"), quiet) == nil }, 20*time.Second, 100*time.Millisecond)

	err := Install(ctx, c.As(t, "nobody"), quiet)
	assert.ErrorContains(t, err, "install definition ciliumbgpadvertisements.cilium.io: ")
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
}

// TestInstallSaysWhatIsMissing has the short name of a kind of ours in other hands.
func TestInstallSaysWhatIsMissing(t *testing.T) {
	ctx, c, client := installed(t)
	remove(t, client, "ciliumidentities.cilium.io")
	other := older("Other", "others", "Cluster", "v1")
	other.Spec.Names.ShortNames = []string{"ciliumid"}
	replace(t, client, other)
	for _, d := range Definitions() {
		if d.Name == "ciliumidentities.cilium.io" {
			require.NoError(t, install(ctx, client.Resource(resource), d, quiet))
		}
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := established(short, client.Resource(resource), "ciliumidentities.cilium.io")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "NamesAccepted is False")
	assert.ErrorContains(t, err, "ciliumid")

	remove(t, client, other.Name)
	assert.NoError(t, Install(ctx, c.Config, quiet))
}

func TestNewer(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"1.40.1", "1.40.0", true}, {"1.40.0", "1.40.0", false}, {"1.9.9", "1.40.0", false}, {"2", "1.40.0", true},
		{"1.40.0.1", "1.40.0", true}, {"1.40", "1.40.0", false}, {"v1.41.0-rc1", "1.40.0", true}, {"1.40.0+x", "1.40.0", false},
		{"", "1.40.0", false}, {"latest", "1.40.0", false}, {"1.-1", "1.40.0", false},
	} {
		assert.Equal(t, tc.want, newer(tc.a, tc.b), "%q newer than %q", tc.a, tc.b)
	}
}

func TestInstallTwice(t *testing.T) {
	ctx, c := testContext(t), kubetest.Start(t)
	require.NoError(t, Install(ctx, c.Config, quiet))
	client := clientOf(t, c.Config).Resource(resource)
	before := map[string]string{}
	for _, name := range Names() {
		d, err := get(ctx, client, name)
		require.NoError(t, err)
		require.NotNil(t, d, name)
		ok, why := state(d)
		assert.True(t, ok, "%s: %s", name, why)
		assert.Equal(t, SchemaVersion, d.Labels[VersionLabel], name)
		for _, cond := range d.Status.Conditions {
			assert.NotEqual(t, "NonStructuralSchema", string(cond.Type), "%s: %s", name, cond.Message)
		}
		before[name] = d.ResourceVersion
	}
	require.NoError(t, Install(ctx, c.Config, quiet))
	for _, d := range Definitions() {
		found, err := get(ctx, client, d.Name)
		require.NoError(t, err)
		assert.Equal(t, before[d.Name], found.ResourceVersion, "installing %s again changes nothing", d.Name)
		assert.True(t, unchanged(found, d), "%s is known as ours", d.Name)
	}
}

// TestInstallRepairs has definitions of the same version that somebody changed.
func TestInstallRepairs(t *testing.T) {
	ctx, c, _ := installed(t)
	client := clientOf(t, c.Config).Resource(resource)
	const name = "ciliumcidrgroups.cilium.io"
	for what, patch := range map[string]string{
		"columns":       `[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]`,
		"a version":     `[{"op":"replace","path":"/spec/versions/1/served","value":false}]`,
		"another build": `[{"op":"replace","path":"/metadata/annotations/weir.io~1schema-digest","value":"x"},{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/more","value":{"type":"object"}}]`,
	} {
		_, err := client.Patch(ctx, name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err, what)
		require.NoError(t, Install(ctx, c.Config, quiet))
		d, err := get(ctx, client, name)
		require.NoError(t, err)
		for _, ours := range Definitions() {
			if ours.Name == name {
				assert.True(t, unchanged(d, ours), what)
			}
		}
		assert.NotContains(t, d.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties, "more", what)
	}
}
