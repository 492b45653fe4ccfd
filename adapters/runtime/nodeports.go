package runtime

import (
	"fmt"

	"github.com/weirnet/weir/ports"
)

// servesNetwork says whether anything is served to the network.
func (a *agent) servesNetwork() bool { return a.cfg.NodePorts.Enabled || a.cfg.NodePorts.HostPorts }

// reservedPorts are those that the kernel is to give to no connection of its own.
func (a *agent) reservedPorts() (r ports.PortRange) {
	if n := a.cfg.NodePorts; n.Enabled && n.Protect {
		r.First, r.Last = n.First, n.Last
	}
	return r
}

// serviceStatus says what of services is served, and where.
func (a *agent) serviceStatus() *ports.ServiceStatus {
	n := a.cfg.NodePorts
	s := &ports.ServiceStatus{
		KubeProxyReplacement: n.Replacement, Sockets: a.cfg.SocketLB, NodePorts: n.Enabled, HostPorts: n.HostPorts, Devices: a.devices.choice.Devices,
	}
	if n.Enabled && n.First != 0 {
		s.NodePortRange = fmt.Sprintf("%d-%d", n.First, n.Last)
	}
	return s
}
