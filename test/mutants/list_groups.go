package main

// inServers are tests of who is an API server; inTiers of administrators' policies as they are read.
var (
	inServers = tests("./core/cluster ./core/identity ./core/engine")
	inTiers   = tests("./core/manifest", inMatrix)
)

// groupMutants change whom policies mean by CIDR groups, tiers and the API servers.
var groupMutants = []mutant{
	{
		name: "groups/last-exception-counts", file: "core/manifest/cidrgroup.go", by: inManifest,
		old: "peer.Except = append(peer.Except, e)",
		new: "peer.Except = []netip.Prefix{e}",
		why: "of several exceptions from a group only one holds",
	},
	{
		name: "groups/end-unheard", file: "core/manifest/groupbook.go", by: inManifest,
		old: "return b.concerned(name, was)\n}",
		new: "return b.concerned(name, cidrGroupBody{prefixes: was.prefixes})\n}",
		why: "the addresses of a group that went stay allowed where it was selected by labels",
	},
	{
		name: "groups/change-unheard", file: "core/manifest/groupbook.go", by: inManifest,
		old: "if u.told && reflect.DeepEqual(u.said, now) {",
		new: "if u.told && reflect.DeepEqual(u.said.Ref, now.Ref) {",
		why: "policies keep the addresses that a group had first",
	},
	{
		name: "groups/rules-shared", file: "core/manifest/groupbook.go", by: inManifest,
		old: "owned[u.spec] = true\n\t\t\ts.Rules = slices.Clone(s.Rules)",
		new: "owned[u.spec] = true",
		why: "addresses that left a group stay in its policies",
	},
	{
		name: "groups/rule-of-the-use", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "u := groupUse{spec: c.spec, rule: c.rule, field: o.path()}",
		new: "u := groupUse{spec: c.spec, field: o.path()}",
		why: "a group's addresses are allowed by the first rule of the policy, with its ports",
	},
	{
		name: "groups/set-of-the-use", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "c.spec = len(p.Specs)",
		new: "c.spec = len(p.Specs) + len(nodes)",
		why: "a set of rules for nodes moves the groups of those behind it to another",
	},
	{
		name: "groups/lost-at-a-restart", file: "adapters/kubernetes/lastgood.go", by: inKube("TestCIDRGroupsWithout.*"),
		old: "manifest.KindClusterNetworkPolicy, manifest.KindAdminNetworkPolicy, manifest.KindBaselineAdminNetworkPolicy,\n\t\tmanifest.KindCiliumCIDRGroup:",
		new: "manifest.KindClusterNetworkPolicy, manifest.KindAdminNetworkPolicy, manifest.KindBaselineAdminNetworkPolicy:",
		why: "a mistake in a group takes its addresses out of deny rules when the agent starts again",
	},
	{
		name: "tiers/pass-allows", file: "core/manifest/tierrule.go", by: inTiers,
		old: "deny, pass = at == 1, at == 2",
		new: "deny, pass = at == 1, at > 2",
		why: "what administrators leave to others they allow",
	},
	{
		name: "tiers/priority-turned", file: "core/manifest/adminpolicy.go", by: inTiers,
		old: "Priority: spec.get(\"priority\").tierPriority()}",
		new: "Priority: maxTierPriority - spec.get(\"priority\").tierPriority()}",
		why: "of AdminNetworkPolicies the one with the highest number is asked first",
	},
	{
		name: "tiers/baseline-overrules", file: "core/manifest/clusterpolicy.go", by: inTiers,
		old: "s.Tier = policy.TierBaseline",
		new: "s.Tier = policy.TierAdmin",
		why: "administrators' defaults overrule the policies of everybody",
	},
	{
		name: "tiers/baseline-of-the-old-api", file: "core/manifest/adminpolicy.go", by: inTiers,
		old: "Tier: policy.TierBaseline, Priority: baselinePriority}",
		new: "Tier: policy.TierAdmin, Priority: baselinePriority}",
		why: "a BaselineAdminNetworkPolicy overrules the policies of everybody",
	},
	{
		name: "tiers/everybody-by-network", file: "core/manifest/tierrule.go", by: inTiers,
		old: "case p.Bits() == 0:",
		new: "case p.Bits() < 0:",
		why: "a rule that denies 0.0.0.0/0 leaves the pods open",
	},
	{
		name: "tiers/own-node-is-none", file: "core/manifest/tierrule.go", by: inTiers,
		old: "return []policy.Peer{{Entity: policy.EntityHost}, {Entity: policy.EntityRemoteNode}}, false",
		new: "return []policy.Peer{{Entity: policy.EntityRemoteNode}}, false",
		why: "a rule for nodes leaves out the one that the pod is on",
	},
	{
		name: "tiers/nodes-are-pods", file: "core/manifest/tierrule.go", by: inTiers,
		old: "reqs := []labels.Requirement{anyNamespace()}",
		new: "reqs := []labels.Requirement{}",
		why: "namespaces: {} means nodes as well",
	},
	{
		name: "tiers/port-of-no-protocol", file: "core/manifest/adminpolicy.go", by: inTiers,
		old: "p.Proto = datapath.ProtoTCP\n\tv := o.get(\"protocol\")",
		new: "p.Proto = datapath.ProtoUDP\n\tv := o.get(\"protocol\")",
		why: "a port without a protocol is not TCP's, and its rule denies nothing",
	},
	{
		name: "tiers/ordinary-deny-first", file: "core/policy/outcome.go", by: inPolicy,
		old: "tier(TierAdmin, all)\n\t\ttier(TierOrdinary, func(r *specRule) bool { return r.Deny })",
		new: "tier(TierOrdinary, func(r *specRule) bool { return r.Deny })\n\t\ttier(TierAdmin, all)",
		why: "a deny rule of a namespace overrules what administrators allow",
	},
	{
		name: "tiers/evaluate-pass-allows", file: "core/policy/evaluate.go", by: inPolicy,
		old: "if r := j.first(policies, TierAdmin); r != nil && !r.Pass {",
		new: "if r := j.first(policies, TierAdmin); r != nil {",
		why: "the evaluator takes a pass for an allowance",
	},
	{
		name: "apiserver/no-remote-node", file: "core/identity/identity.go", by: inServers,
		old: "if id == KubeAPIServer {\n\t\tls = append(",
		new: "if id == RemoteNode {\n\t\tls = append(",
		why: "a rule for other nodes leaves out those that serve the API",
	},
	{
		name: "apiserver/host-unmarked", file: "core/engine/apiserver.go", by: inServers,
		old: "if id == identity.Host && e.hostServes {",
		new: "if id == identity.RemoteNode && e.hostServes {",
		why: "on the node of the API server pods that may talk to it alone can't",
	},
	{
		name: "apiserver/node-held", file: "core/engine/apiserver.go", by: inServers,
		old: "e.apiServers.Has(ip) && !onNode,",
		new: "e.apiServers.Has(ip) && (!onNode || ip.IsValid()),",
		why: "a node that serves the API is a part of the world",
	},
	{
		name: "apiserver/gone-stays", file: "core/engine/apiserver.go", by: inServers,
		old: "if !slices.Contains(after, ip) {",
		new: "if slices.Contains(after, ip) {",
		why: "who has the address of a former API server passes for one",
	},
	{
		name: "apiserver/old-address-stays", file: "core/cluster/apiserver.go", by: inServers,
		old: "a.slices[e.Slice.Name] = addrs",
		new: "a.slices[e.Slice.Name] = append(a.slices[e.Slice.Name], addrs...)",
		why: "an API server that moved passes for one at its old address, too",
	},
	{
		name: "apiserver/by-namespace", file: "core/cluster/apiserver.go", by: inServers,
		old: "if e.Slice.Service != APIServerService {",
		new: "if e.Slice.Service.Namespace != APIServerService.Namespace {",
		why: "any service of namespace default makes its backends API servers",
	},
	{
		name: "apiserver/flows-kept", file: "core/engine/apiserver.go", by: inServers,
		old: "e.put(AddrEpoch, p.Addr(), nil)",
		new: "_ = p.Addr()",
		why: "connections with an address keep what was decided before it was an API server's",
	},
	{
		name: "apiserver/flows-of-the-host-kept", file: "core/engine/apiserver.go", by: inServers,
		old: "e.put(AddrEpoch, a, nil)",
		new: "_ = a",
		why: "connections with the node keep what was decided while it served the API",
	},
}
