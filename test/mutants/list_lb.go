package main

// lbMutants change services.
var lbMutants = []mutant{
	{
		name: "lb/maglev-permutation", file: "core/lb/maglev.go", by: inLB,
		old: "skip:    uint32(hashString(seed^seedSkip, b.Name)%uint64(size-1)) + 1,",
		new: "skip:    1,",
		why: "all backends walk the table in the same order: a change moves many connections",
	},
	{
		name: "lb/maglev-order", file: "core/lb/maglev.go", by: inLB,
		old: "return cmp.Compare(backends[a].Name, backends[b].Name)",
		new: "return cmp.Compare(a, b)",
		why: "nodes that learnt of backends in another order have other tables",
	},
	{
		name: "lb/maglev-weight-ignored", file: "core/lb/maglev.go", by: inLB,
		old: "weight:  uint32(b.Weight),",
		new: "weight:  heaviest,",
		why: "all backends have the same share",
	},
	{
		name: "lb/weight-0-takes-connections", file: "core/lb/compiler.go", by: inLB,
		old: "if m.spec.State == state && m.spec.Weight > 0 && near(m.spec) {",
		new: "if m.spec.State == state && near(m.spec) {",
		why: "a backend that was taken out by weight 0 gets connections",
	},
	{
		name: "lb/slot-number", file: "core/lb/compiler.go", by: inLB,
		old: "ops = append(ops, PutSlot{datapath.SlotKey{Service: now.row.ID, Slot: uint32(i + 1)}, b.id})",
		new: "ops = append(ops, PutSlot{datapath.SlotKey{Service: now.row.ID, Slot: uint32(i)}, b.id})",
		why: "slots count from 0, the datapath from 1",
	},
	{
		name: "lb/slot-compared-by-place", file: "core/lb/compiler.go", by: inLB,
		old: "if i >= len(before) || before[i] != b {",
		new: "if i >= len(before) {",
		why: "a slot whose backend changed is not written",
	},
	{
		name: "lb/backends-in-order-of-arrival", file: "core/lb/members.go", by: inLB,
		old: "if o := a.Addr.Compare(b.Addr); o != 0 {\n\t\t\treturn o\n\t\t}\n\t\treturn cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.State, b.State),",
		new: "return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.State, b.State),",
		why: "the slots of a service depend on the order of news",
	},
	{
		name: "lb/backend-after-its-slots", file: "core/lb/compiler.go", by: inLB,
		old: "for _, ch := range changes {\n\t\tops = appendFrontend(ops, ch.key, ch.old, ch.new)",
		new: "for _, ch := range changes {\n\t\tops = append(appendFrontend(nil, ch.key, ch.old, ch.new), ops...)",
		why: "slots name backends that do not exist yet",
	},
	{
		name: "lb/service-before-its-slots", file: "core/lb/compiler.go", by: inLB,
		old: "for i, b := range now.slots {",
		new: "if old == nil {\n\t\tops = append(ops, PutService{key, now.row})\n\t}\n\tfor i, b := range now.slots {",
		why: "a service counts slots that do not exist yet",
	},
	{
		name: "lb/slots-go-before-the-service", file: "core/lb/compiler.go", by: inLB,
		old: "ops = append(ops, DeleteService{key})\n\t\treturn appendTrailing(ops, old.row.ID, 0, len(before))",
		new: "return append(appendTrailing(ops, old.row.ID, 0, len(before)), DeleteService{key})",
		why: "a service that is being deleted refuses connections instead of none",
	},
	{
		name: "lb/trailing-slots-stay", file: "core/lb/compiler.go", by: inLB,
		old: "return appendTrailing(ops, now.row.ID, len(now.slots), len(before))",
		new: "return ops",
		why: "slots of removed backends leak, and name backends that are gone",
	},
	{
		name: "lb/backend-released-early", file: "core/lb/compiler.go", by: inLB,
		old: "if b.slots--; b.slots == 0 {",
		new: "if b.slots--; b.slots <= 1 {",
		why: "a backend that another service still uses is deleted",
	},
	{
		name: "lb/terminating-preferred", file: "core/lb/select.go", by: inLB,
		old: "if b.State == Active {\n\t\t\treturn Active, true",
		new: "if b.State == Terminating {\n\t\t\treturn Terminating, true",
		why: "new connections go to pods that are shutting down",
	},
	{
		name: "lb/terminating-never", file: "core/lb/select.go", by: inLB,
		old: "return Terminating, found",
		new: "return Terminating, found && false",
		why: "a service whose pods all shut down refuses connections that they would take",
	},
	{
		name: "lb/family-mixed", file: "core/lb/members.go", by: inLB,
		old: "dialable(b.Addr, b.Port) && b.Addr.Is4() == g.is4 {",
		new: "dialable(b.Addr, b.Port) {",
		why: "an IPv4 frontend has IPv6 backends",
	},
	{
		name: "lb/port-name-ignored", file: "core/lb/members.go", by: inLB,
		old: "if b.PortName == g.portName && b.Proto == g.proto &&",
		new: "if b.Proto == g.proto &&",
		why: "connections to one port of a service reach another one's server",
	},
	{
		name: "lb/affinity-rounded-down", file: "core/lb/members.go", by: inLB,
		old: "if d%time.Second != 0 {",
		new: "if d%time.Second != 0 && s > 0 {",
		why: "an affinity below a second becomes none",
	},
	{
		name: "lb/state-of-overlapping-slices", file: "core/lb/members.go", by: inLB,
		old: "cmp.Compare(a.State, b.State),",
		new: "cmp.Compare(b.State, a.State),",
		why: "a backend that one slice calls active and another terminating gets no connections",
	},
	{
		name: "lb/conflict-winner", file: "core/lb/compiler.go", by: inLB,
		old: "at, _ := slices.BinarySearchFunc(list, cl, claim.compare)",
		new: "at := len(list)",
		why: "who gets a frontend that two services want depends on the order of news",
	},
	{
		name: "lb/unchanged-service-not-dirty", file: "core/lb/compiler.go", by: inLB,
		old: "case slices.Equal(svc.slices[at].backends, s.Backends):",
		new: "case len(svc.slices[at].backends) == len(s.Backends):",
		why: "a slice whose backends were replaced is taken for the same",
	},
	{
		name: "lb/moved-id-forgotten", file: "core/lb/ids.go", by: inLB,
		old: "if id != a.hash(k) {\n\t\ta.moved[k] = id\n\t}",
		new: "_ = a.moved",
		why: "a backend whose number another one had gets a second number when it is looked for",
	},
	{
		name: "lb/caller-changes-what-is-kept", file: "core/lb/compiler.go", by: inLB,
		old: "s.Backends = slices.Clone(s.Backends)\n\tc.TakeSlice(s)",
		new: "c.TakeSlice(s)",
		why: "a program that uses the library changes the backends in force by reusing its list",
	},
}
