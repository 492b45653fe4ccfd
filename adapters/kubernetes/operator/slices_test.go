package operator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// inSlices lists all that slices say; an endpoint that two have stands there twice.
func (r *rig) inSlices() string {
	r.t.Helper()
	var all []string
	for _, s := range r.list(ciliumEndpointSlices) {
		body, err := s.MarshalJSON()
		require.NoError(r.t, err)
		o, findings := manifest.Decode("", body)
		require.Empty(r.t, findings)
		for _, e := range o.Upserts() {
			e := e.(cluster.EndpointUpsert).Endpoint
			all = append(all, fmt.Sprintf("%s=%s ", e.Name, e.IPs[0]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

func (r *rig) published() string {
	r.t.Helper()
	var all []string
	for _, e := range r.list(ciliumEndpoints) {
		pairs, _, _ := unstructured.NestedSlice(e.Object, "status", "networking", "addressing")
		all = append(all, fmt.Sprintf("%s/%s=%s ", e.GetNamespace(), e.GetName(), pairs[0].(map[string]any)["ipv4"]))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// Slices say what CiliumEndpoints say, over changes, restarts and strangers' writes.
func TestEndpointSlices(t *testing.T) {
	r := newRig(t)
	values := []string{"enable-cilium-endpoint-slice=true", "ces-max-ciliumendpoints-per-ces=5"}
	for i := range 12 {
		r.create(ciliumEndpoints, "default", endpoint(fmt.Sprintf("e%02d", i), fmt.Sprintf("10.0.0.%d", i+1), "n1", nil))
	}
	r.create(ciliumEndpoints, "kube-system", endpoint("other", "10.0.1.1", "n1", nil))
	op := r.operator(values...)
	same := func() string { return want(r.inSlices(), r.published()) }
	r.eventually(same)
	require.Len(t, r.list(ciliumEndpointSlices), 4, "three of default's twelve, one of kube-system")
	for _, s := range r.list(ciliumEndpointSlices) {
		list, _, _ := unstructured.NestedSlice(s.Object, "endpoints")
		require.LessOrEqual(t, len(list), 5)
		entry := list[0].(map[string]any)
		require.EqualValues(t, 4000, entry["id"])
	}
	r.patch(ciliumEndpoints, "default", "e03", `{"status":{"networking":{"addressing":[{"ipv4":"10.0.0.99"}]}}}`)
	r.delete(ciliumEndpoints, "default", "e04")
	r.delete(ciliumEndpoints, "kube-system", "other")
	r.eventually(same)
	r.eventually(func() string { return want(len(r.list(ciliumEndpointSlices)), 3) })

	// A slice that somebody empties or removes comes back; one that nobody planned goes.
	victims := r.list(ciliumEndpointSlices)
	r.patch(ciliumEndpointSlices, "", victims[0].GetName(), `{"endpoints":[]}`)
	r.delete(ciliumEndpointSlices, "", victims[1].GetName())
	r.create(ciliumEndpointSlices, "", map[string]any{"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumEndpointSlice",
		"metadata": map[string]any{"name": "stray"}, "namespace": "default", "endpoints": []any{map[string]any{"name": "e01"}}})
	r.eventually(func() string { return want(r.get(ciliumEndpointSlices, "", "stray") == nil, true) })
	r.eventually(same)

	// Whoever takes over finds each endpoint where it is, and writes nothing.
	r.stop(op)
	before := r.versions()
	op = r.operator(values...)
	r.create(ciliumEndpoints, "kube-system", endpoint("new", "10.0.1.2", "n1", nil))
	r.eventually(same)
	after := r.versions()
	for name, v := range before {
		require.Equal(t, v, after[name], name)
	}
	r.stop(op)

	// An endpoint that two slices have is taken out of one.
	double := r.list(ciliumEndpointSlices)
	i := slices.IndexFunc(double, func(s unstructured.Unstructured) bool {
		list, _, _ := unstructured.NestedSlice(s.Object, "endpoints")
		return s.Object["namespace"] == "default" && len(list) < 5
	})
	name := double[i].GetName()
	var list []any
	for _, s := range double {
		more, _, _ := unstructured.NestedSlice(s.Object, "endpoints")
		if s.Object["namespace"] == "default" && (s.GetName() == name || len(list) < 2) {
			list = append(list, more[:min(len(more), 2)]...)
		}
	}
	double[i].Object["endpoints"] = list
	body, err := double[i].MarshalJSON()
	require.NoError(t, err)
	r.patch(ciliumEndpointSlices, "", name, string(body))
	r.operator(values...)
	r.eventually(same)
}

func (r *rig) versions() map[string]string {
	out := map[string]string{}
	for _, s := range r.list(ciliumEndpointSlices) {
		out[s.GetName()] = s.GetResourceVersion()
	}
	return out
}

// Pods that come together are few writes.
func TestEndpointSlicesAreWrittenInBatches(t *testing.T) {
	r := newRig(t)
	op := r.operator("enable-cilium-endpoint-slice=true")
	r.eventually(r.leads(op))
	for i := range 60 {
		r.create(ciliumEndpoints, "default", endpoint(fmt.Sprintf("e%02d", i), fmt.Sprintf("10.0.0.%d", i+1), "n1", nil))
	}
	r.eventually(func() string { return want(r.inSlices(), r.published()) })
	list := r.list(ciliumEndpointSlices)
	require.Len(t, list, 1)
	require.Less(t, list[0].GetGeneration(), int64(15), "writes of one slice for 60 pods")
}

func TestSlicePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 4).Draw(t, "size")
		p := newSlicePlan(size)
		alive := map[cluster.Name]string{}
		for range rapid.IntRange(1, 120).Draw(t, "calls") {
			e := cluster.Name{Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "ns"), Name: fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "name"))}
			switch rapid.SampledFrom([]string{"put", "put", "remove", "adopt"}).Draw(t, "call") {
			case "put":
				slice := p.put(e)
				if was, ok := alive[e]; ok {
					require.Equal(t, was, slice, "an endpoint stays where it is")
				}
				alive[e] = slice
			case "remove":
				slice, had := p.remove(e)
				was, ok := alive[e]
				require.Equal(t, ok, had)
				require.Equal(t, was, slice)
				delete(alive, e)
			case "adopt":
				slice := e.Namespace + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "slice")
				was, placed := alive[e]
				ok := p.adopt(slice, e)
				require.False(t, placed && ok != (was == slice))
				if ok {
					alive[e] = slice
				}
			}
			total := 0
			for slice, members := range p.members {
				require.NotEmpty(t, members)
				require.LessOrEqual(t, len(members), size)
				for _, m := range p.list(slice) {
					require.Equal(t, slice, alive[m])
					require.Contains(t, p.spaces[m.Namespace], slice)
				}
				total += len(members)
			}
			require.Equal(t, len(alive), total)
			require.Equal(t, len(alive), len(p.of))
		}
	})
}

// New endpoints fill slices up before they open others.
func TestSlicePlanFillsUp(t *testing.T) {
	p := newSlicePlan(10)
	var all []cluster.Name
	for i := range 100 {
		e := cluster.Name{Namespace: "a", Name: fmt.Sprint(i)}
		p.put(e)
		all = append(all, e)
	}
	require.Len(t, p.members, 10)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, e := range all[:50] {
		p.remove(e)
	}
	before := len(p.members)
	for i := range 50 - (10-before)*10 {
		p.put(cluster.Name{Namespace: "a", Name: fmt.Sprint("new", i)})
	}
	require.Equal(t, before, len(p.members))
}
