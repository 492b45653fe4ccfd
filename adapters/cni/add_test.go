package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
)

func TestAddResult(t *testing.T) {
	r := newRig(t)
	out := r.ok("ADD", podEnv("a"), conf)
	var res types100.Result
	require.NoError(t, json.Unmarshal([]byte(out), &res))
	assert.Equal(t, "1.1.0", res.CNIVersion)

	require.Len(t, res.Interfaces, 2)
	host, pod := res.Interfaces[0], res.Interfaces[1]
	assert.Equal(t, hostDevice("a"), host.Name)
	assert.Empty(t, host.Sandbox)
	assert.Equal(t, "eth0", pod.Name)
	assert.Equal(t, "/run/netns/a", pod.Sandbox)
	assert.Equal(t, agent.EndpointsMTU, pod.Mtu)
	assert.NotEqual(t, host.Mac, pod.Mac)

	require.Len(t, res.IPs, 2)
	for i, want := range []struct{ addr, gw string }{{"10.244.1.2/32", "10.244.1.1"}, {"fd00:10:244:1::2/128", "fd00:10:244:1::1"}} {
		assert.Equal(t, want.addr, res.IPs[i].Address.String())
		assert.Equal(t, want.gw, res.IPs[i].Gateway.String())
		assert.Equal(t, 1, *res.IPs[i].Interface)
	}
	var routes []string
	for _, rt := range res.Routes {
		s := rt.Dst.String()
		if rt.GW != nil {
			s += " via " + rt.GW.String()
		}
		routes = append(routes, s)
	}
	assert.Equal(t, []string{"10.244.1.1/32", "0.0.0.0/0 via 10.244.1.1", "fd00:10:244:1::1/128", "::/0 via fd00:10:244:1::1"}, routes)

	_, active, ok := r.network.Pod(hostDevice("a"))
	assert.True(t, ok)
	assert.True(t, active)
	req, ok := r.agent.Request(ports.ContainerInterface{ContainerID: "a", Interface: "eth0"})
	require.True(t, ok)
	assert.Equal(t, "shop/a", req.Pod.String())
	assert.Equal(t, "u-1", req.UID)
	assert.Equal(t, []string{"/run/test.sock"}, r.sockets)

	assert.Equal(t, out, r.ok("ADD", podEnv("a"), conf), "repeated")
}

func TestAddSpeaksOlderVersions(t *testing.T) {
	for _, v := range []string{"0.3.1", "0.4.0", "1.0.0"} {
		r := newRig(t)
		out := r.ok("ADD", podEnv("a"), with(map[string]any{"cniVersion": v}))
		res, err := version.NewResult(v, []byte(out))
		require.NoError(t, err, v)
		assert.Equal(t, v, res.Version())
		current, err := types100.NewResultFromResult(res)
		require.NoError(t, err)
		assert.Len(t, current.IPs, 2)
		if old, ok := res.(*types040.Result); ok {
			assert.Equal(t, "4", old.IPs[0].Version)
			assert.Equal(t, "6", old.IPs[1].Version)
		}
	}
}

func TestDefaultSocket(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), `{"cniVersion":"1.1.0","name":"cilium"}`)
	assert.Equal(t, []string{"/run/default.sock"}, r.sockets)
}

func TestAddKeepsTheLinkDownUntilThePolicyIsInForce(t *testing.T) {
	r := newRig(t)
	seen := false
	r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Activate" {
			_, active, ok := r.network.Pod(hostDevice("a"))
			assert.True(t, ok, "the link exists")
			assert.False(t, active, "and is down")
			seen = true
		}
		return nil
	})
	r.network.Fail(func(op, _ string) error {
		if op == "ActivatePodLink" {
			assert.True(t, seen, "the link goes up after the policy")
		}
		return nil
	})
	r.ok("ADD", podEnv("a"), conf)
	assert.True(t, seen)
}

func TestAddUndoesWhatItDid(t *testing.T) {
	broken := errors.New("broken")
	for _, step := range []string{"Lookup", "Reserve", "CreatePodLink", "Activate", "ActivatePodLink"} {
		r := newRig(t)
		inAgent := func(_ context.Context, op string, _ ports.ContainerInterface) error {
			if op == step {
				return broken
			}
			return nil
		}
		r.agent.Hook(inAgent)
		r.network.Fail(func(op, _ string) error { return inAgent(context.Background(), op, ports.ContainerInterface{}) })
		e := r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
		assert.Contains(t, e.Msg, "broken", step)
		r.clean()
	}
}

func TestAddThatCannotUndoKeepsTheAddress(t *testing.T) {
	r := newRig(t)
	r.network.Fail(func(op, _ string) error {
		if op == "ActivatePodLink" || op == "DeletePodLink" {
			return errors.New(op + " broken")
		}
		return nil
	})
	e := r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
	assert.Contains(t, e.Msg, "ActivatePodLink broken")
	assert.Contains(t, e.Msg, "DeletePodLink broken")
	assert.Len(t, r.agent.Attached(), 1, "an address must not be given out again while a link carries it")
	r.network.Fail(nil)
	r.ok("DEL", podEnv("a"), conf)
	r.clean()
}

