package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/ports"
)

// fakeCluster is a cluster of two nodes whose agents' pods run this program in this process.
type fakeCluster struct {
	mu         sync.Mutex
	namespace  string
	name       string
	host, port string // in the kubeconfig
	advertised string // host of the API server, "" if the cluster does not tell
	service    string
	proxy      bool
	nodes      cluster.Nodes
	overview   cluster.Overview
	pods       []cluster.Pod
	agents     map[string]ports.Inspector // by pod
	config     map[string]string
	configs    []cluster.NodeConfig
	execs      []string // "pod: command"
	restarts   int
	deleted    []string
	fault      error // of everything
}

func newFakeCluster() *fakeCluster {
	pod := func(name, node, image string) cluster.ComponentPod {
		return cluster.ComponentPod{Name: name, Node: node, Phase: "Running", Images: []string{image}}
	}
	image := "docker.io/weirnet/weir:v0.0.0-test"
	return &fakeCluster{
		namespace: "kube-system", name: "kind", host: "127.0.0.1", port: "34567", advertised: "172.18.0.2", service: "10.96.0.1",
		nodes: cluster.Nodes{Count: 2},
		overview: cluster.Overview{ClusterPods: 5, Managed: 5, Components: []cluster.Component{
			{Kind: "DaemonSet", Name: "cilium", Found: true, Desired: 2, Ready: 2, Available: 2, Pods: []cluster.ComponentPod{pod("cilium-a", "n1", image), pod("cilium-b", "n2", image)}},
			{Kind: "Deployment", Name: "cilium-operator", Found: true, Desired: 1, Ready: 1, Available: 1, Pods: []cluster.ComponentPod{pod("cilium-operator-x", "n1", image)}},
		}},
		pods:   []cluster.Pod{{Name: "cilium-a", Node: "n1", Phase: "Running", Ready: true}, {Name: "cilium-b", Node: "n2", Phase: "Running", Ready: true}},
		agents: map[string]ports.Inspector{"cilium-a": fixture(), "cilium-b": fixture()},
		config: map[string]string{"routing-mode": "tunnel", "tunnel-protocol": "vxlan", "ipam": "kubernetes", "kube-proxy-replacement": "true", "debug": "false"},
	}
}

func (f *fakeCluster) Name() string      { return f.name }
func (f *fakeCluster) Namespace() string { return f.namespace }
func (f *fakeCluster) Server() (string, string, error) {
	return f.host, f.port, f.fault
}
func (f *fakeCluster) Version() (string, error) { return "v1.30.0", f.fault }
func (f *fakeCluster) AdvertisedServer(context.Context) (string, string, error) {
	if f.advertised == "" {
		return "", "", cluster.ErrNotFound
	}
	return f.advertised, "6443", f.fault
}
func (f *fakeCluster) ServiceAddress(context.Context) (string, error)     { return f.service, f.fault }
func (f *fakeCluster) KubeProxy(context.Context) (bool, error)            { return f.proxy, f.fault }
func (f *fakeCluster) Nodes(context.Context) (cluster.Nodes, error)       { return f.nodes, f.fault }
func (f *fakeCluster) Agents(context.Context) ([]cluster.Pod, error)      { return f.pods, f.fault }
func (f *fakeCluster) Overview(context.Context) (cluster.Overview, error) { return f.overview, f.fault }
func (f *fakeCluster) RestartAgents(context.Context, time.Time) error {
	f.restarts++
	return f.fault
}
func (f *fakeCluster) Config(context.Context) (map[string]string, error) {
	if f.config == nil {
		return nil, fmt.Errorf("ConfigMap cilium-config in namespace kube-system: %w", cluster.ErrNotFound)
	}
	return f.config, f.fault
}

func (f *fakeCluster) NodeConfigs(context.Context, string) ([]cluster.NodeConfig, error) {
	return f.configs, f.fault
}

func (f *fakeCluster) SetConfig(_ context.Context, keys map[string]*string) error {
	for k, v := range keys {
		if v == nil {
			delete(f.config, k)
			continue
		}
		f.config[k] = *v
	}
	return f.fault
}

func (f *fakeCluster) DeleteNamespace(_ context.Context, name string) (bool, error) {
	f.deleted = append(f.deleted, name)
	return true, f.fault
}

