package engine

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// adopt takes the kernel's state as the starting point: a generation and serial numbers that its
// rows do not use, epochs above its own, and the numbers its prefixes have.
func (e *Engine) adopt(a Adopted) {
	e.adopted = a
	// Epochs of endpoints that are gone are not in the tables, but may be in flow entries. The clock
	// (eighths of a second since 2024) is ahead of them as long as policies change less often.
	e.epoch = max(e.epoch, datapath.Epoch(uint32((e.now.UnixMilli()-1704067200000)/125)))
	for _, w := range a.EndpointPolicy {
		e.epoch = max(e.epoch, w.Epoch)
	}
	e.leftover = map[netip.Prefix]identity.ID{}
	for p, row := range a.IPCache {
		if !row.Identity.IsLocal() {
			continue
		}
		// An error means that another prefix has the number by now; this one gets a new one.
		if err := e.identities.local.Restore(row.Identity, p.String()); err == nil {
			e.leftover[p] = row.Identity
		}
	}
	e.generation, e.clean = e.chooseGeneration()
	before := e.compiler
	e.compiler = policy.NewCompiler(e.generation, a.MaxSerial%datapath.MaxPolicySerial+1)
	if before != nil {
		e.compiler.Remember(before)
	}
	for _, id := range identity.Reserved() {
		e.compiler.UpsertIdentity(e.reserved(id.ID), nil)
	}
	for _, id := range sortedKeys(e.identities.byID) {
		if k := e.identities.byID[id]; k.labels.Len() > 0 {
			e.compiler.UpsertIdentity(identity.Identity{ID: id, Labels: k.labels}, portList(k.ports))
		}
	}
	for _, p := range e.addresses.sortedPrefixes() {
		e.compiler.UpsertIdentity(e.prefixIdentity(e.addresses.prefixes[p].id, p), nil)
	}
	// The kernel goes on giving addresses the identities of prefixes that no rule names any more, until
	// their rows are pruned. The new policies must know them as well.
	for _, p := range e.leftoverPrefixes() {
		e.compiler.UpsertIdentity(identity.ForPrefix(e.leftover[p], p), nil)
	}
	for _, ref := range e.policyRefs() {
		e.compiler.UpsertPolicy(e.policies[ref])
	}
	for _, id := range sortedKeys(e.local) {
		if ep := e.local[id]; ep.identity != identity.Unknown {
			e.compiler.UpsertSubject(id, ep.labels, namedOnly(ep.ports))
		}
	}
}

