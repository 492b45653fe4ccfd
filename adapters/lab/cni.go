package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/cluster"
)

// podInterface is what pods call their link.
const podInterface = "eth0"

// cniTimeout bounds a call of the plugin.
const cniTimeout = 30 * time.Second

// cniConfig is the network configuration that the plugin reads.
type cniConfig struct {
	CNIVersion    string         `json:"cniVersion"`
	Name          string         `json:"name"`
	Type          string         `json:"type"`
	AgentSocket   string         `json:"agentSocket"`
	RuntimeConfig *runtimeConfig `json:"runtimeConfig,omitempty"`
}

type runtimeConfig struct {
	IPs []string `json:"ips,omitempty"` // wanted addresses, with the length of a single one
}

// cniAnswer is what the lab reads of the plugin's answer: a result or an error.
type cniAnswer struct {
	IPs []struct {
		Address netip.Prefix `json:"address"`
	} `json:"ips"`
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details"`
}

// cniAdd attaches the pod and returns its addresses.
func (l *Lab) cniAdd(ctx context.Context, p *podState) ([]netip.Addr, error) {
	out, err := l.cni(ctx, "ADD", p)
	if err != nil {
		return nil, err
	}
	var a cniAnswer
	if err := json.Unmarshal(out, &a); err != nil {
		return nil, fmt.Errorf("pod %s: CNI ADD: read the result: %w", p.Name, err)
	}
	var ips []netip.Addr
	for _, ip := range a.IPs {
		ips = append(ips, ip.Address.Addr())
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("pod %s: CNI ADD: the result has no address", p.Name)
	}
	return ips, nil
}

// cniDel detaches the pod. If its node is gone there is nothing to do.
func (l *Lab) cniDel(ctx context.Context, p *podState) error {
	if _, err := os.Stat(netns.Path(l.nodeNetns(p.Node))); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := l.cni(ctx, "DEL", p)
	return err
}

// cni calls the plugin in the node's namespace, as the node's container runtime would.
func (l *Lab) cni(ctx context.Context, verb string, p *podState) ([]byte, error) {
	plugin, err := l.binary(l.o.CNIPath, "weir-cni")
	if err != nil {
		return nil, err
	}
	conf := cniConfig{CNIVersion: "1.1.0", Name: "cilium", Type: "weir-cni", AgentSocket: l.Socket(p.Node)}
	if len(p.Wanted) > 0 {
		conf.RuntimeConfig = &runtimeConfig{}
		for _, ip := range p.Wanted {
			conf.RuntimeConfig.IPs = append(conf.RuntimeConfig.IPs, netip.PrefixFrom(ip, ip.BitLen()).String())
		}
	}
	in, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd, dir, err := l.command(l.nodeNetns(p.Node), l.agentsCgroup(), plugin)
	if err != nil {
		return nil, fmt.Errorf("pod %s: CNI %s: %w", p.Name, verb, err)
	}
	defer dir.Close()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	cmd.Env = append(os.Environ(),
		"CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.ContainerID, "CNI_NETNS="+netns.Path(l.podNetns(p.Name)),
		"CNI_IFNAME="+podInterface, "CNI_PATH=/opt/cni/bin", "CNI_ARGS="+cniArgs(p.Name, p.UID, p.ContainerID),
	)
	if err := runWithin(ctx, cmd, cniTimeout); err != nil {
		var a cniAnswer
		if json.Unmarshal(stdout.Bytes(), &a) == nil && a.Msg != "" {
			msg := a.Msg
			if a.Details != "" {
				msg += ": " + a.Details
			}
			return nil, fmt.Errorf("pod %s: CNI %s: %s (code %d)", p.Name, verb, msg, a.Code)
		}
		return nil, fmt.Errorf("pod %s: CNI %s: %w: %s", p.Name, verb, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

func cniArgs(n cluster.Name, uid, container string) string {
	return "IgnoreUnknown=1;K8S_POD_NAMESPACE=" + n.Namespace + ";K8S_POD_NAME=" + n.Name +
		";K8S_POD_INFRA_CONTAINER_ID=" + container + ";K8S_POD_UID=" + uid
}
