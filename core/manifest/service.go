package manifest

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/lb"
)

// derivation is what it takes to find a service's backends among pods.
type derivation struct {
	selector []label // sorted by key; empty: the backends are not weir's to find
	ports    []servicePort
	// v4 and v6 are the families of the service's addresses; both if it has none.
	v4, v6   bool
	notReady bool // also pods that are not ready
}

// label that a pod must have.
type label struct{ key, value string }

type servicePort struct {
	name       string
	proto      uint8
	target     uint16 // 0: targetName counts
	targetName string
}

const lbAlgorithm = "service.cilium.io/lb-algorithm"

func readService(r *report, md metadata, top object) body {
	b := serviceBody{service: lb.Service{Name: lb.Name{Namespace: md.namespace, Name: md.name}, Algorithm: lb.Random}}
	switch a := md.annotations[lbAlgorithm]; a {
	case "", string(lb.Random):
	case string(lb.Maglev):
		b.service.Algorithm = lb.Maglev
	default:
		r.warn(`metadata.annotations["`+lbAlgorithm+`"]`, "unknown algorithm %q, random is used; allowed: random, maglev", clip(a))
	}
	spec, ok := top.get("spec").object()
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing")
		}
		return b
	}
	kind, _ := spec.get("type").passing()
	switch kind {
	case "", "ClusterIP", "NodePort", "LoadBalancer":
	case "ExternalName":
		return b
	default:
		spec.get("type").bad("unknown type %q; allowed: ClusterIP, NodePort, LoadBalancer, ExternalName", clip(kind))
	}
	b.service.Affinity = readAffinity(spec)
	selector := spec.get("selector").labelMap()
	for _, k := range sortedKeys(selector) {
		b.derive.selector = append(b.derive.selector, label{k, selector[k]})
	}
	b.derive.notReady, _ = spec.get("publishNotReadyAddresses").flag()
	ports := readServicePorts(spec)
	for _, p := range ports {
		b.derive.ports = append(b.derive.ports, p.servicePort)
	}
	vips, headless := clusterIPs(spec)
	b.derive.v4, b.derive.v6 = families(vips)
	add := func(addrs []netip.Addr, t lb.Type) {
		for _, a := range addrs {
			for _, p := range ports {
				b.service.Frontends = append(b.service.Frontends, lb.Frontend{Addr: a, Port: p.port, Proto: p.proto, PortName: p.name, Type: t})
			}
		}
	}
	if headless || otherProxy(md) {
		return b
	}
	add(vips, lb.ClusterIP)
	items, _ := spec.get("externalIPs").list()
	add(addrs(items), lb.ExternalIPs)
	if kind == "LoadBalancer" {
		add(loadBalancerIPs(spec, top), lb.LoadBalancer)
	}
	if kind == "NodePort" || kind == "LoadBalancer" {
		readNodePorts(&b, ports, spec, kind)
	}
	b.service.InternalLocal = isLocal(spec.get("internalTrafficPolicy"))
	b.service.ExternalLocal = isLocal(spec.get("externalTrafficPolicy"))
	if kind == "LoadBalancer" && b.service.ExternalLocal {
		n, _ := spec.get("healthCheckNodePort").integer(0, 65535)
		b.service.HealthCheckPort = uint16(n)
	}
	if len(b.service.Frontends) == 0 && spec.get("clusterIP").absent() && spec.get("clusterIPs").absent() {
		spec.get("clusterIP").warn("missing, and nothing assigns one: the service can't be reached; name an address, or None")
	}
	return b
}

// otherProxy says whether a service, or a slice of its endpoints, is labelled as somebody else's to serve, or nobody's.
func otherProxy(md metadata) bool {
	_, proxy := md.labels["service.kubernetes.io/service-proxy-name"]
	_, headless := md.labels["service.kubernetes.io/headless"]
	return proxy || headless
}

