package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/internal/kubetest"
	"github.com/weirnet/weir/adapters/kubernetes/crds"
	"github.com/weirnet/weir/core/manifest"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Shared(m)) }

var defined sync.Once

// server is the package's API server with the definitions in it, and without anything that a test left.
func server(t testing.TB) *api {
	t.Helper()
	c := kubetest.Start(t)
	defined.Do(func() {
		require.NoError(t, crds.Install(context.Background(), c.Config, slog.New(slog.NewTextHandler(io.Discard, nil))))
	})
	a := newAPI(t, c)
	a.empty()
	return a
}

// api is an administrator's hands.
type api struct {
	t       testing.TB
	cluster *kubetest.Cluster
	http    *http.Client
}

func newAPI(t testing.TB, c *kubetest.Cluster) *api {
	client, err := rest.HTTPClientFor(c.Config)
	require.NoError(t, err)
	return &api{t: t, cluster: c, http: client}
}

// open makes a store of the cluster's administrator.
func (a *api) open(o Options) *Store {
	a.t.Helper()
	if o.Config == nil {
		o.Config = a.cluster.Config
	}
	if o.QPS == 0 {
		o.QPS, o.Burst = 2000, 2000
	}
	s, err := Open(o)
	require.NoError(a.t, err)
	return s
}

// do makes a request; codes other than those of success and those listed fail the test.
func (a *api) do(method, path, content string, body []byte, alsoFine ...int) []byte {
	a.t.Helper()
	data, code, err := a.try(method, path, content, body)
	require.NoError(a.t, err)
	for _, fine := range alsoFine {
		if code == fine {
			return data
		}
	}
	require.Less(a.t, code, 300, "%s %s: %s", method, path, data)
	return data
}

func (a *api) try(method, path, content string, body []byte) ([]byte, int, error) {
	req, err := http.NewRequest(method, a.cluster.Config.Host+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", content)
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return data, resp.StatusCode, err
}

// paths of the kinds, with %s for the namespace where there is one.
var paths = map[string]string{
	manifest.KindNode:                           "/api/v1/nodes",
	manifest.KindNamespace:                      "/api/v1/namespaces",
	manifest.KindPod:                            "/api/v1/namespaces/%s/pods",
	manifest.KindService:                        "/api/v1/namespaces/%s/services",
	manifest.KindEndpointSlice:                  "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices",
	manifest.KindNetworkPolicy:                  "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
	manifest.KindCiliumNetworkPolicy:            "/apis/cilium.io/v2/namespaces/%s/ciliumnetworkpolicies",
	manifest.KindCiliumClusterwideNetworkPolicy: "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
	manifest.KindCiliumCIDRGroup:                "/apis/cilium.io/v2/ciliumcidrgroups",
	manifest.KindCiliumIdentity:                 "/apis/cilium.io/v2/ciliumidentities",
	manifest.KindCiliumNode:                     "/apis/cilium.io/v2/ciliumnodes",
	manifest.KindCiliumEndpoint:                 "/apis/cilium.io/v2/namespaces/%s/ciliumendpoints",
	manifest.KindCiliumEndpointSlice:            "/apis/cilium.io/v2alpha1/ciliumendpointslices",
	"Event":                                     "/apis/events.k8s.io/v1/namespaces/%s/events",
}

func pathOf(kind, namespace, name string) string {
	p := paths[kind]
	if strings.Contains(p, "%s") {
		p = fmt.Sprintf(p, namespace)
	}
	if name != "" {
		p += "/" + name
	}
	return p
}

// empty removes what tests made in the namespace shop and beside namespaces, and leaves a bare shop.
func (a *api) empty() {
	a.t.Helper()
	now := []byte(`{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`)
	a.apply(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`)
	for kind := range paths {
		if kind == manifest.KindNamespace {
			continue
		}
		if kind == manifest.KindService { // which has no deletion of all
			for _, name := range a.names(kind, "shop") {
				a.do("DELETE", pathOf(kind, "shop", name), "application/json", now)
			}
			continue
		}
		a.do("DELETE", pathOf(kind, "shop", ""), "application/json", now)
	}
}

func (a *api) names(kind, namespace string) []string {
	a.t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
		}
	}
	require.NoError(a.t, json.Unmarshal(a.do("GET", pathOf(kind, namespace, ""), "", nil), &list))
	var out []string
	for _, i := range list.Items {
		out = append(out, i.Metadata.Name)
	}
	return out
}

// given is an object as a test gives it.
type given map[string]any

func (d given) text(path ...string) string {
	var at any = map[string]any(d)
	for _, p := range path {
		m, _ := at.(map[string]any)
		at = m[p]
	}
	s, _ := at.(string)
	return s
}

func documents(t testing.TB, text string) []given {
	var out []given
	for _, part := range manifest.SplitYAML([]byte(text)) {
		doc, err := yaml.YAMLToJSON(part)
		require.NoError(t, err)
		items, err := manifest.Items(doc)
		require.NoError(t, err)
		for _, item := range items {
			var d given
			require.NoError(t, json.Unmarshal(item, &d))
			out = append(out, d)
		}
	}
	return out
}

// apply makes objects be as given; status goes where the server wants it.
func (a *api) apply(text string) {
	a.t.Helper()
	for _, d := range documents(a.t, text) {
		kind, name, namespace := d.text("kind"), d.text("metadata", "name"), d.text("metadata", "namespace")
		status, separate := d["status"], kind == manifest.KindPod || kind == manifest.KindNode
		if separate {
			delete(d, "status")
		}
		if kind == manifest.KindPod {
			complete(d)
		}
		put := func(path string) {
			a.t.Helper()
			body, err := json.Marshal(d)
			require.NoError(a.t, err)
			a.do("PATCH", path+"?fieldManager=test&force=true", string(types.ApplyYAMLPatchType), body)
		}
		put(pathOf(kind, namespace, name))
		if status != nil && separate {
			d = given{"apiVersion": d["apiVersion"], "kind": kind, "metadata": d["metadata"], "status": status}
			put(pathOf(kind, namespace, name) + "/status")
		}
	}
}

// complete gives a pod's containers what the server insists on.
func complete(d given) {
	containers, _ := d["spec"].(map[string]any)["containers"].([]any)
	for i, c := range containers {
		m := c.(map[string]any)
		m["name"], m["image"] = fmt.Sprintf("c%d", i), "none"
		ports, _ := m["ports"].([]any)
		for _, p := range ports {
			p.(map[string]any)["protocol"] = "TCP"
		}
	}
}

func (a *api) remove(kind, namespace, name string) {
	a.t.Helper()
	a.do("DELETE", pathOf(kind, namespace, name), "application/json",
		[]byte(`{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`), http.StatusNotFound)
}

// get reads an object; nil if it isn't there.
func (a *api) get(kind, namespace, name string) given {
	a.t.Helper()
	data, code, err := a.try("GET", pathOf(kind, namespace, name), "", nil)
	require.NoError(a.t, err)
	if code == http.StatusNotFound {
		return nil
	}
	require.Equal(a.t, http.StatusOK, code, "%s", data)
	var d given
	require.NoError(a.t, json.Unmarshal(data, &d))
	return d
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			require.FailNow(t, "did not happen: "+what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
