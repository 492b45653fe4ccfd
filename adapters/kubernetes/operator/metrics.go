package operator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/util/workqueue"

	"github.com/weirnet/weir/adapters/kubernetes"
	"github.com/weirnet/weir/core/ipam"
)

// prefix is that of Cilium's operator, so that dashboards find what they look for.
const prefix = "cilium_operator"

// metrics are what the operator counts. Any goroutine may use them. What only a leader knows is absent, or zero,
// where a replica stands by.
type metrics struct {
	registry *prometheus.Registry

	identityEntries, identityRuns, identityLatency *prometheus.GaugeVec
	endpointObjects                                *prometheus.CounterVec
	unmanaged                                      prometheus.Gauge
	unmanagedRestarts                              prometheus.Counter
	ipamNodes, ipamCIDRs                           *prometheus.GaugeVec
	endpointsPerSlice                              prometheus.Histogram
	sliceSyncs                                     *prometheus.CounterVec
	calls                                          *prometheus.CounterVec
	queues                                         queueMetrics
}

func newMetrics(version string, e *election) *metrics {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: prefix, Name: name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: prefix, Name: name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: prefix, Name: name, Help: help, Buckets: buckets}, labels)
		r.MustRegister(v)
		return v
	}
	m := &metrics{
		registry:          r,
		identityEntries:   gauge("identity_gc_entries", "Identities at the end of the last search: alive, retired (resting until their numbers are free), or deleted by it.", "status"),
		identityRuns:      gauge("identity_gc_runs", "Searches for identities that nothing uses, by outcome.", "outcome"),
		identityLatency:   gauge("identity_gc_latency", "Seconds that the last search for identities took, by outcome.", "outcome"),
		endpointObjects:   counter("endpoint_gc_objects", "CiliumEndpoints without a pod or node, by outcome of their removal.", "outcome"),
		unmanaged:         gauge("unmanaged_pods", "Pods of the watched labels that the network does not serve, because they are older than it.").WithLabelValues(),
		unmanagedRestarts: counter("unmanaged_pods_restarted_total", "Pods that were deleted to be made anew with a network.").WithLabelValues(),
		ipamNodes:         gauge("ipam_nodes", "Nodes: total, and in-deficit (without the pod CIDRs that they should have).", "category"),
		ipamCIDRs:         gauge("ipam_pod_cidrs", "Pod CIDRs of the cluster's pool: total, and allocated to nodes.", "family", "state"),
		endpointsPerSlice: histogram("number_of_ceps_per_ces", "Endpoints in a CiliumEndpointSlice when it is written.", []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}).WithLabelValues().(prometheus.Histogram),
		sliceSyncs:        counter("ces_sync_total", "Writes of CiliumEndpointSlices, by outcome.", "outcome"),
		calls:             counter("k8s_client_api_calls_total", "Requests to the API server.", "host", "method", "return_code"),
	}
	seconds := prometheus.ExponentialBuckets(1e-4, 10, 7)
	m.queues = queueMetrics{
		depth:      gauge("k8s_workqueue_depth", "Names that wait.", "name"),
		unfinished: gauge("k8s_workqueue_unfinished_work_seconds", "Seconds since what is being worked on began.", "name"),
		longest:    gauge("k8s_workqueue_longest_running_processor_seconds", "Seconds since the oldest piece of work began.", "name"),
		adds:       counter("k8s_workqueue_adds_total", "Names that came.", "name"),
		retries:    counter("k8s_workqueue_retries_total", "Names that came again after a failure.", "name"),
		waited:     histogram("k8s_workqueue_queue_duration_seconds", "Seconds that a name waits.", seconds, "name"),
		worked:     histogram("k8s_workqueue_work_duration_seconds", "Seconds that a name is worked on.", seconds, "name"),
	}
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewBuildInfoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: prefix}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "leader_election_master_status", Help: "1 if this replica holds the lease, else 0.", ConstLabels: prometheus.Labels{"name": leaseName},
		}, func() float64 {
			if _, leading := e.state(); leading {
				return 1
			}
			return 0
		}),
	)
	gauge("version", "1, with the version as a label.", "version", "arch").WithLabelValues(version, runtime.GOARCH).Set(1)
	return m
}

// standBy forgets what only a leader knows.
func (m *metrics) standBy() {
	m.identityEntries.Reset()
	m.ipamNodes.Reset()
	m.ipamCIDRs.Reset()
	m.unmanaged.Set(0)
}

func outcome(err error) string {
	if err != nil {
		return "fail"
	}
	return "success"
}

// identities notes a search for identities.
func (m *metrics) identities(c kubernetes.Collected, took time.Duration, err error) {
	m.identityRuns.WithLabelValues(outcome(err)).Inc()
	m.identityLatency.WithLabelValues(outcome(err)).Set(took.Seconds())
	if err == nil {
		m.identityEntries.WithLabelValues("alive").Set(float64(c.Alive))
		m.identityEntries.WithLabelValues("retired").Set(float64(c.Retired))
		m.identityEntries.WithLabelValues("deleted").Set(float64(c.Deleted))
	}
}

// nodes notes how many there are, and how many of them wait for pod CIDRs.
func (m *metrics) nodes(total, waiting int, use []ipam.FamilyUse) {
	m.ipamNodes.WithLabelValues("total").Set(float64(total))
	m.ipamNodes.WithLabelValues("in-deficit").Set(float64(waiting))
	for _, u := range use {
		m.ipamCIDRs.WithLabelValues(u.Family, "total").Set(u.Total)
		m.ipamCIDRs.WithLabelValues(u.Family, "allocated").Set(float64(u.Taken))
	}
}

// counted counts requests to the API server.
func (m *metrics) counted(next http.RoundTripper) http.RoundTripper { return counter{next, m.calls} }

type counter struct {
	next  http.RoundTripper
	calls *prometheus.CounterVec
}

// RoundTrip sends a request.
func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.next.RoundTrip(r)
	code := "<error>"
	if err == nil {
		code = strconv.Itoa(answer.StatusCode)
	}
	c.calls.WithLabelValues(r.URL.Host, r.Method, code).Inc()
	return answer, err
}

// queueMetrics are client-go's of a queue. It implements workqueue.MetricsProvider.
type queueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	waited, worked             *prometheus.HistogramVec
}

func (q queueMetrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return q.depth.WithLabelValues(name)
}
func (q queueMetrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return q.adds.WithLabelValues(name)
}
func (q queueMetrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return q.waited.WithLabelValues(name)
}
func (q queueMetrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return q.worked.WithLabelValues(name)
}
func (q queueMetrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return q.unfinished.WithLabelValues(name)
}
func (q queueMetrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return q.longest.WithLabelValues(name)
}
func (q queueMetrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return q.retries.WithLabelValues(name)
}

// metricsServer serves /metrics.
type metricsServer struct {
	server   *http.Server
	listener net.Listener
}

// serve begins to serve at an address.
func (m *metrics) serve(address string) (*metricsServer, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("operator: serve metrics (operator-prometheus-serve-addr; enable-metrics=false for none): %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	s := &metricsServer{&http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}, l}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

func (s *metricsServer) stop() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.server.Shutdown(ctx)
}
