package manifest

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// NodeAnnotation, of a CiliumEndpoint, names its node; the rest of it holds the address of the node alone.
const NodeAnnotation = "weir/node"

func readCiliumIdentity(r *report, md metadata, top object) body {
	n, err := strconv.ParseUint(md.name, 10, 32)
	id := identity.ID(n)
	if md.name != "" && (err != nil || !id.IsCluster() || strconv.FormatUint(n, 10) != md.name) {
		r.bad("metadata.name", "%q is not the number of a cluster identity; allowed: %d to %d", clip(md.name), identity.MinCluster, identity.MaxCluster)
	}
	field := top.get("security-labels")
	m := field.textMap()
	if field.absent() || len(m) == 0 && !r.failed() {
		field.bad("missing; an identity stands for its labels")
	}
	ls := make([]labels.Label, 0, len(m))
	for _, k := range sortedKeys(m) {
		source, key, ok := strings.Cut(k, ":")
		if !ok || source != labels.SourceK8s || key == "" {
			field.bad(`%q is not a security label; want "k8s:" and a label key`, clip(k))
			continue
		}
		ls = append(ls, labels.Label{Source: source, Key: key, Value: m[k]})
	}
	return identityBody{id, labels.NewSet(ls...)}
}

func readCiliumEndpoint(r *report, md metadata, top object) body {
	e := cluster.Endpoint{Name: cluster.Name{Namespace: md.namespace, Name: md.name}, Node: md.annotations[NodeAnnotation]}
	status, ok := top.get("status").object()
	if !ok {
		if top.get("status").absent() {
			r.bad("status", "missing; an endpoint holds all it says there")
		}
		return endpointBody{e}
	}
	if n, ok := status.get("id").integer(0, 65535); ok {
		e.ID = uint16(n)
	}
	if o, ok := status.get("identity").object(); ok {
		n, _ := o.get("id").integer(0, 1<<32-1)
		e.Identity = identity.ID(n)
	}
	if o, ok := status.get("networking").object(); ok {
		e.IPs, e.NodeIP = readNetworking(o)
	}
	e.Ports = readEndpointPorts(status.get("named-ports"))
	return endpointBody{e}
}

// readNetworking reads an endpoint's addresses and its node's.
func readNetworking(o object) (ips []netip.Addr, node netip.Addr) {
	pairs, _ := o.get("addressing").list()
	for _, item := range pairs {
		if pair, ok := item.object(); ok {
			for _, family := range []string{"ipv4", "ipv6"} {
				if a, ok := pair.get(family).addr(); ok {
					ips = addAddr(ips, a)
				}
			}
		}
	}
	node, _ = o.get("node").addr()
	return ips, node
}

func readEndpointPorts(v value) []policy.NamedPort {
	var out []policy.NamedPort
	ports, _ := v.list()
	for _, item := range ports {
		if np, ok := readEndpointPort(item); ok {
			out = append(out, np)
		}
	}
	return out
}

func readEndpointPort(v value) (policy.NamedPort, bool) {
	o, ok := v.object()
	if !ok {
		return policy.NamedPort{}, false
	}
	var np policy.NamedPort
	np.Name, _ = o.get("name").text()
	proto, _ := o.get("protocol").text()
	if np.Proto, ok = transport(proto); !ok {
		o.get("protocol").bad("unknown protocol %q; allowed: TCP, UDP, SCTP", clip(proto))
	}
	n, inRange := o.get("port").integer(1, 65535)
	np.Port = uint16(n)
	return np, ok && inRange && np.Name != "" // without a name no rule can mean it
}

// first returns the first address of each family.
func first(list []netip.Addr) (v4, v6 netip.Addr) {
	for _, a := range list {
		if a.Is4() && !v4.IsValid() {
			v4 = a
		}
		if a.Is6() && !v6.IsValid() {
			v6 = a
		}
	}
	return v4, v6
}