func TestFailedRepetitionLeavesAWorkingPodAlone(t *testing.T) {
	r := newRig(t)
	r.ok("ADD", podEnv("a"), conf)
	r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Activate" {
			return errors.New("broken")
		}
		return nil
	})
	r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
	_, active, _ := r.network.Pod(hostDevice("a"))
	assert.True(t, active)
	assert.Len(t, r.agent.Attached(), 1)
}

func TestAddWantedAddresses(t *testing.T) {
	withIP := podEnv("a")
	withIP["CNI_ARGS"] += ";IP=10.244.1.6"
	for name, c := range map[string]struct {
		env  env
		conf string
	}{
		"capability":         {withIP, with(map[string]any{"runtimeConfig": map[string]any{"ips": []string{"10.244.1.5/24", "fd00:10:244:1::5"}}})},
		"args":               {podEnv("a"), with(map[string]any{"args": map[string]any{"cni": map[string]any{"ips": []string{"::ffff:10.244.1.5", "fd00:10:244:1::5"}}}})},
		"CNI_ARGS":           {withIP, conf},
		"CNI_ARGS, families": {func() env { e := podEnv("a"); e["CNI_ARGS"] += ";IP=10.244.1.5,fd00:10:244:1::5"; return e }(), conf},
	} {
		r := newRig(t)
		r.ok("ADD", c.env, c.conf)
		link, _, _ := r.network.Pod(hostDevice("a"))
		want := []netip.Addr{netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("fd00:10:244:1::5")}
		if name == "CNI_ARGS" {
			want = []netip.Addr{netip.MustParseAddr("10.244.1.6"), netip.MustParseAddr("fd00:10:244:1::2")}
		}
		assert.Equal(t, want, link.Addresses, name)
	}

	r := newRig(t)
	r.ok("ADD", withIP, conf)
	other := podEnv("b")
	other["CNI_ARGS"] += ";IP=10.244.1.6"
	e := r.fails(cni.CodeAddress, "ADD", other, conf)
	assert.Contains(t, e.Msg, "10.244.1.6")
	assert.Contains(t, e.Msg, "a/eth0", "says who has it")
	other["CNI_ARGS"] = podEnv("b")["CNI_ARGS"] + ";IP=192.0.2.7"
	r.fails(cni.CodeAddress, "ADD", other, conf)
}

func TestAddRefusesWrongInput(t *testing.T) {
	for name, c := range map[string]struct {
		code  uint
		text  string
		env   env
		stdin string
	}{
		"no container":    {types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID", env{"CNI_CONTAINERID": ""}, conf},
		"bad container":   {types.ErrInvalidEnvironmentVariables, "ontainer", env{"CNI_CONTAINERID": "a/b"}, conf},
		"no netns":        {types.ErrInvalidEnvironmentVariables, "CNI_NETNS", env{"CNI_NETNS": ""}, conf},
		"no interface":    {types.ErrInvalidEnvironmentVariables, "CNI_IFNAME", env{"CNI_IFNAME": ""}, conf},
		"bad interface":   {types.ErrInvalidEnvironmentVariables, "nterface", env{"CNI_IFNAME": "eth0/1"}, conf},
		"long interface":  {types.ErrInvalidEnvironmentVariables, "nterface", env{"CNI_IFNAME": "eth0123456789abcd"}, conf},
		"no pod":          {types.ErrInvalidEnvironmentVariables, "K8S_POD_NAME", env{"CNI_ARGS": "K8S_POD_NAMESPACE=shop"}, conf},
		"no namespace":    {types.ErrInvalidEnvironmentVariables, "K8S_POD_NAMESPACE", env{"CNI_ARGS": ""}, conf},
		"malformed args":  {types.ErrInvalidEnvironmentVariables, "KEY=VALUE", env{"CNI_ARGS": "K8S_POD_NAME"}, conf},
		"bad IP":          {types.ErrInvalidEnvironmentVariables, "10.0.0.300", env{"CNI_ARGS": podEnv("a")["CNI_ARGS"] + ";IP=10.0.0.300"}, conf},
		"two of a family": {types.ErrInvalidEnvironmentVariables, "at most one", env{"CNI_ARGS": podEnv("a")["CNI_ARGS"] + ";IP=10.0.0.3,10.0.0.4"}, conf},
		"not UTF-8":       {types.ErrInvalidEnvironmentVariables, "CNI_NETNS", env{"CNI_NETNS": "/run/netns/\xa7"}, conf},
		"not JSON":        {types.ErrDecodingFailure, "", nil, "{"},
		"wrong type":      {types.ErrDecodingFailure, "agentSocket", nil, with(map[string]any{"agentSocket": 7})},
		"no name":         {types.ErrInvalidNetworkConfig, "name", nil, `{"cniVersion":"1.1.0"}`},
		"version":         {types.ErrIncompatibleCNIVersion, "incompatible", nil, with(map[string]any{"cniVersion": "0.2.0"})},
		"timeout zero":    {types.ErrInvalidNetworkConfig, "agentTimeout", nil, with(map[string]any{"agentTimeout": 0})},
		"timeout long":    {types.ErrInvalidNetworkConfig, "agentTimeout", nil, with(map[string]any{"agentTimeout": 5000})},
		"bad capability":  {types.ErrInvalidNetworkConfig, "runtimeConfig.ips", nil, with(map[string]any{"runtimeConfig": map[string]any{"ips": []string{"x"}}})},
		"not the first":   {types.ErrInvalidNetworkConfig, "prevResult", nil, with(map[string]any{"prevResult": map[string]any{"cniVersion": "1.1.0"}})},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			e := podEnv("a")
			for k, v := range c.env {
				e[k] = v
			}
			got := r.fails(c.code, "ADD", e, c.stdin)
			assert.Contains(t, got.Msg+got.Details, c.text)
			r.clean()
		})
	}
}

