package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func TestDel(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.ok("ADD", podEnv("b"), conf)
	r.ok("DEL", podEnv("a"), conf)
	r.ok("DEL", podEnv("a"), conf)
	assert.Equal(t, []ports.ContainerInterface{{ContainerID: "b", Interface: "eth0"}}, r.agent.Attached())
	e := podEnv("b")
	e["CNI_NETNS"], e["CNI_ARGS"] = "", ""
	r.ok("DEL", e, conf)
	r.clean()
	r.ok("DEL", podEnv("never seen"[:5]), conf)
}

func TestDelWhenTheNamespaceIsGone(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.network.RemoveNetns("/run/netns/a")
	r.ok("DEL", podEnv("a"), conf)
	r.clean()
}

func TestDelWithoutAgentRemovesTheLink(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.noAgent()
	r.ok("DEL", podEnv("a"), conf)
	names, err := r.network.PodLinks()
	require.NoError(t, err)
	assert.Empty(t, names)
	r.agentBack()
	assert.Len(t, r.agent.Attached(), 1, "the agent still remembers")
	r.ok("GC", podEnv(""), with(map[string]any{"cni.dev/valid-attachments": []any{}}))
	r.clean()
}

func TestDelWhileTheAgentIsNotReady(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		return errors.New("still waiting for its node")
	})
	r.ok("DEL", podEnv("a"), conf)
	links, err := r.network.PodLinks()
	require.NoError(t, err)
	assert.Empty(t, links)
}

func TestDelOfALinkThatStaysKeepsTheAddress(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.network.Fail(func(op, _ string) error {
		if op == "DeletePodLink" {
			return errors.New("busy")
		}
		return nil
	})
	e := r.fails(types.ErrInternal, "DEL", podEnv("a"), conf)
	assert.Contains(t, e.Msg, "busy")
	assert.Len(t, r.agent.Attached(), 1)
}

func TestDelReportsAnAgentThatRefuses(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Release" {
			return errors.New("disk full")
		}
		return nil
	})
	r.fails(types.ErrInternal, "DEL", podEnv("a"), conf)
	r.agentBack()
	r.ok("DEL", podEnv("a"), conf)
	r.clean()
}

// TestCrash stops the plugin dead after each step of ADD; DEL must clean up, and so must a new ADD be
// possible.
func TestCrash(t *testing.T) {
	ctx := context.Background()
	for steps := 1; steps <= 4; steps++ {
		for _, next := range []string{"DEL", "ADD"} {
			r := newRig(t)
			res, err := r.agent.Reserve(ctx, ports.ReserveRequest{ContainerID: "a", Interface: "eth0", Netns: "/run/netns/a",
				Pod: cluster.Name{Namespace: "shop", Name: "a"}})
			require.NoError(t, err)
			l := ports.PodLink{Netns: "/run/netns/a", Interface: "eth0", HostName: res.HostDevice, MTU: res.MTU,
				Addresses: res.Addresses, Gateways: res.Gateways}
			var st ports.PodLinkState
			if steps >= 2 {
				st, err = r.network.CreatePodLink(l)
				require.NoError(t, err)
			}
			if steps >= 3 {
				require.NoError(t, r.agent.Activate(ctx, "a", "eth0", st))
			}
			if steps >= 4 {
				require.NoError(t, r.network.ActivatePodLink(l))
			}
			out := r.ok(next, podEnv("a"), conf)
			if next == "ADD" {
				assert.Contains(t, out, res.Addresses[0].String(), "the address that was reserved")
				require.NoError(t, r.network.CheckPodLink(l))
				r.ok("DEL", podEnv("a"), conf)
			}
			r.clean()
		}
	}
}

// checkConf is the configuration of CHECK after an ADD that printed result.
func checkConf(t *testing.T, result string) string {
	var prev map[string]any
	require.NoError(t, json.Unmarshal([]byte(result), &prev))
	return with(map[string]any{"prevResult": prev})
}

func TestCheck(t *testing.T) {
	r := newRig(t)
	result := r.ok("ADD", podEnv("a"), conf)
	check := checkConf(t, result)
	r.ok("CHECK", podEnv("a"), check)

	r.fails(types.ErrInvalidNetworkConfig, "CHECK", podEnv("a"), conf)
	r.fails(types.ErrDecodingFailure, "CHECK", podEnv("a"), with(map[string]any{"prevResult": map[string]any{"cniVersion": "7.0.0"}}))
	r.fails(types.ErrUnknownContainer, "CHECK", podEnv("b"), check)
	moved := podEnv("a")
	moved["CNI_NETNS"] = "/run/netns/elsewhere"
	e := r.fails(cni.CodeDiffers, "CHECK", moved, check)
	assert.Contains(t, e.Msg, "/run/netns/elsewhere")

	require.NoError(t, r.network.DeletePodLink(hostDevice("a")))
	e = r.fails(cni.CodeDiffers, "CHECK", podEnv("a"), check)
	assert.Contains(t, e.Msg, hostDevice("a"))

	r.ok("ADD", podEnv("a"), conf)
	r.ok("CHECK", podEnv("a"), check)
	r.ok("DEL", podEnv("a"), conf)
	r.ok("ADD", podEnv("b"), conf)
	r.ok("ADD", podEnv("a"), conf)
	e = r.fails(cni.CodeDiffers, "CHECK", podEnv("a"), check)
	assert.Contains(t, e.Msg, "prevResult has addresses")

	r.noAgent()
	r.fails(types.ErrTryAgainLater, "CHECK", podEnv("a"), check)
}

