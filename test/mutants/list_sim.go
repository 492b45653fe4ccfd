package main

// inSim is the simulation alone: at least one defect for each of its invariants has to fall within its
// ordinary seeds, whatever other tests say.
var inSim = suite{steps: []step{{"./test/sim", "-run", "Sim$", "-minimise=false"}}}

// simMutants break one promise of the whole each.
var simMutants = []mutant{
	{
		name: "sim/allowed-after-policy-change", file: "core/engine/policies.go", by: inSim,
		old: "Epoch: e.nextEpoch()})",
		new: "Epoch: e.epoch})",
		why: "established flows keep what an earlier policy decided",
	},
	{
		name: "sim/allowed-to-a-new-owner", file: "core/engine/addresses.go", by: inSim,
		old: "if p.IsSingleIP() {\n\t\te.put(AddrEpoch",
		new: "if p.IsSingleIP() && !p.IsValid() {\n\t\te.put(AddrEpoch",
		why: "flows with an address that changed hands lead to its new owner",
	},
	{
		name: "sim/allowed-before-rows", file: "adapters/runtime/agent.go", by: inSim,
		old: "a.wishes.add(op)\n\t\tcase engine.HealthChecks:\n",
		new: "a.wishes.add(op)\n\t\tcase engine.EndpointPolicy:\n\t\t\tkernel = append([]engine.Op{op}, kernel...)\n\t\tcase engine.HealthChecks:\n",
		why: "an endpoint is told to use a policy whose rows are not there",
	},
	{
		name: "sim/rows-of-gone-addresses", file: "core/engine/addresses.go", by: inSim,
		old: "e.remove(IPCache, p)",
		new: "_ = p",
		why: "an address keeps the identity of a pod that is gone",
	},
	{
		name: "sim/published-without-ports", file: "core/engine/endpoints.go", by: inSim,
		old: "Node: e.node, Ports: slices.Clone(ep.ports),",
		new: "Node: e.node,",
		why: "rules about named ports do not reach pods of other nodes",
	},
	{
		name: "sim/established-through-a-restart", file: "adapters/runtime/endpoints.go", by: inSim,
		old: "a.tellAttached(att, true)",
		new: "a.tellAttached(att, false)",
		why: "a restarted agent cuts pods whose identity it does not know yet",
	},
	{
		name: "sim/services-of-a-gone-slice", file: "core/lb/compiler.go", by: inSim,
		old: "svc.slices = slices.Delete(svc.slices, at, at+1)\n\tc.touch(service, svc)",
		new: "svc.slices = slices.Delete(svc.slices, at, at+1)",
		why: "a service leads to backends whose slice was deleted",
	},
	{
		name: "sim/reuse-while-flows-live", file: "adapters/runtime/agent.go", by: inSim,
		old: "cfg.IdentityGrace = engine.LocalQuarantine",
		new: "cfg.IdentityGrace = time.Minute",
		why: "a number means somebody else while flow entries have it",
	},
	{
		name: "sim/leaked-routes", file: "core/engine/nodes.go", by: inSim,
		old: "e.emitRoutes()\n\tfor _, a := range nodeAddresses(n) {\n\t\te.dropNodeAddress",
		new: "for _, a := range nodeAddresses(n) {\n\t\te.dropNodeAddress",
		why: "routes to a node that left stay",
	},
	{
		name: "sim/leaked-classes-of-a-predecessor", file: "adapters/runtime/adopt.go", by: inSim,
		old: "x.adoption.have[rowKey{op.Table, op.Key}] = op.Row",
		new: "_ = op",
		why: "classes that were written for a predecessor's policies stay for ever",
	},
	{
		name: "sim/liveness-without-addresses", file: "adapters/runtime/endpoints.go", by: inSim,
		old: "a.pool.Release(owner(*att))\n\tdelete(a.attached, key)",
		new: "delete(a.attached, key)",
		why: "addresses of pods that are gone are never given out again",
	},
	{
		name: "sim/cause-of-another-policy", file: "core/policy/outcome.go", by: inSim,
		old: "cookie(isolationName(dir, od.isolating), false, v)",
		new: "cookie(isolationName(dir, od.isolating[:1]), false, v)",
		why: "a drop names fewer policies than isolate the pod",
	},
	{
		name: "sim/promises-users-first", file: "adapters/runtime/adopt.go", by: inSim,
		old: "engine.EndpointPolicy, engine.Services, engine.Slots,\n\t\tengine.Backends,",
		new: "engine.EndpointPolicy, engine.Backends, engine.Slots,\n\t\tengine.Services,",
		why: "a restarted agent takes backends away that a predecessor's service still names",
	},
	{
		name: "sim/published-never-again", file: "adapters/runtime/wishes.go", by: inSim,
		old: "w.putBack(op)\n\t\tif ctx.Err()",
		new: "if op.Table != engine.Published {\n\t\t\tw.putBack(op)\n\t\t}\n\t\tif ctx.Err()",
		why: "an endpoint that could not be published once stays unpublished",
	},
}
