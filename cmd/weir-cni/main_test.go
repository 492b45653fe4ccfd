package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/rtnetlink"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
)

// TestMain is the plugin itself when a test runs it as a runtime would.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		main()
	}
	os.Exit(m.Run())
}

var (
	router4 = netip.MustParseAddr("10.244.1.1")
	router6 = netip.MustParseAddr("fd00:10:244:1::1")
)

// node is a namespace with an overlay and an agent whose decisions come from a fake.
type node struct {
	t       *testing.T
	path    string
	socket  string
	network *rtnetlink.Network
	stop    func()
}

func newNamespace(t *testing.T, what string) string {
	t.Helper()
	name := fmt.Sprintf("weircni-%d-%s", os.Getpid(), what)
	path, err := rtnetlink.CreateNetns(name)
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "root") {
			t.Fatalf("REQUIRE=root: %v", err)
		}
		t.Skipf("needs root: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, rtnetlink.DeleteNetns(name)) })
	return path
}

func newNode(t *testing.T) *node {
	n := &node{t: t, path: newNamespace(t, "node"), socket: filepath.Join(t.TempDir(), "agent.sock")}
	n.network = rtnetlink.New(rtnetlink.Config{Netns: n.path})
	_, err := n.network.EnsureOverlay(ports.Overlay{MTU: agent.EndpointsMTU, Routers: []netip.Addr{router4, router6}})
	require.NoError(t, err)

	server := api.NewServer(nil, agent.NewEndpoints(netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")))
	l, err := api.Listen(n.socket)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		assert.NoError(t, server.Shutdown(ctx))
		assert.NoError(t, <-served)
	}
	t.Cleanup(n.stop)
	return n
}

// run executes the plugin as a process on the node.
func (n *node) run(verb, pod string, fields map[string]any) (exit int, out map[string]any) {
	n.t.Helper()
	conf := map[string]any{"cniVersion": "1.1.0", "name": "cilium", "type": "weir-cni", "agentSocket": n.socket}
	for k, v := range fields {
		conf[k] = v
	}
	stdin, err := json.Marshal(conf)
	require.NoError(n.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_PATH=/opt/cni/bin", "CNI_IFNAME=eth0", "CNI_CONTAINERID=c1",
		"CNI_NETNS="+pod, "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart")
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Stderr = os.Stderr
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	err = rtnetlink.WithNetns(n.path, cmd.Run)
	if err != nil {
		require.IsType(n.t, &exec.ExitError{}, err)
	}
	if stdout.Len() > 0 {
		require.NoError(n.t, json.Unmarshal(stdout.Bytes(), &out), stdout.String())
	}
	return cmd.ProcessState.ExitCode(), out
}

// connect opens a TCP connection from the pod to an address of the node.
func (n *node) connect(pod string, to netip.Addr) error {
	var l net.Listener
	if err := rtnetlink.WithNetns(n.path, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to, 0).String())
		return err
	}); err != nil {
		return err
	}
	defer l.Close()
	return rtnetlink.WithNetns(pod, func() error {
		c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func TestPluginAttachesAPod(t *testing.T) {
	n := newNode(t)
	pod := newNamespace(t, "pod")

	exit, _ := n.run("STATUS", "", nil)
	assert.Equal(t, 0, exit)
	exit, result := n.run("ADD", pod, nil)
	require.Equal(t, 0, exit, result)
	for _, r := range []netip.Addr{router4, router6} {
		assert.NoError(t, n.connect(pod, r))
	}
	prev := map[string]any{"prevResult": result}
	exit, out := n.run("CHECK", pod, prev)
	assert.Equal(t, 0, exit, out)
	exit, again := n.run("ADD", pod, nil)
	assert.Equal(t, 0, exit)
	assert.Equal(t, result, again)

	require.NoError(t, n.network.DeletePodLink(datapath.HostDeviceName("c1", "eth0")))
	exit, out = n.run("CHECK", pod, prev)
	assert.Equal(t, 1, exit)
	assert.EqualValues(t, 101, out["code"], out)

	exit, out = n.run("DEL", pod, nil)
	assert.Equal(t, 0, exit, out)
	exit, out = n.run("CHECK", pod, prev)
	assert.Equal(t, 1, exit)
	assert.EqualValues(t, 3, out["code"], out)
}

func TestPluginWithoutAgent(t *testing.T) {
	n := newNode(t)
	pod := newNamespace(t, "pod")
	exit, out := n.run("ADD", pod, nil)
	require.Equal(t, 0, exit, out)
	n.stop()

	exit, out = n.run("STATUS", "", nil)
	assert.Equal(t, 1, exit)
	assert.EqualValues(t, 50, out["code"], out)
	assert.NoError(t, n.connect(pod, router4), "pods go on without the agent")
	exit, out = n.run("DEL", pod, nil)
	assert.Equal(t, 0, exit, out)
	links, err := n.network.PodLinks()
	require.NoError(t, err)
	assert.Empty(t, links)
	exit, out = n.run("ADD", pod, nil)
	assert.Equal(t, 1, exit)
	assert.EqualValues(t, 11, out["code"], out)
}