// Exec runs the command line that the pod would.
func (f *fakeCluster) Exec(ctx context.Context, pod string, command []string, stdout, stderr io.Writer) error {
	f.mu.Lock()
	f.execs = append(f.execs, pod+": "+strings.Join(command, " "))
	in := f.agents[pod]
	f.mu.Unlock()
	if in == nil {
		return errors.New("container not running")
	}
	g := newGlobals(strings.NewReader(""), stdout, stderr)
	g.program = programName(command[0])
	g.now, g.getenv = func() time.Time { return at(3600) }, func(string) string { return "" }
	g.connect = func(string) ports.Inspector { return in }
	if code := run(ctx, g, command[1:]); code != 0 {
		return &cluster.ExitError{Pod: pod, Code: code}
	}
	return nil
}

func (f *fakeCluster) Dump(_ context.Context, put func(string, []byte) error, failed func(error)) error {
	failed(errors.New("list gateways: forbidden"))
	return put("nodes", []byte("items: []\n"))
}

func (f *fakeCluster) Logs(_ context.Context, _ []string, _ cluster.LogOptions, put func(string, string, bool, []byte) error, _ func(error)) error {
	return errors.Join(put("cilium-a", "cilium-agent", false, []byte("now\n")), put("cilium-a", "cilium-agent", true, []byte("before\n")))
}

// fakeHelm keeps one release, rendered by the real chart.
type fakeHelm struct {
	current *helm.Release
	values  map[string]any
	calls   []string
}

func (f *fakeHelm) Current() (helm.Release, error) {
	if f.current == nil {
		return helm.Release{}, fmt.Errorf("get release: %w", helm.ErrNotFound)
	}
	return *f.current, nil
}

func (f *fakeHelm) Install(_ context.Context, chart *helm.Chart, o helm.Change) (helm.Release, error) {
	out, err := chart.Render("cilium", "kube-system", "", o.Values)
	if err != nil {
		return helm.Release{}, err
	}
	r := helm.Release{Name: "cilium", Namespace: "kube-system", Revision: 1, AppVersion: chart.AppVersion(), ChartVersion: chart.Version(), Manifest: out.Manifest, Notes: out.Notes}
	if !o.DryRun {
		f.current, f.values = &r, o.Values
		f.calls = append(f.calls, "install")
	}
	return r, nil
}

func (f *fakeHelm) Upgrade(ctx context.Context, chart *helm.Chart, reuse helm.Reuse, history int, o helm.Change) (helm.Release, error) {
	if f.current == nil {
		return helm.Release{}, fmt.Errorf("upgrade: %w", helm.ErrNotFound)
	}
	if !o.DryRun {
		f.calls = append(f.calls, fmt.Sprintf("upgrade %d %d", reuse, history))
	}
	return f.Install(ctx, chart, o)
}

func (f *fakeHelm) Uninstall(_ context.Context, wait time.Duration) error {
	f.calls = append(f.calls, fmt.Sprintf("uninstall %s", wait))
	f.current = nil
	return nil
}

func (f *fakeHelm) Values(bool) (map[string]any, error) { return f.values, nil }

// onCluster runs a command line under a name, with a cluster and without an agent's socket.
func onCluster(t *testing.T, f *fakeCluster, h *fakeHelm, program string, args ...string) result {
	t.Helper()
	before := sockets
	sockets = []string{t.TempDir() + "/no.sock"}
	defer func() { sockets = before }()
	var out, errs bytes.Buffer
	g := newGlobals(strings.NewReader(""), &out, &errs)
	g.program = program
	g.now = func() time.Time { return at(3600) }
	g.getenv = func(k string) string { return map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1"}[k] }
	g.openCluster = func(cluster.Options) (clusterAccess, error) { return f, nil }
	g.openHelm = func(helm.Target) (helmAccess, error) { return h, nil }
	g.connect = func(string) ports.Inspector {
		require.FailNow(t, "a socket was asked")
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if slices.Contains(args, "--follow") || slices.Contains(args, "monitor") {
		time.AfterFunc(300*time.Millisecond, stop) // somebody presses Ctrl-C
	}
	code := run(ctx, g, args)
	return result{out.String(), errs.String(), code}
}