func TestAddIntoANamespaceThatIsGone(t *testing.T) {
	r := newRig(t)
	r.network.RemoveNetns("/run/netns/a")
	e := r.fails(types.ErrInvalidNetNS, "ADD", podEnv("a"), conf)
	assert.Contains(t, e.Msg, "/run/netns/a")
	r.clean()
}

func TestAddWhenNoAddressIsFree(t *testing.T) {
	r := newRig(t)
	for _, c := range []string{"a", "b", "c", "d", "e"} {
		r.ok("ADD", podEnv(c), conf)
	}
	e := r.fails(types.ErrTryAgainLater, "ADD", podEnv("f"), conf)
	assert.Contains(t, e.Msg, "10.244.1.0/29 has 5 of 5 in use")
	r.ok("DEL", podEnv("c"), conf)
	r.ok("ADD", podEnv("f"), conf)
}

var brief = with(map[string]any{"agentTimeout": 0.5})

func TestAddWithoutAgent(t *testing.T) {
	r := newRig(t)
	r.noAgent()
	begin := time.Now()
	e := r.fails(types.ErrTryAgainLater, "ADD", podEnv("a"), brief)
	assert.GreaterOrEqual(t, time.Since(begin), 500*time.Millisecond, "it waited")
	for _, says := range []string{"/run/test.sock", "500ms", "k8s-app=cilium", "connection refused"} {
		assert.Contains(t, e.Msg, says)
	}
	r.agentBack()
	r.clean()
}

// What the agent's absence was told by is said also when the call ends in the middle of another question.
func TestAddWithoutAgentSaysTheReason(t *testing.T) {
	r := newRig(t)
	asked := 0
	r.agent.Hook(func(ctx context.Context, _ string, _ ports.ContainerInterface) error {
		if asked++; asked == 1 {
			return errNoAgent
		}
		// The call ends before this question's own time, a quarter of the call's, is over.
		<-ctx.Done()
		return ctx.Err()
	})
	e := r.fails(types.ErrTryAgainLater, "ADD", podEnv("a"), with(map[string]any{"agentTimeout": 0.25}))
	assert.Contains(t, e.Msg, "connection refused")
}

func TestAddWaitsForAnAgent(t *testing.T) {
	r := newRig(t)
	begin := time.Now()
	r.agent.Hook(func(context.Context, string, ports.ContainerInterface) error {
		if time.Since(begin) < 600*time.Millisecond {
			return errNoAgent
		}
		return nil
	})
	r.ok("ADD", podEnv("a"), conf)
	assert.GreaterOrEqual(t, time.Since(begin), 600*time.Millisecond)
}

func TestAddWhileTheAgentIsNotReady(t *testing.T) {
	r := newRig(t)
	r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Ready" || op == "Reserve" {
			return errors.New("the cluster's lists are not complete")
		}
		return nil
	})
	e := r.fails(types.ErrTryAgainLater, "ADD", podEnv("a"), brief)
	assert.Contains(t, e.Msg, "serves no pods yet after 500ms")
	assert.Contains(t, e.Msg, "lists are not complete")
}

func TestAddGivesUpOnAnAgentThatHangs(t *testing.T) {
	r := newRig(t)
	r.agent.Hook(func(ctx context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Activate" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	begin := time.Now()
	r.fails(types.ErrTryAgainLater, "ADD", podEnv("a"), with(map[string]any{"agentTimeout": 0.05}))
	assert.Less(t, time.Since(begin), 3*time.Second)
	r.clean()
}
