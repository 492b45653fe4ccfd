package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
)

var errNoAgent = errors.New("connection refused")

// rig is a node with fakes of agent and network, on which verbs run as a runtime would run them:
// environment and standard input in, standard output and exit status out.
type rig struct {
	t       *testing.T
	agent   *agent.Endpoints
	network *network.Network
	sockets []string // that were dialled
	exec    invoke.Exec
}

func newRig(t *testing.T) *rig {
	r := &rig{
		t:       t,
		agent:   agent.NewEndpoints(netip.MustParsePrefix("10.244.1.0/29"), netip.MustParsePrefix("fd00:10:244:1::/64")),
		network: network.New(),
	}
	_, err := r.network.EnsureOverlay(ports.Overlay{VXLANPort: 8472, MTU: agent.EndpointsMTU,
		Routers: []netip.Addr{netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("fd00:10:244:1::1")}})
	require.NoError(t, err)
	return r
}

// noAgent makes the agent absent; agentBack brings it back with all it knew.
func (r *rig) noAgent() {
	r.agent.Hook(func(context.Context, string, ports.ContainerInterface) error { return errNoAgent })
}

func (r *rig) agentBack() { r.agent.Hook(nil) }

// clean checks that nothing is attached.
func (r *rig) clean() {
	r.t.Helper()
	require.Empty(r.t, r.agent.Attached())
	names, err := r.network.PodLinks()
	require.NoError(r.t, err)
	require.Empty(r.t, names)
}

type env map[string]string

func podEnv(container string) env {
	return env{
		"CNI_CONTAINERID": container,
		"CNI_NETNS":       "/run/netns/" + container,
		"CNI_IFNAME":      "eth0",
		"CNI_PATH":        "/opt/cni/bin",
		"CNI_ARGS":        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=" + container + ";K8S_POD_UID=u-1;K8S_POD_INFRA_CONTAINER_ID=x",
	}
}

func hostDevice(container string) string { return datapath.HostDeviceName(container, "eth0") }

const conf = `{"cniVersion":"1.1.0","name":"cilium","type":"weir-cni","agentSocket":"/run/test.sock","somebodyElse":{"x":1}}`

// with adds fields to conf.
func with(fields map[string]any) string {
	var c map[string]any
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		panic(err)
	}
	for k, v := range fields {
		c[k] = v
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// run carries out a verb.
func (r *rig) run(verb string, e env, stdin string) (status int, stdout string) {
	r.t.Helper()
	dir := r.t.TempDir()
	inPath, outPath := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	require.NoError(r.t, os.WriteFile(inPath, []byte(stdin), 0o600))
	in, err := os.Open(inPath)
	require.NoError(r.t, err)
	defer in.Close()
	out, err := os.Create(outPath)
	require.NoError(r.t, err)
	defer out.Close()

	for _, k := range []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"} {
		r.t.Setenv(k, e[k])
	}
	r.t.Setenv("CNI_COMMAND", verb)
	oldIn, oldOut := os.Stdin, os.Stdout
	os.Stdin, os.Stdout = in, out
	defer func() { os.Stdin, os.Stdout = oldIn, oldOut }()

	status = cni.New(cni.Config{
		Dial: func(socket string) ports.Endpoints {
			r.sockets = append(r.sockets, socket)
			return r.agent
		},
		Unreachable:   func(err error) bool { return errors.Is(err, errNoAgent) },
		Network:       r.network,
		DefaultSocket: "/run/default.sock",
		Exec:          r.exec,
	}).Run("test plugin")

	_, err = out.Seek(0, io.SeekStart)
	require.NoError(r.t, err)
	b, err := io.ReadAll(out)
	require.NoError(r.t, err)
	return status, string(b)
}

// ok runs a verb that must succeed.
func (r *rig) ok(verb string, e env, stdin string) string {
	r.t.Helper()
	status, out := r.run(verb, e, stdin)
	require.Equal(r.t, 0, status, out)
	return out
}

type cniError struct {
	Code    uint   `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details"`
}

// fails runs a verb that must answer with an error of this code.
func (r *rig) fails(code uint, verb string, e env, stdin string) cniError {
	r.t.Helper()
	status, out := r.run(verb, e, stdin)
	require.Equal(r.t, 1, status, out)
	var got cniError
	require.NoError(r.t, json.Unmarshal([]byte(out), &got), out)
	require.Equal(r.t, code, got.Code, got.Msg)
	require.NotEmpty(r.t, got.Msg)
	return got
}
