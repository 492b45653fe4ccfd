package chart_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// decode reads every document with the type that Kubernetes has for it and fails on a field that the
// type does not know, or that is there twice.
func decode(t *testing.T, manifest string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, policyv1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var out []runtime.Object
	for r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest))); ; {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		if strings.TrimSpace(string(document)) == "" {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if runtime.IsNotRegisteredError(err) {
			object, err = foreign(document)
		}
		require.NoError(t, err, "%s", document)
		out = append(out, object)
	}
}

// foreign reads an object of a kind that others define. Its fields are theirs to check.
func foreign(document []byte) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	if err := sigsyaml.UnmarshalStrict(document, &u.Object); err != nil {
		return nil, err
	}
	if u.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"}) {
		return nil, fmt.Errorf("%s is no kind that the chart makes", u.GroupVersionKind())
	}
	return u, nil
}

// consistent checks that objects agree with each other: selectors with labels, mounts with volumes,
// bindings with roles, pods with accounts and configuration.
func consistent(t *testing.T, objects []runtime.Object) {
	t.Helper()
	names := map[string]bool{}
	for _, o := range objects {
		m, ok := o.(metav1.Object)
		require.True(t, ok)
		name := kind(o) + " " + m.GetNamespace() + "/" + m.GetName()
		assert.False(t, names[name], "%s is there twice", name)
		names[name] = true
		assert.Equal(t, "cilium", m.GetLabels()["app.kubernetes.io/part-of"], name)
	}
	roles := false
	for name := range names {
		roles = roles || strings.HasPrefix(name, "ClusterRole ")
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			assert.True(t, o.Spec.Template.Spec.HostNetwork)
			pod(t, o.Spec.Selector, o.Spec.Template, names)
		case *appsv1.Deployment:
			pod(t, o.Spec.Selector, o.Spec.Template, names)
		case *corev1.Service:
			served(t, o, objects)
		case *rbacv1.ClusterRoleBinding:
			assert.True(t, names["ClusterRole /"+o.RoleRef.Name], "%s binds %s", o.Name, o.RoleRef.Name)
		case *rbacv1.RoleBinding:
			assert.True(t, names["Role "+o.Namespace+"/"+o.RoleRef.Name], "%s binds %s", o.Name, o.RoleRef.Name)
		case *rbacv1.ClusterRole:
			leastPrivilege(t, o.Name, o.Rules)
		case *rbacv1.Role:
			leastPrivilege(t, o.Name, o.Rules)
		}
	}
}

// served checks that a Service has pods, and that these have its ports.
func served(t *testing.T, s *corev1.Service, objects []runtime.Object) {
	t.Helper()
	for _, o := range objects {
		d, ok := o.(*appsv1.Deployment)
		if !ok || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
			continue
		}
		ports := map[string]bool{}
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, p := range c.Ports {
				ports[p.Name] = true
			}
		}
		for _, p := range s.Spec.Ports {
			assert.True(t, ports[p.TargetPort.String()], "Service %s: no container has port %s", s.Name, p.TargetPort.String())
		}
		return
	}
	t.Errorf("Service %s selects no pods", s.Name)
}

func kind(o runtime.Object) string { return o.GetObjectKind().GroupVersionKind().Kind }

func pod(t *testing.T, selector *metav1.LabelSelector, template corev1.PodTemplateSpec, names map[string]bool) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	assert.True(t, s.Matches(labels.Set(template.Labels)))
	volumes := map[string]bool{}
	for _, v := range template.Spec.Volumes {
		assert.False(t, volumes[v.Name], "volume %s is there twice", v.Name)
		volumes[v.Name] = true
	}
	mounted, containers := map[string]bool{}, map[string]bool{}
	for _, c := range append(append([]corev1.Container(nil), template.Spec.InitContainers...), template.Spec.Containers...) {
		assert.False(t, containers[c.Name], "container %s is there twice", c.Name)
		containers[c.Name] = true
		assert.NotEmpty(t, c.Image, c.Name)
		paths := map[string]bool{}
		for _, m := range c.VolumeMounts {
			assert.True(t, volumes[m.Name], "%s mounts %s", c.Name, m.Name)
			assert.False(t, paths[m.MountPath], "%s mounts %s twice", c.Name, m.MountPath)
			paths[m.MountPath], mounted[m.Name] = true, true
		}
	}
	for name := range volumes {
		// The host's /proc is for init containers, which may all be off.
		assert.True(t, mounted[name] || name == "hostproc", "volume %s is not mounted", name)
	}
	assert.Contains(t, containers, template.Annotations["kubectl.kubernetes.io/default-container"])
	assert.NotEmpty(t, template.Spec.ServiceAccountName)
}

// leastPrivilege knows what no part of weir needs.
func leastPrivilege(t *testing.T, name string, rules []rbacv1.PolicyRule) {
	t.Helper()
	for _, r := range rules {
		for _, list := range [][]string{r.APIGroups, r.Resources, r.Verbs} {
			assert.NotContains(t, list, "*", name)
		}
		assert.NotContains(t, r.Resources, "secrets", name)
		for _, v := range r.Verbs {
			assert.NotContains(t, []string{"escalate", "bind", "impersonate", "deletecollection"}, v, name)
		}
		assert.NotContains(t, r.Resources, "pods/exec", name)
	}
}
