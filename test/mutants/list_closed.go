package main

// closedMutants change what fails closed: what a policy says and weir does not enforce grants nothing and denies
// more, and the rest of the policy works.
var closedMutants = []mutant{
	{
		name: "closed/allow-grants", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "if !rule.Deny {\n\t\tv.warn(\"grants nothing",
		new: "if rule.Deny {\n\t\tv.warn(\"grants nothing",
		why: "a rule that allows a service allows everyone, one that denies it denies nobody",
	},
	{
		name: "closed/deny-narrower", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "rule.Peers = append(rule.Peers, f.wider...)",
		new: "_ = f.wider",
		why: "a rule that denies nodes by their labels denies none",
	},
	{
		name: "closed/deny-nobody", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "rule.AnyPeer = rule.AnyPeer || f.wider == nil",
		new: "_ = f.wider == nil",
		why: "a rule that denies a service denies nobody",
	},
	{
		name: "closed/deny-everyone", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "rule.AnyPeer = rule.AnyPeer || f.wider == nil",
		new: "rule.AnyPeer = true",
		why: "a rule that denies nodes by their labels denies pods, too",
	},
	{
		name: "closed/part-not-named", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "rule.Unenforced = append(rule.Unenforced, path)",
		new: "_ = path",
		why: "nobody who looks at a rule sees that a part of it is not enforced",
	},
	{
		name: "closed/no-warning", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "v.warn(\"grants nothing until weir enforces %s; %s\", f.name, f.instead)",
		new: "_ = f.instead",
		why: "a policy grants less than it says, and its author is not told",
	},
	{
		name: "closed/unproven-peers", file: "core/manifest/ciliumunenforced.go", by: inManifest,
		old: "rule.Peers, rule.AnyPeer = nil, false\n\t\treturn false",
		new: "return false",
		why: "peers that must prove who they are get in without",
	},
	{
		name: "closed/unproven-groups", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "c.groups = c.groups[:groups]\n\t}\n\treturn rule",
		new: "_ = groups\n\t}\n\treturn rule",
		why: "the addresses of a CIDR group get in without the proof that the rule asks for",
	},
	{
		name: "closed/requests-not-looked-at", file: "core/manifest/ciliumlayer7.go", by: inManifest,
		old: "if said != nil && !all {",
		new: "if said != nil && !all && sec.deny {",
		why: "a port with rules for HTTP is open to every request",
	},
	{
		name: "closed/last-request-rule-counts", file: "core/manifest/ciliumlayer7.go", by: inManifest,
		old: "all = p.read(item) || all",
		new: "all = p.read(item)",
		why: "whether a port is granted depends on the order of the rules for its requests",
	},
	{
		name: "closed/only-the-host-restricts", file: "core/manifest/ciliumlayer7.go", by: inManifest,
		old: "all = all && (s == \"\" || s == \".*\")",
		new: "all = s == \"\" || s == \".*\"",
		why: "a rule for requests of one path grants all",
	},
	{
		name: "closed/header-matches-forgotten", file: "core/manifest/ciliumlayer7.go", by: inManifest,
		old: "return all && len(headers)+len(matches) == 0",
		new: "return all && len(headers) == 0",
		why: "a rule for requests with a certain header grants all",
	},
	{
		name: "closed/refused-part-granted", file: "core/manifest/ciliumlayer7.go", by: inManifest,
		old: "granted = false\n\t\tunenforced(",
		new: "unenforced(",
		why: "a port is open whatever is asked of TLS, servers or listeners there",
	},
	{
		name: "closed/deny-does-not-isolate", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "if len(rules) > 0 && sec.dir == datapath.Ingress {",
		new: "if len(rules) > 0 && sec.dir == datapath.Ingress && !sec.deny {",
		why: "a policy of deny rules alone lets in whom nothing allows",
	},
	{
		name: "closed/default-deny-only-takes-away", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "s.IsolateEgress = on",
		new: "s.IsolateEgress = s.IsolateEgress && on",
		why: "enableDefaultDeny does not isolate a direction without rules",
	},
	{
		name: "closed/empty-list-is-everyone", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "rule.AnyPeer = rule.AnyPeer || !anyMember && anyPorts",
		new: "rule.AnyPeer = rule.AnyPeer || (!anyMember || used == \"\") && anyPorts",
		why: "a rule whose list of peers is empty is for everyone",
	},
	{
		name: "closed/nodes-mean-pods", file: "core/manifest/ciliumpolicy.go", by: inManifest,
		old: "case ok && node.absent():",
		new: "case ok:",
		why: "a policy for nodes holds for every pod",
	},
	{
		name: "closed/some-nodes-passed", file: "core/manifest/tierrule.go", by: inManifest,
		old: "case len(reqs) > 0 && rule.Pass:",
		new: "case len(reqs) > 0 && rule.Pass && rule.Deny:",
		why: "a rule that passes some nodes is taken, and passes none: a later rule denies them",
	},
	{
		name: "closed/domains-passed", file: "core/manifest/tierrule.go", by: inManifest,
		old: "if rule.Deny || rule.Pass {",
		new: "if rule.Deny {",
		why: "a rule that passes names of domains is taken, and passes nothing",
	},
	{
		name: "closed/status-without-warning", file: "adapters/kubernetes/operator/policies.go", by: tests("./adapters/kubernetes/operator -run ^TestVerdict$"),
		old: "case len(warnings) > 0:",
		new: "case len(warnings) > 1:",
		why: "the status of a policy does not tell that a part of it is not enforced",
	},
}
