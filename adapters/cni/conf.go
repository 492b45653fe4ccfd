package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// DefaultAgentTimeout is how long a verb waits for the agent unless the configuration says otherwise.
const DefaultAgentTimeout = 20 * time.Second

// maxAgentTimeout in seconds; kubelet itself gives up after about four minutes.
const maxAgentTimeout = 600

// validAttachmentsKey is GC's argument.
const validAttachmentsKey = "cni.dev/valid-attachments"

// netConf is the network configuration. Unknown fields are left to others.
type netConf struct {
	types.PluginConf
	AgentSocket  string   `json:"agentSocket"`
	AgentTimeout *float64 `json:"agentTimeout"` // seconds
	LogFile      string   `json:"logFile"`
	// LogFileCilium is how Cilium's configuration spells LogFile.
	LogFileCilium string `json:"log-file"`

	RuntimeConfig struct {
		IPs []string `json:"ips"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`

	hasValidAttachments bool
}

func (c *netConf) timeout() time.Duration {
	if c.AgentTimeout == nil {
		return DefaultAgentTimeout
	}
	return time.Duration(*c.AgentTimeout * float64(time.Second))
}

func (c *netConf) logFile() string {
	if c.LogFile != "" {
		return c.LogFile
	}
	return c.LogFileCilium
}

func parseConf(stdin []byte) (*netConf, error) {
	c := &netConf{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, fail(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return nil, fail(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	_, c.hasValidAttachments = keys[validAttachmentsKey]
	if t := c.AgentTimeout; t != nil && (*t <= 0 || *t > maxAgentTimeout) {
		return nil, fail(types.ErrInvalidNetworkConfig, "agentTimeout %v: must be more than 0 and at most %d seconds", *t, maxAgentTimeout)
	}
	return c, nil
}

// podArgs is what a Kubernetes runtime says about the pod in CNI_ARGS.
type podArgs struct {
	pod cluster.Name
	uid string
	ips []string
}

func parseArgs(s string) (podArgs, error) {
	var a podArgs
	for _, pair := range strings.Split(s, ";") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return a, fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %q is not KEY=VALUE", pair)
		}
		switch k {
		case "K8S_POD_NAMESPACE":
			a.pod.Namespace = v
		case "K8S_POD_NAME":
			a.pod.Name = v
		case "K8S_POD_UID":
			a.uid = v
		case "IP":
			a.ips = strings.Split(v, ",")
		}
	}
	return a, nil
}

// reserveRequest puts together what ADD asks of the agent. Addresses can be asked for in three ways:
// the runtime's ips capability, the args.cni.ips of the configuration, and IP in CNI_ARGS; the first
// that is given counts.
func reserveRequest(args *skel.CmdArgs, conf *netConf) (ports.ReserveRequest, error) {
	// The agent and the result get them as JSON, which cannot hold other bytes: they would come back changed.
	for _, v := range [][2]string{
		{"CNI_CONTAINERID", args.ContainerID}, {"CNI_IFNAME", args.IfName}, {"CNI_NETNS", args.Netns}, {"CNI_ARGS", args.Args},
	} {
		if !utf8.ValidString(v[1]) {
			return ports.ReserveRequest{}, fail(types.ErrInvalidEnvironmentVariables, "%s %q: must be UTF-8 text", v[0], v[1])
		}
	}
	a, err := parseArgs(args.Args)
	if err != nil {
		return ports.ReserveRequest{}, err
	}
	if a.pod.Namespace == "" || a.pod.Name == "" {
		return ports.ReserveRequest{}, fail(types.ErrInvalidEnvironmentVariables,
			"CNI_ARGS %q: K8S_POD_NAMESPACE and K8S_POD_NAME are needed", args.Args)
	}
	r := ports.ReserveRequest{
		ContainerID: args.ContainerID,
		Interface:   args.IfName,
		Netns:       args.Netns,
		Pod:         a.pod,
		UID:         a.uid,
	}
	for _, from := range []struct {
		field string
		code  uint
		ips   []string
	}{
		{"runtimeConfig.ips", types.ErrInvalidNetworkConfig, conf.RuntimeConfig.IPs},
		{"args.cni.ips", types.ErrInvalidNetworkConfig, conf.Args.CNI.IPs},
		{"CNI_ARGS: IP", types.ErrInvalidEnvironmentVariables, a.ips},
	} {
		if len(from.ips) == 0 {
			continue
		}
		if r.IPs, err = parseIPs(from.ips); err != nil {
			return ports.ReserveRequest{}, fail(from.code, "%s: %v", from.field, err)
		}
		break
	}
	return r, nil
}

// parseIPs reads addresses; a prefix length, which some runtimes add, is dropped.
func parseIPs(ss []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range ss {
		text, _, _ := strings.Cut(strings.TrimSpace(s), "/")
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("%q is not an IP address", s)
		}
		a = a.Unmap()
		for _, b := range out {
			if a.Is4() == b.Is4() {
				return nil, fmt.Errorf("%s and %s: at most one address a family", b, a)
			}
		}
		out = append(out, a)
	}
	return out, nil
}
