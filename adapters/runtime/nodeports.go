package runtime

import (
	"fmt"

	"github.com/weirnet/weir/ports"
)

// nodePorts is what the node's network is asked for; nil if nothing is served to it.
func (a *agent) nodePorts() *ports.NodePorts {
	n := a.cfg.NodePorts
	if !n.Enabled && !n.HostPorts {
		return nil
	}
	p := &ports.NodePorts{Devices: n.Devices, Addresses: a.self.Addresses}
	if n.Enabled && n.Protect {
		p.First, p.Last = n.First, n.Last
	}
	return p
}

// serviceStatus says what of services is served, and where.
func (a *agent) serviceStatus() *ports.ServiceStatus {
	n := a.cfg.NodePorts
	s := &ports.ServiceStatus{
		KubeProxyReplacement: n.Replacement, Sockets: a.cfg.SocketLB, NodePorts: n.Enabled, HostPorts: n.HostPorts, Devices: a.devices,
	}
	if n.Enabled && n.First != 0 {
		s.NodePortRange = fmt.Sprintf("%d-%d", n.First, n.Last)
	}
	return s
}

// noDevices is the warning that nothing comes from the network.
func (a *agent) noDevices() string {
	if a.engine == nil || a.nodePorts() == nil || len(a.devices) > 0 {
		return ""
	}
	return fmt.Sprintf("node ports and host ports are served to no device: none has one of %v or a default route; set devices", a.self.Addresses)
}
