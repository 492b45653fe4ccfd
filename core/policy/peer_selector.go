package policy

import (
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// selectorPeer matches identities by their labels; without a positive requirement it leaves out the
// world (see Evaluate).
type selectorPeer struct {
	sel      labels.Selector
	positive bool
}

func newSelectorPeer(sel labels.Selector) selectorPeer {
	p := selectorPeer{sel: sel}
	for _, r := range sel.Requirements() {
		if r.Operator == labels.In || r.Operator == labels.Exists {
			p.positive = true
		}
	}
	return p
}

// isWorld says whether the identity stands for addresses outside the cluster.
func isWorld(id *identity.Identity) bool {
	return id.Labels.Has(labels.SourceReserved, identity.World.String())
}

func (p selectorPeer) key() string { return joinKey("selector", p.sel.Key()) }

func (p selectorPeer) matches(id *identity.Identity) bool {
	return p.sel.Matches(id.Labels) && (p.positive || !isWorld(id))
}

func (p selectorPeer) index(x *peerIndex, a *atom)   { x.selectors.add(p.sel, a) }
func (p selectorPeer) unindex(x *peerIndex, a *atom) { x.selectors.remove(a) }

// candidates takes the rarest label that the selector asks for.
func (p selectorPeer) candidates(x *identityIndex, visit func(*member)) {
	var best *labels.Requirement
	cost := len(x.all)
	reqs := p.sel.Requirements()
	for i := range reqs {
		if reqs[i].Operator != labels.In {
			continue
		}
		n := 0
		for _, v := range reqs[i].Values {
			n += len(x.byLabel[pair{reqs[i].Key, v}])
		}
		if best == nil || n < cost {
			best, cost = &reqs[i], n
		}
	}
	if best == nil {
		for _, m := range x.all {
			visit(m)
		}
		return
	}
	for _, v := range best.Values {
		for _, m := range x.byLabel[pair{best.Key, v}] {
			visit(m)
		}
	}
}
