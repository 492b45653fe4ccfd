// Package identity names the security identities that policies judge: one number for each distinct
// set of labels. The numbers follow Cilium's, so that dashboards and runbooks keep their meaning.
package identity

import (
	"net/netip"
	"strconv"

	"github.com/weirnet/weir/core/labels"
)

// ID is a numeric security identity.
type ID uint32

// Reserved identities.
const (
	Unknown       ID = 0
	Host          ID = 1
	World         ID = 2
	Unmanaged     ID = 3
	Health        ID = 4
	Init          ID = 5
	RemoteNode    ID = 6
	KubeAPIServer ID = 7
	Ingress       ID = 8
	WorldIPv4     ID = 9
	WorldIPv6     ID = 10
)

// Ranges of allocated identities.
const (
	MinCluster ID = 256   // first identity that a cluster allocates
	MaxCluster ID = 65535 // last identity that a cluster allocates
	LocalFlag  ID = 1 << 24
	MinLocal   ID = LocalFlag // node-local identities: prefixes of CIDR rules
	MaxLocal   ID = LocalFlag | 0xffff
)

var reservedNames = map[ID]string{
	Unknown: "unknown", Host: "host", World: "world", Unmanaged: "unmanaged", Health: "health",
	Init: "init", RemoteNode: "remote-node", KubeAPIServer: "kube-apiserver", Ingress: "ingress",
	WorldIPv4: "world-ipv4", WorldIPv6: "world-ipv6",
}

// String gives the name of a reserved identity and the decimal number of any other.
func (id ID) String() string {
	if n, ok := reservedNames[id]; ok {
		return n
	}
	return strconv.FormatUint(uint64(id), 10)
}

// IsReserved says whether the identity has a fixed meaning.
func (id ID) IsReserved() bool { _, ok := reservedNames[id]; return ok }

// IsLocal says whether the identity stands for a prefix and has a meaning on this node only.
func (id ID) IsLocal() bool { return id >= MinLocal && id <= MaxLocal }

// IsCluster says whether the identity was allocated for labels and is valid on every node.
func (id ID) IsCluster() bool { return id >= MinCluster && id <= MaxCluster }

// Identity is a number with what it stands for. Prefix is set for node-local identities and for
// world-ipv4 (0.0.0.0/0) and world-ipv6 (::/0), and invalid for all others.
type Identity struct {
	ID     ID
	Labels labels.Set
	Prefix netip.Prefix
}

// Reserved returns the reserved identities but Unknown, in order of number.
func Reserved() []Identity {
	out := make([]Identity, 0, len(reservedNames))
	for id := Host; id <= WorldIPv6; id++ {
		out = append(out, ReservedIdentity(id))
	}
	return out
}

// ReservedIdentity describes one reserved identity. world-ipv4 and world-ipv6 also carry
// reserved:world: who selects the world selects both families. kube-apiserver stands for other nodes
// that serve the API and also carries reserved:remote-node. Where this node serves it, host is
// ReservedIdentity(Host).ServingAPI().
func ReservedIdentity(id ID) Identity {
	i := Identity{ID: id}
	ls := []labels.Label{{Source: labels.SourceReserved, Key: id.String()}}
	switch id {
	case WorldIPv4:
		i.Prefix = netip.MustParsePrefix("0.0.0.0/0")
	case WorldIPv6:
		i.Prefix = netip.MustParsePrefix("::/0")
	}
	if i.Prefix.IsValid() {
		ls = append(ls, labels.Label{Source: labels.SourceReserved, Key: World.String()})
	}
	if id == KubeAPIServer {
		ls = append(ls, labels.Label{Source: labels.SourceReserved, Key: RemoteNode.String()})
	}
	i.Labels = labels.NewSet(ls...)
	return i
}

// ForPrefix describes the node-local identity of a prefix named by a CIDR rule.
func ForPrefix(id ID, p netip.Prefix) Identity {
	world := WorldIPv6
	if p.Addr().Is4() {
		world = WorldIPv4
	}
	return Identity{ID: id, Prefix: p, Labels: labels.NewSet(
		labels.Label{Source: labels.SourceCIDR, Key: p.String()},
		labels.Label{Source: labels.SourceReserved, Key: World.String()},
		labels.Label{Source: labels.SourceReserved, Key: world.String()},
	)}
}

// ServingAPI describes the same identity as one of the cluster's API servers: policies about those match it, too.
func (i Identity) ServingAPI() Identity {
	i.Labels = labels.NewSet(append(i.Labels.All(), labels.Label{Source: labels.SourceReserved, Key: KubeAPIServer.String()})...)
	return i
}
