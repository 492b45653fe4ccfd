package kubernetes

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// The cluster of BenchmarkLoad.
const (
	loadNodes     = 2000
	loadEndpoints = 20000
	loadServices  = 2000 // each with one EndpointSlice of ten endpoints
)

// fill makes a cluster of that size.
func (a *api) fill(b *testing.B) {
	type object struct{ path, doc string }
	work := make(chan object, 100)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for o := range work {
				if data, code, err := a.try("POST", o.path, "application/json", []byte(o.doc)); err != nil || code >= 300 && code != 409 {
					b.Errorf("%s: %d %s %v", o.path, code, data, err)
				}
			}
		})
	}
	add := func(kind, namespace, format string, args ...any) {
		work <- object{pathOf(kind, namespace, ""), fmt.Sprintf(format, args...)}
	}
	for i := range 200 {
		add(manifest.KindCiliumIdentity, "", `{"apiVersion":"cilium.io/v2","kind":"CiliumIdentity","metadata":{"name":"%d"},
			"security-labels":{"k8s:app":"a%d","k8s:io.kubernetes.pod.namespace":"shop"}}`, 1000+i, i)
	}
	for i := range loadNodes {
		add(manifest.KindNode, "", `{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-%d","labels":{"kubernetes.io/hostname":"node-%d",
			"kubernetes.io/os":"linux","kubernetes.io/arch":"amd64","topology.kubernetes.io/zone":"zone-%d","node.kubernetes.io/instance-type":"large"}},
			"spec":{"podCIDRs":["10.%d.%d.0/24"]}}`, i, i, i%3, 128+i/256, i%256)
		add(manifest.KindCiliumNode, "", `{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"name":"node-%d"},"spec":{"addresses":[
			{"type":"InternalIP","ip":"192.168.%d.%d"},{"type":"CiliumInternalIP","ip":"10.%d.%d.1"}],"ipam":{"podCIDRs":["10.%d.%d.0/24"]}}}`,
			i, i/256, i%256, 128+i/256, i%256, 128+i/256, i%256)
	}
	for i := range loadEndpoints {
		node := i % loadNodes
		add(manifest.KindCiliumEndpoint, "shop", `{"apiVersion":"cilium.io/v2","kind":"CiliumEndpoint","metadata":{"name":"deployment-%d-5d8f7c9b4-x%d",
			"annotations":{"weir/node":"node-%d"},"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"deployment-%d-5d8f7c9b4-x%d","uid":"7b0b3a6e-0000-4000-8000-%012d"}]},
			"status":{"id":%d,"state":"ready","identity":{"id":%d,"labels":["k8s:app=a%d","k8s:io.kubernetes.pod.namespace=shop"]},
			"networking":{"addressing":[{"ipv4":"10.%d.%d.%d"}],"node":"192.168.%d.%d"},
			"external-identifiers":{"container-id":"%064d","k8s-namespace":"shop","k8s-pod-name":"deployment-%d-5d8f7c9b4-x%d"},
			"named-ports":[{"name":"http","port":8080,"protocol":"TCP"}]}}`,
			i%200, i, node, i%200, i, i, 1+i/loadNodes, 1000+i%200, i%200, 128+node/256, node%256, 2+i/loadNodes, node/256, node%256, i, i%200, i)
	}
	for i := range loadServices {
		add(manifest.KindService, "shop", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"service-%d"},
			"spec":{"selector":{"app":"a%d"},"ports":[{"port":80,"targetPort":"http"}]}}`, i, i%200)
		endpoints := ""
		for j := range 10 {
			n := (i*10 + j) % loadNodes
			if j > 0 {
				endpoints += ","
			}
			endpoints += fmt.Sprintf(`{"addresses":["10.%d.%d.%d"],"nodeName":"node-%d","conditions":{"ready":true}}`, 128+n/256, n%256, 2+j, n)
		}
		add(manifest.KindEndpointSlice, "shop", `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"service-%d-x",
			"labels":{"kubernetes.io/service-name":"service-%d"}},"addressType":"IPv4","ports":[{"port":8080,"protocol":"TCP"}],"endpoints":[%s]}`, i, i, endpoints)
	}
	close(work)
	wg.Wait()
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// BenchmarkLoad reads a large cluster: 2,000 nodes, 20,000 CiliumEndpoints, 2,000 Services with their slices.
// It reports how long until Synced, how much of the heap the store keeps, and how much memory the process had
// from the system for the heap. The objects stay: run no tests beside it (-run=^$).
func BenchmarkLoad(b *testing.B) {
	a := server(b)
	a.fill(b)
	for b.Loop() {
		before := heap()
		s := a.open(Options{Node: "node-1"})
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error)
		known := make(chan struct{})
		events := 0
		began := time.Now()
		go func() {
			done <- s.Watch(ctx, func(e cluster.Event) {
				events++
				if _, ok := e.(cluster.Synced); ok {
					close(known)
				}
			})
		}()
		<-known
		took := time.Since(began)
		after := heap()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		cancel()
		require.NoError(b, <-done)
		require.Greater(b, events, loadNodes+loadEndpoints+2*loadServices)
		b.ReportMetric(took.Seconds(), "s/synced")
		b.ReportMetric(after-before, "MiB-kept")
		b.ReportMetric(float64(m.HeapSys-m.HeapReleased)/(1<<20), "MiB-heap")
		s.api.http.CloseIdleConnections()
		runtime.KeepAlive(s)
	}
}

// BenchmarkHeartbeat takes in a Node of which only what doesn't concern the network has changed.
func BenchmarkHeartbeat(b *testing.B) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "7", Labels: map[string]string{
			"kubernetes.io/hostname": "n1", "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "a", "node.kubernetes.io/instance-type": "large"}},
		Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.0.0/24"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: "192.168.0.1"}},
			Images: make([]corev1.ContainerImage, 50)},
	}
	r := &reflector{store: &Store{}, kind: kinds(Options{})[0], seed: maphash.MakeSeed()}
	n, err := typedNotice(watch.Modified, node)
	require.NoError(b, err)
	_, before, news := r.convert(n, seen{})
	require.True(b, news)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, news := r.convert(n, before); news {
			b.Fatal("nothing has changed")
		}
	}
}
