package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/ports"
)

const (
	fuzzConf = `{"cniVersion":"1.1.0","name":"cilium","type":"weir-cni","runtimeConfig":{"ips":["10.244.1.5/24"]}}`
	fuzzArgs = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1;IP=10.244.1.4,fd00:10:244:1::4"
	fuzzPrev = `{"cniVersion":"1.0.0","name":"cilium","type":"weir-cni","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"lxc"},{"name":"eth0","sandbox":"/run/netns/c1"}],"ips":[{"interface":1,"address":"10.244.1.2/32"}]}}`
)

// Whatever a runtime says: a verb succeeds or answers with an error of the specification's form, never both. A
// failed ADD leaves nothing behind, a good one gives a result in the version asked for and can be repeated
// and checked, DEL takes everything back, and GC without a list of attachments cuts nobody off.
func FuzzVerbs(f *testing.F) {
	for verb := range uint8(5) {
		f.Add(verb, []byte(fuzzConf), fuzzArgs, "c1", "eth0", "/run/netns/c1")
		f.Add(verb, []byte(fuzzPrev), fuzzArgs, "c1", "eth0", "/run/netns/c1")
	}
	f.Add(uint8(0), []byte(`{"cniVersion":"0.3.1","name":"n"}`), "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", "c1", "eth0", "ns")
	f.Add(uint8(0), []byte(`{"cniVersion":"9.9.9","name":"n"}`), fuzzArgs, "c1", "eth0", "ns")
	f.Add(uint8(0), []byte(`{"agentTimeout":1e308}`), "IP", "", "", "")
	f.Add(uint8(3), []byte(`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"c0","ifname":"eth0"}]}`), "", "", "", "")
	f.Add(uint8(3), []byte(`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":null}`), "", "", "", "")
	f.Add(uint8(2), []byte(`{"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","interfaces":[null,{"name":"eth0"}],"ips":[null,{"address":"x"}]}}`), fuzzArgs, "c1", "eth0", "")
	f.Fuzz(func(t *testing.T, verb uint8, stdin []byte, cniArgs, container, ifname, netns string) {
		if c, err := parseConf(stdin); err == nil && c.logFile() != "" {
			return // it would write to a file of the input's choice
		}
		w := newFuzzNode(t)
		other := w.args([]byte(`{"cniVersion":"1.1.0","name":"cilium","type":"weir-cni"}`), "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=other", "c0", "eth0", "/run/netns/c0")
		require.NoError(t, w.plugin.Add(other))
		w.out.Reset()
		args := w.args(stdin, cniArgs, container, ifname, netns)
		attached := len(w.agent.Attached())
		links, err := w.network.PodLinks()
		require.NoError(t, err)

		verbs := []func(*skel.CmdArgs) error{w.plugin.Add, w.plugin.Del, w.plugin.Check, w.plugin.GC, w.plugin.Status}
		err = verbs[int(verb)%len(verbs)](args)
		if err != nil {
			var known *types.Error
			require.True(t, errors.As(err, &known), "%T: %v", err, err)
			require.NotZero(t, known.Code)
			require.NotEmpty(t, known.Msg)
			require.Zero(t, w.out.Len(), "an error and a result")
			require.Len(t, w.agent.Attached(), attached, "an error leaves things as they were")
			after, err := w.network.PodLinks()
			require.NoError(t, err)
			require.Equal(t, links, after)
			return
		}
		if int(verb)%len(verbs) != 0 {
			require.Zero(t, w.out.Len())
			return
		}
		first := w.out.String()
		if c, err := parseConf(stdin); err != nil || !slices.Contains(Versions.SupportedVersions(), c.CNIVersion) {
			return // a version that Run refuses before it comes to a verb
		}
		var result struct {
			CNIVersion string `json:"cniVersion"`
			IPs        []struct {
				Address netip.Prefix `json:"address"`
			} `json:"ips"`
		}
		require.NoError(t, json.Unmarshal([]byte(first), &result), first)
		require.NotEmpty(t, result.IPs)
		w.out.Reset()
		require.NoError(t, w.plugin.Add(args))
		require.Equal(t, first, w.out.String(), "the same again")

		var conf map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(stdin, &conf))
		conf["prevResult"] = json.RawMessage(first)
		conf["cniVersion"], err = json.Marshal(result.CNIVersion)
		require.NoError(t, err)
		withPrev, err := json.Marshal(conf)
		require.NoError(t, err)
		require.NoError(t, w.plugin.Check(w.args(withPrev, cniArgs, container, ifname, netns)))

		require.NoError(t, w.plugin.Del(args))
		require.NoError(t, w.plugin.Del(args), "twice is fine")
	})
}

// A runtime that did not get the result forgets the container: nothing of it may stay.
func TestAddWhoseResultIsLostIsUndone(t *testing.T) {
	w := newFuzzNode(t)
	w.plugin.Stdout = lost{}
	err := w.plugin.Add(w.args([]byte(fuzzConf), fuzzArgs, "c1", "eth0", "/run/netns/c1"))
	require.ErrorContains(t, err, "print the result")
	require.Empty(t, w.agent.Attached())
	links, err := w.network.PodLinks()
	require.NoError(t, err)
	require.Empty(t, links)
}

// lost takes no text.
type lost struct{}

func (lost) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// fuzzNode is a node with a plugin, and fakes of agent and network.
type fuzzNode struct {
	agent   *agent.Endpoints
	network *network.Network
	plugin  *Plugin
	out     bytes.Buffer
}

func newFuzzNode(t *testing.T) *fuzzNode {
	t.Helper()
	w := &fuzzNode{
		agent:   agent.NewEndpoints(netip.MustParsePrefix("10.244.1.0/29"), netip.MustParsePrefix("fd00:10:244:1::/64")),
		network: network.New(),
	}
	_, err := w.network.EnsureOverlay(ports.Overlay{VXLANPort: 8472, MTU: agent.EndpointsMTU,
		Routers: []netip.Addr{netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("fd00:10:244:1::1")}})
	require.NoError(t, err)
	w.plugin = New(Config{Dial: func(string) ports.Endpoints { return w.agent }, Network: w.network, Stdout: &w.out})
	return w
}

func (w *fuzzNode) args(stdin []byte, cniArgs, container, ifname, netns string) *skel.CmdArgs {
	return &skel.CmdArgs{ContainerID: container, IfName: ifname, Netns: netns, Args: cniArgs, StdinData: stdin}
}

// Addresses that were asked for are addresses, one a family, without zone.
func FuzzRequestedIPs(f *testing.F) {
	for _, s := range []string{"10.0.0.1", " 10.0.0.1/24,fd00::1", "::ffff:10.0.0.1", "fe80::1%eth0", ",", "10.0.0.1/x", "1,2"} {
		f.Add("IP=" + s)
	}
	f.Add("IP=10.0.0.1;IP=;K8S_POD_NAME==a;=")
	f.Fuzz(func(t *testing.T, cniArgs string) {
		r, err := reserveRequest(&skel.CmdArgs{Args: "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;" + cniArgs}, &netConf{})
		if err != nil {
			require.ErrorContains(t, err, "CNI_ARGS")
			return
		}
		require.NotEmpty(t, r.Pod.Name)
		require.NotEmpty(t, r.Pod.Namespace)
		require.LessOrEqual(t, len(r.IPs), 2)
		for i, a := range r.IPs {
			require.True(t, a.IsValid() && a.Zone() == "" && a == a.Unmap())
			require.False(t, i == 1 && a.Is4() == r.IPs[0].Is4())
		}
	})
}
