package engine

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/lb"
)

// hostPortSuffix makes the name of the service that a pod's host ports are one that no Service can have.
const hostPortSuffix = ":host-port"

func isHostPort(n lb.Name) bool { return strings.HasSuffix(n.Name, hostPortSuffix) }

// serveHostPorts brings the host ports of a pod up to date. They lead to the addresses of its link: a pod that
// has none yet, whose identity is not known, or that has ended, is served nowhere. A pod of the same name that
// came before does not count.
func (e *Engine) serveHostPorts(n cluster.Name) {
	if !e.serve.HostPorts {
		return
	}
	pod, known := e.pods[n]
	ep := e.local[e.localByPod[n]]
	name := lb.Name{Namespace: n.Namespace, Name: n.Name + hostPortSuffix}
	if !known || ep == nil || ep.identity == identity.Unknown || pod.Finished || len(pod.HostPorts) == 0 ||
		pod.UID != "" && ep.UID != "" && pod.UID != ep.UID {
		if e.hostPorts[n] {
			delete(e.hostPorts, n)
			e.services.DeleteService(name)
			e.services.DeleteSlice(name, "")
			e.flushServices()
		}
		return
	}
	e.hostPorts[n] = true
	service, backends := lb.Service{Name: name}, lb.Slice{Service: name}
	for _, p := range pod.HostPorts {
		id := fmt.Sprintf("%d", p.Port)
		if p.IP.IsValid() {
			id = netip.AddrPortFrom(p.IP, p.Port).String()
		}
		for _, ip := range ep.IPs {
			at := p.IP
			if !at.IsValid() {
				if at = netip.IPv6Unspecified(); ip.Is4() {
					at = netip.IPv4Unspecified()
				}
			}
			if at.Is4() != ip.Is4() {
				continue
			}
			service.Frontends = append(service.Frontends,
				lb.Frontend{Addr: at, Port: p.Port, Proto: p.Proto, PortName: id, Type: lb.HostPort})
			backends.Backends = append(backends.Backends,
				lb.Backend{Addr: ip, Port: p.To, Proto: p.Proto, PortName: id, Node: e.node, Weight: 1})
		}
	}
	e.services.TakeSlice(backends)
	e.services.TakeService(service)
	e.flushServices()
}
