package manifest

import (
	"net/netip"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

func readPod(r *report, md metadata, top object) body {
	p := cluster.Pod{
		Name: cluster.Name{Namespace: md.namespace, Name: md.name}, UID: md.uid,
		Labels: podLabels(r, md.labels), Annotations: md.annotations, Ready: true, Terminating: md.deleting,
	}
	if spec, ok := top.get("spec").object(); ok {
		p.Node, _ = spec.get("nodeName").text()
		p.ServiceAccount, _ = spec.get("serviceAccountName").text()
		p.HostNetwork, _ = spec.get("hostNetwork").flag()
		containers, _ := spec.get("containers").list()
		for _, c := range containers {
			if o, ok := c.object(); ok {
				containerPorts(&p, o)
			}
		}
		inits, _ := spec.get("initContainers").list()
		for _, c := range inits {
			if o, ok := c.object(); ok {
				// Only one that keeps running beside the others serves anything.
				if policy, _ := o.get("restartPolicy").text(); policy == "Always" {
					containerPorts(&p, o)
				}
			}
		}
	}
	if status, ok := top.get("status").object(); ok {
		readPodStatus(&p, status)
	}
	return podBody{p}
}

func containerPorts(p *cluster.Pod, c object) {
	ports, _ := c.get("ports").list()
	for _, item := range ports {
		o, ok := item.object()
		if !ok {
			continue
		}
		np := policy.NamedPort{Proto: datapath.ProtoTCP}
		if s, ok := o.get("protocol").text(); ok {
			if np.Proto, ok = transport(s); !ok {
				o.get("protocol").bad("unknown protocol %q; allowed: TCP, UDP, SCTP", clip(s))
				continue
			}
		}
		if s, ok := o.get("name").text(); ok && s != "" {
			if !validPortName(s, 15) {
				o.get("name").bad("%q is not a port name; want at most 15 letters, digits and '-' with a letter in it", clip(s))
			}
			np.Name = s
		}
		if o.get("containerPort").absent() {
			o.get("containerPort").bad("missing; want a number from 1 to 65535")
		}
		if n, ok := o.get("containerPort").integer(1, 65535); ok {
			np.Port = uint16(n)
			p.Ports = append(p.Ports, np)
			if hp, ok := hostPort(o, np); ok && !p.HostNetwork {
				p.HostPorts = append(p.HostPorts, hp)
			}
		}
	}
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// hostPort reads at which port and address of the node a container's port is to be reached. Of the loopback
// addresses those are served that the node has.
func hostPort(o object, to policy.NamedPort) (p cluster.HostPort, ok bool) {
	n, _ := o.get("hostPort").integer(0, 65535)
	p = cluster.HostPort{Port: uint16(n), To: to.Port, Proto: to.Proto}
	if s, _ := o.get("hostIP").text(); s != "" {
		a, err := netip.ParseAddr(s)
		if err != nil {
			o.get("hostIP").bad(`%q is not an address; want one like "192.0.2.1" or "2001:db8::1"`, clip(s))
			return p, false
		}
		if p.IP = a.Unmap().WithZone(""); p.IP.IsLoopback() && p.IP != loopback4 && p.IP != netip.IPv6Loopback() && n != 0 {
			o.get("hostIP").warn("of the loopback addresses only 127.0.0.1 and ::1 have host ports")
			return p, false
		}
	}
	return p, n != 0
}

func readPodStatus(p *cluster.Pod, status object) {
	ips, _ := status.get("podIPs").list()
	for _, item := range ips {
		if o, ok := item.object(); ok {
			if a, ok := o.get("ip").addr(); ok {
				p.IPs = addAddr(p.IPs, a)
			}
		}
	}
	if a, ok := status.get("podIP").addr(); ok && len(p.IPs) == 0 {
		p.IPs = addAddr(p.IPs, a)
	}
	if p.HostNetwork && len(p.IPs) == 0 {
		if a, ok := status.get("hostIP").addr(); ok {
			p.IPs = addAddr(p.IPs, a)
		}
	}
	switch phase, _ := status.get("phase").text(); phase {
	case "Succeeded", "Failed":
		p.Finished, p.Ready = true, false
	}
	conditions, _ := status.get("conditions").list()
	for _, c := range conditions {
		o, ok := c.object()
		if !ok {
			continue
		}
		t, _ := o.get("type").text()
		if s, _ := o.get("status").text(); t == "Ready" && s != "True" {
			p.Ready = false
		}
	}
}
