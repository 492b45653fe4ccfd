package main

// runtimeMutants change how operations reach the kernel and what a restart does.
var runtimeMutants = []mutant{
	{
		name: "runtime/retry-dropped", file: "adapters/runtime/executor.go", by: inRuntime,
		old: "x.stuck.fail(now, err)\n\t\t\tbreak",
		new: "x.stuck.fail(now, err)\n\t\t\tdone++\n\t\t\tbreak",
		why: "a write that failed once is never made",
	},
	{
		name: "runtime/order-not-kept", file: "adapters/runtime/executor.go", by: inRuntime,
		old: "x.stuck.fail(now, err)\n\t\t\tbreak",
		new: "x.stuck.fail(now, err)\n\t\t\tdone++\n\t\t\tdefer func() { x.security = append(x.security, op) }()\n\t\t\tcontinue",
		why: "what depends on a write that failed is written before it",
	},
	{
		name: "runtime/service-retry-dropped", file: "adapters/runtime/services.go", by: inRuntime,
		old: "r.stall.fail(now, err)",
		new: "x.drop(r)",
		why: "a service's row that failed once is never written",
	},
	{
		name: "runtime/rows-behind-a-failure", file: "adapters/runtime/services.go", by: inRuntime,
		old: "for _, r := range rows[:n] {",
		new: "for _, r := range rows[:len(rows)-n] {",
		why: "of rows that are written together, those behind one that failed count as written",
	},
	{
		name: "filestore/gone-at-once", file: "adapters/filestore/watch.go", by: tests("./adapters/filestore"),
		old: "delete(changed, rel)\n\t\t\tw.unsettled[rel] = true",
		new: "_ = rel",
		why: "a policy is out of force while an editor exchanges its file",
	},
	{
		name: "runtime/stale-service-wish", file: "adapters/runtime/executor.go", by: inRuntime,
		old: "case ok:\n\t\tr.op = op",
		new: "case ok:",
		why: "of two wishes for a row that waits the older one is written",
	},
	{
		name: "runtime/slot-before-its-backend", file: "adapters/runtime/services.go", by: inRuntime,
		old: "return func(op engine.Op) bool { return x.wishesPut(engine.Backends, op.Row) }",
		new: "return func(op engine.Op) bool { return x.wishesPut(engine.Services, op.Row) }",
		why: "a slot names a backend whose write failed",
	},
	{
		name: "runtime/service-before-its-slots", file: "adapters/runtime/services.go", by: inRuntime,
		old: "for slot := uint32(1); ok && slot <= s.Count; slot++ {",
		new: "for slot := uint32(1); ok && slot < s.Count; slot++ {",
		why: "a service counts a slot whose write failed",
	},
	{
		name: "runtime/backend-goes-first", file: "adapters/runtime/services.go", by: inRuntime,
		old: "return func(op engine.Op) bool { return all || named[op.Key.(uint32)] }",
		new: "return func(op engine.Op) bool { return all && named[op.Key.(uint32)] }",
		why: "a backend goes while a slot that could not be changed names it",
	},
	{
		name: "runtime/prunes-wanted-rows", file: "adapters/runtime/adopt.go", by: inRuntime,
		old: "if k.table == table && !a.want[k] {",
		new: "if k.table == table {",
		why: "a restarted agent deletes rows that are as they should be",
	},
	{
		name: "runtime/prunes-nothing", file: "adapters/runtime/adopt.go", by: inRuntime,
		old: "if k.table == table && !a.want[k] {",
		new: "if k.table == table && k.key == nil {",
		why: "what changed while the agent was down stays in the kernel",
	},
	{
		name: "runtime/prune-order", file: "adapters/runtime/adopt.go", by: inRuntime,
		old: "engine.EndpointPolicy, engine.Services, engine.Slots,\n\t\tengine.Backends, engine.Nodes,",
		new: "engine.EndpointPolicy, engine.Backends, engine.Slots,\n\t\tengine.Services, engine.Nodes,",
		why: "a backend is pruned while slots name it",
	},
	{
		name: "runtime/prune-before-live", file: "adapters/runtime/agent.go", by: inRuntime,
		old: "if a.engine.Live() && a.exec.adoption != nil && a.exec.settled() {",
		new: "if a.exec.adoption != nil && a.exec.settled() {",
		why: "a restarted agent prunes everything before it knows what is wanted",
	},
	{
		name: "runtime/prune-before-settled", file: "adapters/runtime/agent.go", by: inRuntime,
		old: "a.exec.adoption != nil && a.exec.settled() {",
		new: "a.exec.adoption != nil {",
		why: "the old rows go while the new ones are not written yet",
	},
	{
		name: "runtime/adopted-row-of-other-content", file: "adapters/runtime/adopt.go", by: inRuntime,
		old: "if ok && op.Row != nil && have == op.Row {",
		new: "if ok && op.Row != nil && have != nil {",
		why: "a row that a predecessor left with other content is taken for the wanted one",
	},
	{
		name: "runtime/adopted-row-remembered-too-long", file: "adapters/runtime/adopt.go", by: inRuntime,
		old: "delete(a.have, k)\n\treturn false",
		new: "return false",
		why: "a row that was changed and changed back is taken for written",
	},
	{
		name: "runtime/activate-does-not-wait", file: "adapters/runtime/endpoints.go", by: inRuntime,
		old: "case len(a.exec.security) > 0:",
		new: "case len(a.exec.security) > 0 && s.Identity == identity.Unknown:",
		why: "ADD returns before the pod's policy is in the kernel",
	},
	{
		name: "runtime/id-reused-at-once", file: "adapters/runtime/endpoints.go", by: inRuntime,
		old: "last := a.lastID\n",
		new: "last := datapath.EndpointID(0)\n",
		why: "a new pod has the endpoint id that flows of a deleted one still mean",
	},
	{
		name: "runtime/address-kept-after-release", file: "adapters/runtime/endpoints.go", by: inRuntime,
		old: "a.pool.Release(owner(*att))\n\tdelete(a.attached, key)",
		new: "delete(a.attached, key)",
		why: "addresses leak until the range is empty",
	},
	{
		name: "runtime/ready-before-adopted", file: "adapters/runtime/agent.go", by: inRuntime,
		old: "a.keepMasquerade(now)\n\t\t\ta.ready.Store(true)",
		new: "a.keepMasquerade(now)",
		why: "an agent that works says that it is not ready",
	},
	{
		name: "runtime/published-wish-lost", file: "adapters/runtime/wishes.go", by: inRuntime,
		old: "w.putBack(op)\n\t\tif ctx.Err() != nil {",
		new: "if ctx.Err() != nil {",
		why: "an endpoint whose publication failed once stays unknown to other nodes",
	},
	{
		name: "runtime/rebase-deletes-policies-in-force", file: "adapters/runtime/executor.go", by: inRuntime,
		old: "if !inForce[r.Key.Policy] {\n\t\t\tif err := t.Policy.Delete(r.Key); err != nil {\n\t\t\t\treturn err\n",
		new: "if inForce[r.Key.Policy] {\n\t\t\tif err := t.Policy.Delete(r.Key); err != nil {\n\t\t\t\treturn err\n",
		why: "a full table makes room by deleting the policies in force",
	},
	{
		name: "runtime/loss-not-recorded", file: "adapters/runtime/flows.go", by: inRuntime,
		old: "if kernel > r.kernel {",
		new: "if kernel > r.kernel+1<<40 {",
		why: "observers are not told that events were lost",
	},
	{
		name: "runtime/removed-before-pruning", file: "adapters/runtime/adopt.go", by: inRuntime,
		old: "return ok && op.Row == nil && op.Table != engine.Services",
		new: "return ok && op.Row == nil && op.Table == engine.Table(0)",
		why: "a slot goes while a service of the predecessor still counts it",
	},
}
