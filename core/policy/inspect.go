package policy

import (
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// Rule says what a cookie stands for. Cookies of policies that went out of force keep their meaning
// until 4,096 younger ones have followed them, so that late events can be explained.
func (c *Compiler) Rule(cookie datapath.Cookie) (Verdict, bool) { return c.cookies.lookup(cookie) }

// Remember takes over the cookies of a compiler that this one replaces: until the kernel holds this one's
// rows, and for events that are still on their way, they have to be explained.
func (c *Compiler) Remember(old *Compiler) { c.cookies.remember(old.cookies) }

// Enforced says in which directions an endpoint is isolated, as of the last Flush; false for one that
// is not known.
func (c *Compiler) Enforced(ep datapath.EndpointID) (ingress, egress bool) {
	sub := c.subjects[ep]
	if sub == nil || sub.outcome == nil {
		return false, false
	}
	return sub.outcome.dirs[datapath.Ingress].isolated, sub.outcome.dirs[datapath.Egress].isolated
}

// PolicyOf is the policy id in force for an endpoint as of the last Flush; 0 if there is none.
func (c *Compiler) PolicyOf(ep datapath.EndpointID) datapath.PolicyID {
	sub := c.subjects[ep]
	if sub == nil || sub.outcome == nil {
		return 0
	}
	return sub.outcome.id
}

// ClassOf is the class of an identity as of the last Flush; 0 also for one that is not known.
func (c *Compiler) ClassOf(id identity.ID) datapath.Class {
	if m := c.identities.all[id]; m != nil {
		return m.class.number()
	}
	return 0
}

// Decide judges one packet by the rows as of the last Flush, as the kernel does: the longest match
// among the rows of the peer's class, or of class 0 if the peer's class has none. For an endpoint
// without a policy in force it refuses with NoteNotReady.
func (c *Compiler) Decide(ep datapath.EndpointID, dir datapath.Direction, peer identity.ID, proto uint8, port uint16) Verdict {
	sub := c.subjects[ep]
	if sub == nil || sub.outcome == nil {
		return Verdict{Note: NoteNotReady}
	}
	o := sub.outcome
	rows := o.base[dir]
	if t := o.rows[c.ClassOf(peer)]; t != nil && len(t[dir]) > 0 {
		rows = t[dir]
	}
	var best *row
	for i := range rows {
		r := &rows[i]
		if !r.key(0, 0, dir).Covers(proto, port) {
			continue
		}
		if best == nil || best.anyProto || !r.anyProto && r.bits > best.bits {
			best = r
		}
	}
	v, _ := c.Rule(best.Cookie)
	v.Allowed = best.Allow
	return v
}