func TestCheckSeesAPolicyThatIsNotInForce(t *testing.T) {
	r := newRig(t)
	check := checkConf(t, r.ok("ADD", podEnv("a"), conf))
	ctx := context.Background()
	require.NoError(t, r.agent.Release(ctx, "a", "eth0"))
	_, err := r.agent.Reserve(ctx, ports.ReserveRequest{ContainerID: "a", Interface: "eth0"})
	require.NoError(t, err)
	e := r.fails(cni.CodeDiffers, "CHECK", podEnv("a"), check)
	assert.Contains(t, e.Msg, "not in force")
}

func TestCheckSpeaksOlderVersions(t *testing.T) {
	r := newRig(t)
	v := map[string]any{"cniVersion": "0.4.0"}
	var prev map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.ok("ADD", podEnv("a"), with(v))), &prev))
	v["prevResult"] = prev
	r.ok("CHECK", podEnv("a"), with(v))
}

func TestGC(t *testing.T) {
	r := newRig(t)
	for _, c := range []string{"a", "b", "c"} {
		r.ok("ADD", podEnv(c), conf)
	}
	// A link that no agent remembers, and one that is not of our naming.
	leaked, _, _ := r.network.Pod(hostDevice("a"))
	leaked.HostName, leaked.Netns = datapath.HostDeviceName("x", "eth0"), "/run/netns/x"
	_, err := r.network.CreatePodLink(leaked)
	require.NoError(t, err)
	foreign := leaked
	foreign.HostName, foreign.Netns = "lxc_health", "/run/netns/y"
	_, err = r.network.CreatePodLink(foreign)
	require.NoError(t, err)

	valid := map[string]any{"cni.dev/valid-attachments": []any{
		map[string]string{"containerID": "b", "ifname": "eth0"},
		map[string]string{"containerID": "gone", "ifname": "eth0"},
	}}
	r.ok("GC", podEnv(""), with(valid))
	assert.Equal(t, []ports.ContainerInterface{{ContainerID: "b", Interface: "eth0"}}, r.agent.Attached())
	names, err := r.network.PodLinks()
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{hostDevice("b"), "lxc_health"}, names)
	_, active, _ := r.network.Pod(hostDevice("b"))
	assert.True(t, active)
	r.ok("GC", podEnv(""), with(valid))
}

func TestGCRefuses(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.fails(types.ErrInvalidNetworkConfig, "GC", podEnv(""), conf)
	r.fails(types.ErrInvalidNetworkConfig, "GC", podEnv(""), with(map[string]any{"cni.dev/valid-attachments": []any{map[string]string{"ifname": "eth0"}}}))
	assert.Len(t, r.agent.Attached(), 1)
	r.noAgent()
	r.fails(types.ErrTryAgainLater, "GC", podEnv(""), with(map[string]any{"cni.dev/valid-attachments": []any{}}))
}

func TestGCFreesNoAddressWhoseLinkStays(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.network.Fail(func(op, _ string) error {
		if op == "DeletePodLink" {
			return errors.New("busy")
		}
		return nil
	})
	r.fails(types.ErrInternal, "GC", podEnv(""), with(map[string]any{"cni.dev/valid-attachments": []any{}}))
	assert.Len(t, r.agent.Attached(), 1)
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	assert.Empty(t, r.ok("STATUS", podEnv(""), conf))
	r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		return errors.New("waiting for the node's pod prefixes")
	})
	e := r.fails(types.ErrPluginNotAvailable, "STATUS", podEnv(""), conf)
	assert.Contains(t, e.Msg, "pod prefixes")
	r.noAgent()
	r.fails(types.ErrPluginNotAvailable, "STATUS", podEnv(""), conf)
	r.fails(types.ErrIncompatibleCNIVersion, "STATUS", podEnv(""), with(map[string]any{"cniVersion": "1.0.0"}))
}

func TestVersion(t *testing.T) {
	r := newRig(t)
	var v struct {
		Supported []string `json:"supportedVersions"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.ok("VERSION", env{}, "")), &v))
	assert.Equal(t, []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}, v.Supported)
	r.fails(types.ErrInvalidEnvironmentVariables, "UPDATE", podEnv("a"), conf)
}

func TestLogFile(t *testing.T) {
	for _, key := range []string{"logFile", "log-file"} {
		r := newRig(t)
		path := filepath.Join(t.TempDir(), "cni.log")
		c := with(map[string]any{key: path})
		r.ok("ADD", podEnv("a"), c)
		r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
			if op == "Reserve" {
				return errors.New("no address is left for anybody")
			}
			return nil
		})
		r.fails(types.ErrInternal, "ADD", podEnv("b"), c)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Contains(t, string(b), "command=ADD container=a")
		assert.Contains(t, string(b), "pod=shop/a")
		assert.Contains(t, string(b), "no address is left for anybody")
	}
	r := newRig(t)
	r.ok("ADD", podEnv("a"), with(map[string]any{"logFile": "/nonexistent/dir/cni.log"}))
}
