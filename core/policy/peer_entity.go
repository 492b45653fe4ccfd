package policy

import (
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// entityPeer matches the identities that carry the entity's reserved label; "cluster" stands for all
// that is in the cluster.
type entityPeer Entity

// clusterEntities are the reserved members of entity "cluster".
var clusterEntities = []identity.ID{
	identity.Host, identity.RemoteNode, identity.Init, identity.Unmanaged, identity.Health,
	identity.KubeAPIServer, identity.Ingress,
}

func (p entityPeer) key() string { return joinKey("entity", string(p)) }

func (p entityPeer) matches(id *identity.Identity) bool {
	if Entity(p) != EntityCluster {
		return id.Labels.Has(labels.SourceReserved, string(p))
	}
	if id.Labels.Has(labels.SourceK8s, labels.KeyCluster) {
		return true
	}
	for _, r := range clusterEntities {
		if id.Labels.Has(labels.SourceReserved, r.String()) {
			return true
		}
	}
	return false
}

func (p entityPeer) index(x *peerIndex, a *atom)   { x.entities[Entity(p)] = a }
func (p entityPeer) unindex(x *peerIndex, _ *atom) { delete(x.entities, Entity(p)) }

func (p entityPeer) candidates(x *identityIndex, visit func(*member)) {
	if Entity(p) == EntityCluster {
		for _, m := range x.all {
			visit(m)
		}
		return
	}
	for _, m := range x.byLabel[pair{string(p), ""}] {
		visit(m)
	}
}