// readNodePorts adds the ports at the nodes' addresses, in the service's families. A load balancer's service
// need not have any.
func readNodePorts(b *serviceBody, ports []frontendPort, spec object, kind string) {
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if a.Is4() && !b.derive.v4 || a.Is6() && !b.derive.v6 {
			continue
		}
		for _, p := range ports {
			if p.nodePort != 0 {
				b.service.Frontends = append(b.service.Frontends,
					lb.Frontend{Addr: a, Port: p.nodePort, Proto: p.proto, PortName: p.name, Type: lb.NodePort})
			}
		}
	}
	for _, p := range ports {
		if p.nodePort == 0 && kind == "NodePort" {
			spec.get("ports").warn("port %d has no nodePort, and nothing assigns one", p.port)
		}
	}
}

// isLocal reads a traffic policy.
func isLocal(policy value) bool {
	switch s, _ := policy.passing(); s {
	case "", "Cluster":
	case "Local":
		return true
	default:
		policy.bad("unknown traffic policy %q; allowed: Cluster, Local", clip(s))
	}
	return false
}

func families(vips []netip.Addr) (v4, v6 bool) {
	for _, a := range vips {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	if !v4 && !v6 {
		return true, true
	}
	return v4, v6
}

// clusterIPs reads both spellings. The list counts if it is there.
func clusterIPs(spec object) (vips []netip.Addr, headless bool) {
	items, _ := spec.get("clusterIPs").list()
	if len(items) == 0 && !spec.get("clusterIP").absent() {
		items = []value{spec.get("clusterIP")}
	}
	if len(items) > 0 && items[0].raw == "None" {
		return nil, true
	}
	return addrs(items), false
}

// loadBalancerIPs are the addresses that were assigned to the service. With source ranges they would
// have to be closed to everyone else, so they are left out.
func loadBalancerIPs(spec, top object) []netip.Addr {
	if ranges, _ := spec.get("loadBalancerSourceRanges").list(); len(ranges) > 0 {
		spec.get("loadBalancerSourceRanges").warn("not supported; the load balancer's addresses are not served")
		return nil
	}
	status, _ := top.get("status").object()
	balancer, _ := status.get("loadBalancer").object()
	items, _ := balancer.get("ingress").list()
	var out []netip.Addr
	for _, item := range items {
		if o, ok := item.object(); ok {
			if mode, _ := o.get("ipMode").passing(); mode == "Proxy" {
				continue // the balancer wants to see everything, and comes by node ports
			}
			if a, ok := o.get("ip").addr(); ok {
				out = addAddr(out, a)
			}
		}
	}
	return out
}

func readAffinity(spec object) time.Duration {
	switch s, _ := spec.get("sessionAffinity").passing(); s {
	case "", "None":
		return 0
	case "ClientIP":
	default:
		spec.get("sessionAffinity").bad("unknown affinity %q; allowed: None, ClientIP", clip(s))
		return 0
	}
	const standard, longest = 10800, 86400 // seconds: three hours, one day
	config, _ := spec.get("sessionAffinityConfig").object()
	client, _ := config.get("clientIP").object()
	if n, ok := client.get("timeoutSeconds").integer(1, longest); ok {
		return time.Duration(n) * time.Second
	}
	return standard * time.Second
}

type frontendPort struct {
	servicePort
	port     uint16
	nodePort uint16 // 0: none
}

func readServicePorts(spec object) []frontendPort {
	items, _ := spec.get("ports").list()
	var out []frontendPort
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		p := frontendPort{servicePort: servicePort{proto: datapath.ProtoTCP}}
		p.name, _ = o.get("name").word()
		if s, ok := o.get("protocol").passing(); ok {
			if p.proto, ok = transport(s); !ok {
				o.get("protocol").bad("unknown protocol %q; allowed: TCP, UDP, SCTP", clip(s))
			}
		}
		if o.get("port").absent() {
			o.get("port").bad("missing; want a number from 1 to 65535")
		}
		n, _ := o.get("port").integer(1, 65535)
		p.port, p.target = uint16(n), uint16(n)
		n, _ = o.get("nodePort").integer(0, 65535)
		p.nodePort = uint16(n)
		target := o.get("targetPort")
		switch raw := target.raw.(type) {
		case nil:
		case json.Number:
			if n, ok := target.integer(0, 65535); ok && n != 0 {
				p.target = uint16(n)
			}
		case string:
			if raw != "" && !validPortName(raw, 15) {
				target.bad("%q is not a port; want a number from 1 to 65535, unquoted, or the name of a container port", clip(raw))
			}
			if raw != "" {
				p.target, p.targetName = 0, strings.Clone(raw)
			}
		default:
			target.wrongType("a port number or name")
		}
		out = append(out, p)
	}
	return out
}

