package crds

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/internal/kubetest"
	v2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
	"github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2alpha1"
	"github.com/weirnet/weir/core/manifest"
)

var once sync.Once

// installed starts the API server with the definitions in it.
func installed(t *testing.T) (context.Context, *kubetest.Cluster, dynamic.Interface) {
	ctx, c := testContext(t), kubetest.Start(t)
	once.Do(func() { require.NoError(t, Install(ctx, c.Config, quiet)) })
	client := clientOf(t, c.Config)
	for _, name := range []string{"production", "shop"} {
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
		_, err := client.Resource(coreResource("namespaces")).Create(ctx, ns, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
	}
	return ctx, c, client
}

// documents reads the objects of a file.
func documents(t *testing.T, file string) []*unstructured.Unstructured {
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var out []*unstructured.Unstructured
	for _, doc := range manifest.SplitYAML(data) {
		u := new(unstructured.Unstructured)
		require.NoError(t, yaml.UnmarshalStrict(doc, &u.Object), "%s:\n%s", file, doc)
		out = append(out, u)
	}
	return out
}

// of returns the client for an object's kind and namespace.
func of(t *testing.T, client dynamic.Interface, u *unstructured.Unstructured) dynamic.ResourceInterface {
	for _, d := range Definitions() {
		if d.Spec.Names.Kind == u.GetKind() {
			r := client.Resource(u.GroupVersionKind().GroupVersion().WithResource(d.Spec.Names.Plural))
			if u.GetNamespace() == "" {
				return r
			}
			return r.Namespace(u.GetNamespace())
		}
	}
	require.FailNow(t, "no definition", u.GetKind())
	return nil
}

// strict makes the API server refuse what it would otherwise drop, as kubectl asks it to.
var strict = metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}

// TestForms creates an object of every kind in every form that is written today or was.
func TestForms(t *testing.T) {
	ctx, _, client := installed(t)
	forms, err := filepath.Glob("testdata/*.yaml")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range forms {
		for _, u := range documents(t, file) {
			name := u.GetAPIVersion() + " " + u.GetKind() + " " + u.GetName()
			t.Run(name, func(t *testing.T) {
				seen[u.GetAPIVersion()+" "+u.GetKind()] = true
				got, err := of(t, client, u).Create(ctx, u, strict)
				require.NoError(t, err)
				t.Cleanup(func() {
					assert.NoError(t, of(t, client, u).Delete(context.Background(), u.GetName(), metav1.DeleteOptions{}))
				})
				// As it is stored, under the version that it is stored in.
				contains(t, u.Object, got.Object)
				contains(t, u.Object, typedRound(t, u).Object)
				stored := u.DeepCopy()
				stored.SetAPIVersion("cilium.io/" + storageVersion(u.GetKind()))
				again, err := of(t, client, stored).Get(ctx, u.GetName(), metav1.GetOptions{})
				require.NoError(t, err)
				contains(t, stored.Object, again.Object)
			})
		}
	}
	for _, d := range Definitions() {
		for _, v := range d.Spec.Versions {
			assert.True(t, seen["cilium.io/"+v.Name+" "+d.Spec.Names.Kind], "testdata has a %s of %s", d.Spec.Names.Kind, v.Name)
		}
	}
}

func storageVersion(kind string) string {
	for _, d := range Definitions() {
		for _, v := range d.Spec.Versions {
			if d.Spec.Names.Kind == kind && v.Storage {
				return v.Name
			}
		}
	}
	return ""
}

// contains says that all of want is in got, which may hold more.
func contains(t *testing.T, want, got any, path ...string) {
	t.Helper()
	at := strings.Join(path, ".")
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !assert.True(t, ok || len(want) == 0, "%s is %v, want an object", at, got) {
			return
		}
		for k, v := range want {
			if e, ok := v.(map[string]any); ok && len(e) == 0 && m[k] == nil && isOptionalStruct(path, k) {
				continue
			}
			if assert.Contains(t, m, k, "%s", at) {
				contains(t, v, m[k], append(path, k)...)
			}
		}
	case []any:
		l, ok := got.([]any)
		if !assert.True(t, ok && len(l) == len(want), "%s is %v, want %v", at, got, want) {
			return
		}
		for i := range want {
			contains(t, want[i], l[i], append(path, "[]")...)
		}
	default:
		if n, ok := want.(float64); ok {
			if i, ok := got.(int64); ok {
				assert.Equal(t, n, float64(i), at)
				return
			}
		}
		assert.Equal(t, want, got, at)
	}
}

// isOptionalStruct names what the Go types leave out if it is empty, because that means the same.
func isOptionalStruct(path []string, key string) bool { return len(path) == 0 && key == "spec" }

// typedRound reads an object into its Go type and writes it again.
func typedRound(t *testing.T, u *unstructured.Unstructured) *unstructured.Unstructured {
	s := scheme.Scheme
	require.NoError(t, v2.AddToScheme(s))
	require.NoError(t, v2alpha1.AddToScheme(s))
	o, err := s.New(u.GroupVersionKind())
	require.NoError(t, err)
	data, err := json.Marshal(u.Object)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, o))
	data, err = json.Marshal(o)
	require.NoError(t, err)
	out := new(unstructured.Unstructured)
	require.NoError(t, json.Unmarshal(data, &out.Object))
	return out
}