// leftoverPrefixes are the prefixes of leftover that no rule names, sorted.
func (e *Engine) leftoverPrefixes() []netip.Prefix {
	var out []netip.Prefix
	for p := range e.leftover {
		if _, used := e.addresses.prefixes[p]; !used {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// Rebase gives up the policy operations that were returned and not executed, and returns operations
// that lead from what the kernel really holds to the desired policies, in a generation of their own.
func (e *Engine) Rebase(a Adopted) []Op {
	e.out = nil
	e.adopt(a)
	if e.live {
		e.out = append(e.out, e.clean...)
		for _, p := range e.addresses.sortedPrefixes() {
			e.inheritClasses(p, e.addresses.prefixes[p].id)
		}
		e.flushPolicy()
	}
	return e.done()
}

// inheritClasses gives a prefix's identity, in the generations that are still in force, the class
// that its addresses had before there was such an identity.
func (e *Engine) inheritClasses(p netip.Prefix, id identity.ID) {
	before := identity.WorldIPv6
	if p.Addr().Is4() {
		before = identity.WorldIPv4
	}
	for bits := p.Bits(); bits >= 0; bits-- {
		wider := netip.PrefixFrom(p.Addr(), bits).Masked()
		if row, ok := e.adopted.IPCache[wider]; ok {
			before = row.Identity
			break
		}
	}
	if before == id {
		return
	}
	for g := range uint8(datapath.GenerationCount) {
		if class := e.adopted.Classes[datapath.ClassKey{Generation: g, Identity: before}]; class != 0 {
			e.put(Classes, datapath.ClassKey{Generation: g, Identity: id}, class)
		}
	}
}

// upsertPolicy brings a policy in force. Its prefixes get their identities before, under the
// policies that exist, so that no packet meets an identity without a class.
func (e *Engine) upsertPolicy(p policy.Policy) {
	old, had := e.policies[p.Ref]
	fresh, err := e.usePrefixes(prefixesOf(p))
	if err != nil {
		e.problems[p.Ref] = err.Error()
		return // what was in force stays
	}
	delete(e.problems, p.Ref)
	if len(fresh) > 0 {
		e.flushPolicy()
		// Longer prefixes first: an exception is in place before the range it is cut out of.
		slices.SortStableFunc(fresh, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
		for _, f := range fresh {
			e.emitPrefix(f)
		}
	}
	e.policies[p.Ref] = p
	e.revision++
	e.compiler.UpsertPolicy(p)
	e.flushPolicy()
	if had {
		e.dropPrefixes(prefixesOf(old))
	}
}

func (e *Engine) deletePolicy(ref policy.Ref) {
	delete(e.problems, ref)
	old, ok := e.policies[ref]
	if !ok {
		return
	}
	delete(e.policies, ref)
	e.revision++
	e.compiler.DeletePolicy(ref)
	e.flushPolicy()
	e.dropPrefixes(prefixesOf(old))
}

// flushPolicy turns the compiler's operations into ours and says which endpoints got a new policy.
func (e *Engine) flushPolicy() map[datapath.EndpointID]bool {
	if !e.live {
		return nil
	}
	flipped := map[datapath.EndpointID]bool{}
	for _, op := range e.compiler.Flush() {
		switch op := op.(type) {
		case policy.PutRow:
			e.put(Policy, op.Key, op.Row)
		case policy.DeleteRow:
			e.remove(Policy, op.Key)
		case policy.SetClass:
			if op.Class == 0 {
				e.remove(Classes, op.Key)
			} else {
				e.put(Classes, op.Key, op.Class)
			}
		case policy.SetPolicy:
			flipped[op.Endpoint] = true
			if op.Policy == 0 {
				e.remove(EndpointPolicy, op.Endpoint)
			} else {
				e.put(EndpointPolicy, op.Endpoint, datapath.EndpointPolicy{Policy: op.Policy, Epoch: e.nextEpoch()})
			}
		}
	}
	e.publishEnforcement(flipped)
	return flipped
}

// publishEnforcement tells the cluster which of the endpoints with a new policy are isolated now and were not, or
// the other way round: few changes of policies are of that kind, and each costs a write.
func (e *Engine) publishEnforcement(flipped map[datapath.EndpointID]bool) {
	for _, id := range sortedKeys(flipped) {
		ep, ok := e.local[id]
		if !ok || !ep.published || e.localByPod[ep.pod] != id {
			continue
		}
		if in, out := e.compiler.Enforced(id); in != ep.ingress || out != ep.egress {
			e.publishEndpoint(ep)
		}
	}
}

// usePrefixes counts references and gives new prefixes an identity; it returns those.
func (e *Engine) usePrefixes(ps []netip.Prefix) ([]netip.Prefix, error) {
	var fresh []netip.Prefix
	for _, p := range ps {
		c, ok := e.addresses.prefixes[p]
		if !ok {
			id, _, err := e.identities.local.Acquire(p.String(), e.now)
			if err != nil {
				e.dropPrefixes(fresh)
				return nil, err
			}
			c.id = id
			e.addresses.prefixOf[id] = p
			fresh = append(fresh, p)
			e.compiler.UpsertIdentity(e.prefixIdentity(id, p), nil)
		}
		e.addresses.prefixes[p] = c
	}
	for _, p := range ps {
		c := e.addresses.prefixes[p]
		c.refs++
		e.addresses.prefixes[p] = c
	}
	return fresh, nil
}

func (e *Engine) dropPrefixes(ps []netip.Prefix) {
	gone := false
	for _, p := range ps {
		c := e.addresses.prefixes[p]
		if c.refs--; c.refs > 0 {
			e.addresses.prefixes[p] = c
			continue
		}
		delete(e.addresses.prefixes, p)
		delete(e.addresses.prefixOf, c.id)
		e.emitPrefix(p)
		if _, ok := e.leftover[p]; !ok || e.live { // else the kernel still holds the row
			delete(e.leftover, p)
			e.compiler.DeleteIdentity(c.id)
		}
		e.identities.local.Release(p.String(), e.now)
		gone = true
	}
	if gone {
		e.flushPolicy()
	}
}

// prefixesOf lists the prefixes of a policy's CIDR rules, each once, sorted. The two prefixes of
// length 0 are the reserved identities world-ipv4 and world-ipv6.
func prefixesOf(p policy.Policy) []netip.Prefix {
	var out []netip.Prefix
	add := func(c netip.Prefix) {
		if c.IsValid() && c.Bits() > 0 {
			out = append(out, c.Masked())
		}
	}
	for _, s := range p.Specs {
		for _, r := range s.Rules {
			for _, peer := range r.Peers {
				add(peer.CIDR)
				for _, x := range peer.Except {
					add(x)
				}
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func (e *Engine) policyRefs() []policy.Ref {
	out := make([]policy.Ref, 0, len(e.policies))
	for r := range e.policies {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b policy.Ref) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	return out
}