const serviceNameLabel = "kubernetes.io/service-name"

func readEndpointSlice(r *report, md metadata, top object) body {
	service := md.labels[serviceNameLabel]
	b := sliceBody{lb.Slice{Service: lb.Name{Namespace: md.namespace, Name: service}, Name: md.name}}
	if service == "" {
		r.bad(`metadata.labels["`+serviceNameLabel+`"]`, "missing; want the name of the service that the endpoints are of")
	}
	if otherProxy(md) {
		return b
	}
	family, _ := top.get("addressType").passing()
	switch family {
	case "IPv4", "IPv6":
	case "FQDN":
		top.get("addressType").warn("endpoints by DNS name are not used; allowed: IPv4, IPv6")
		return b
	default:
		top.get("addressType").bad("%q is no address type; allowed: IPv4, IPv6", clip(family))
	}
	ports := readSlicePorts(top)
	items, _ := top.get("endpoints").list()
	b.slice.Backends = make([]lb.Backend, 0, len(items)*len(ports))
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		state, serves := sliceState(o)
		node, _ := o.get("nodeName").word()
		zones, nodes := sliceHints(o)
		list, _ := o.get("addresses").list()
		for _, item := range list {
			a, ok := item.addr()
			if ok && a.Is4() != (family == "IPv4") {
				item.bad("%s is not an %s address, as addressType says", a, family)
			}
			if !ok || !serves {
				continue
			}
			for _, p := range ports {
				p.Addr, p.Node, p.State, p.ForZones, p.ForNodes = a, node, state, zones, nodes
				b.slice.Backends = append(b.slice.Backends, p)
			}
		}
	}
	return b
}

// sliceState reads an endpoint's conditions by the API's defaults: ready unless it says no, serving
// as ready, terminating only if it says so. One that is ready although it terminates is of a service
// that publishes whatever there is (publishNotReadyAddresses), and is used as any other.
func sliceState(endpoint object) (state lb.State, serves bool) {
	c, _ := endpoint.get("conditions").object()
	ready, ok := c.get("ready").flag()
	ready = ready || !ok
	serving, ok := c.get("serving").flag()
	if !ok {
		serving = ready
	}
	terminating, _ := c.get("terminating").flag()
	if terminating && !ready {
		return lb.Terminating, serving
	}
	return lb.Active, ready
}

// sliceHints reads for whose clients an endpoint is meant.
func sliceHints(endpoint object) (zones, nodes lb.Hints) {
	if endpoint.get("hints").absent() {
		return zones, nodes
	}
	hints, _ := endpoint.get("hints").object()
	read := func(field string) lb.Hints {
		items, _ := hints.get(field).list()
		names := make([]string, 0, len(items))
		for _, item := range items {
			if o, ok := item.object(); ok {
				n, _ := o.get("name").word()
				names = append(names, n)
			}
		}
		return lb.NewHints(names...)
	}
	return read("forZones"), read("forNodes")
}

// readSlicePorts makes a backend for each port, still without an address.
func readSlicePorts(top object) []lb.Backend {
	items, _ := top.get("ports").list()
	var out []lb.Backend
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		p := lb.Backend{Proto: datapath.ProtoTCP, Weight: 1}
		p.PortName, _ = o.get("name").word()
		if s, ok := o.get("protocol").passing(); ok {
			if p.Proto, ok = transport(s); !ok {
				o.get("protocol").bad("unknown protocol %q; allowed: TCP, UDP, SCTP", clip(s))
			}
		}
		if o.get("port").absent() {
			o.get("port").warn("missing, so it is not used; want a number from 1 to 65535")
			continue
		}
		if n, ok := o.get("port").integer(1, 65535); ok {
			p.Port = uint16(n)
			out = append(out, p)
		}
	}
	return out
}
