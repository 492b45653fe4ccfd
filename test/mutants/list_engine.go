package main

// engineMutants change what the engine tells the kernel, and when.
var engineMutants = []mutant{
	{
		name: "engine/relabel-without-epoch", file: "core/engine/endpoints.go", by: inEngine,
		old: "!flipped[ep.ID] && old != id && old != identity.Unknown {",
		new: "!flipped[ep.ID] && old == id {",
		why: "flows of a relabelled pod keep what was decided about the old labels",
	},
	{
		name: "engine/addr-epoch-skipped", file: "core/engine/addresses.go", by: inEngine,
		old: "e.put(AddrEpoch, p.Addr(), nil)",
		new: "_ = p.Addr()",
		why: "flows with an address that changed hands keep what was decided about the old owner",
	},
	{
		name: "engine/live-before-synced", file: "core/engine/engine.go", by: inEngine,
		old: "if !e.synced {",
		new: "if !e.synced && len(e.pods) == 0 {",
		why: "rows are pruned before the cluster's lists are complete",
	},
	{
		name: "engine/live-before-restored-identity", file: "core/engine/engine.go", by: inEngine,
		old: "if !ep.restored || ep.identity != identity.Unknown {",
		new: "if ep.restored || ep.identity != identity.Unknown {",
		why: "a restarted agent takes a pod's policy away before it knows the pod",
	},
	{
		name: "engine/operations-before-live", file: "core/engine/engine.go", by: inEngine,
		old: "if e.live || t == Identity || t == Published {",
		new: "if e.live || t == Identity || t == Published || t == Nodes {",
		why: "rows are written from half a list",
	},
	{
		name: "engine/ipcache-before-identity-known", file: "core/engine/addresses.go", by: inEngine,
		old: "if !e.identities.known(ep.Identity) {",
		new: "if !e.identities.known(ep.Identity) && ep.Identity == identity.Unknown {",
		why: "an address gets an identity that no policy has heard of",
	},
	{
		name: "engine/generation-reused", file: "core/engine/generations.go", by: inEngine,
		old: "if endpoints[i] < endpoints[g] ||",
		new: "if endpoints[i] > endpoints[g] ||",
		why: "a restarted agent writes its classes over those in force",
	},
	{
		name: "engine/epoch-below-predecessors", file: "core/engine/policies.go", by: inEngine,
		old: "e.epoch = max(e.epoch, w.Epoch)",
		new: "e.epoch = max(e.epoch, 0*w.Epoch)",
		why: "a new policy comes with an epoch that flow entries already have",
	},
	{
		name: "engine/serials-from-1", file: "core/engine/policies.go", by: inEngine,
		old: "a.MaxSerial%datapath.MaxPolicySerial+1)",
		new: "1)",
		why: "rows of a predecessor of the same generation mix with those of a new policy",
	},
	{
		name: "engine/no-local-quarantine", file: "core/engine/identities.go", by: inEngine,
		old: "identity.NewPool(identity.MinLocal, identity.MaxLocal, LocalQuarantine)",
		new: "identity.NewPool(identity.MinLocal, identity.MaxLocal, 0)",
		why: "a prefix's number means another prefix to flows that still live",
	},
	{
		name: "engine/exception-after-range", file: "core/engine/policies.go", by: inEngine,
		old: "return b.Bits() - a.Bits() })",
		new: "return a.Bits() - b.Bits() })",
		why: "for a moment an exception is judged like the range it is cut out of",
	},
	{
		name: "engine/prefix-without-class", file: "core/engine/policies.go", by: inEngine,
		old: "if len(fresh) > 0 {\n\t\te.flushPolicy()",
		new: "if len(fresh) > 0 {",
		why: "packets meet an identity that has no class yet",
	},
	{
		name: "engine/no-inherited-class", file: "core/engine/policies.go", by: inEngine,
		old: "e.put(Classes, datapath.ClassKey{Generation: g, Identity: id}, class)",
		new: "_ = class",
		why: "at a restart a new prefix is judged as nobody by the policies still in force",
	},
	{
		name: "engine/prefix-goes-while-named", file: "core/engine/policies.go", by: inEngine,
		old: "if c.refs--; c.refs > 0 {",
		new: "if c.refs--; c.refs > 1 {",
		why: "a prefix that another policy still names loses its identity",
	},
	{
		name: "engine/detached-pod-stays", file: "core/engine/endpoints.go", by: inEngine,
		old: "e.remove(Endpoints, ip)",
		new: "_ = ip",
		why: "the address of a deleted pod is still delivered to its interface",
	},
	{
		name: "engine/endpoint-before-policy", file: "core/engine/endpoints.go", by: inEngine,
		old: "if !e.live {\n\t\te.serveHostPorts(ep.pod)\n\t\treturn true\n\t}\n\tfor _, ip := range ep.IPs {",
		new: "if !e.live {\n\t\te.serveHostPorts(ep.pod)\n\t\treturn true\n\t}\n\te.emitEndpoint(ep)\n\tfor _, ip := range ep.IPs {",
		why: "a pod is reachable before its policy is in force",
	},
	{
		name: "engine/first-claim-wins", file: "core/engine/addresses.go", by: inEngine,
		old: "ep := cs[len(cs)-1]",
		new: "ep := cs[0]",
		why: "an address that moved to another pod keeps the old pod's identity",
	},
	{
		name: "engine/own-publication-counts", file: "core/engine/addresses.go", by: inEngine,
		old: "if ep.Node == e.node {",
		new: "if ep.Node == \"\" {",
		why: "what this node published itself comes back as somebody else's",
	},
	{
		name: "engine/tunnel-of-moved-node", file: "core/engine/nodes.go", by: inEngine,
		old: "if !known || !slices.Equal(old.Addresses, n.Addresses) {",
		new: "if !known {",
		why: "pods of a node that got another address are tunnelled to the old one",
	},
	{
		name: "engine/remote-node-as-host", file: "core/engine/addresses.go", by: inEngine,
		old: "row := datapath.IPCache{Identity: identity.RemoteNode}",
		new: "row := datapath.IPCache{Identity: identity.Host}",
		why: "other nodes pass every ingress policy as if they were this one",
	},
	{
		name: "engine/larger-number-wins", file: "core/engine/identities.go", by: inEngine,
		old: "!ok || id < cur {",
		new: "!ok || id > cur {",
		why: "nodes disagree on the identity of labels that got two numbers",
	},
	{
		name: "engine/identity-dropped-in-use", file: "core/engine/identities.go", by: inEngine,
		old: "if k.defined || len(k.users) > 0 {",
		new: "if k.defined {",
		why: "an identity whose object was deleted loses its class while pods have it",
	},
	{
		name: "engine/ports-of-an-identity", file: "core/engine/identities.go", by: inEngine,
		old: "if k.ports[p]--; k.ports[p] == 0 {",
		new: "if k.ports[p]--; k.ports[p] >= 0 {",
		why: "a named port vanishes with the first of the pods that declare it",
	},
	{
		name: "engine/sender-of-a-gone-node", file: "core/engine/nodes.go", by: inEngine,
		old: "e.remove(Nodes, a)",
		new: "_ = a",
		why: "a node that left the cluster can still send through the tunnel",
	},
}
