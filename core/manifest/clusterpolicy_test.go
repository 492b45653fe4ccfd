package manifest

import (
	"fmt"
	"testing"
)

func tierPolicy(rest string) string {
	return fmt.Sprintf(`{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"p"},"spec":{"tier":"Admin","priority":7%s}}`, rest)
}

func TestClusterNetworkPolicy(t *testing.T) {
	everybody := `,"subject":{"namespaces":{}}`
	subject := "for " + inAny + " in Admin 7"
	to := func(peer string) string { return everybody + `,"egress":[{"action":"Deny","to":[` + peer + `]}]` }
	over := func(protocol string) string {
		return everybody + `,"ingress":[{"action":"Pass","from":[{"namespaces":{}}],"protocols":[` + protocol + `]}]`
	}
	for _, c := range []ruleCase{
		{name: "no rules", spec: everybody, want: []string{subject}},
		{name: "subject by pods", spec: `,"subject":{"pods":{"namespaceSelector":{"matchLabels":{"a":"b"}},"podSelector":{"matchLabels":{"c":"d"}}}}`,
			want: []string{"for k8s:c=d," + nsKey + "a=b," + inAny + " in Admin 7"}},
		{name: "any protocol and port", spec: to(`{"namespaces":{}}`), want: []string{subject, "egress egress[0] deny: [{" + inAny + "}] [everything]"}},
		{name: "nodes", spec: to(`{"nodes":{}}`), want: []string{subject, "egress egress[0] deny: [host, remote-node] [everything]"}},
		{name: "networks", spec: to(`{"networks":["169.254.169.254/32"]}`), want: []string{subject, "egress egress[0] deny: [169.254.169.254/32] [everything]"},
			findings: []string{"warning: spec.egress[0].to[0].networks[0]: matches addresses outside the cluster"}},
		{name: "everybody by network", spec: to(`{"networks":["0.0.0.0/0"]}`), want: []string{subject, "egress egress[0] deny: [0.0.0.0/0, cluster] [everything]"},
			findings: []string{"warning: spec.egress[0].to[0].networks[0]: matches every pod and node as well"}},
		{name: "a port", spec: over(`{"sctp":{"destinationPort":{"number":5}}}`), want: []string{subject, "ingress ingress[0] pass: [{" + inAny + "}] [SCTP/5]"}},
		{name: "ports", spec: over(`{"udp":{"destinationPort":{"range":{"start":5,"end":9}}}}`), want: []string{subject, "ingress ingress[0] pass: [{" + inAny + "}] [UDP/5-9]"}},
		{name: "a port by name", spec: over(`{"destinationNamedPort":"web"}`), want: []string{subject, "ingress ingress[0] pass: [{" + inAny + "}] [ANY/web]"}},
		{name: "domain names grant nothing", spec: everybody + `,"egress":[{"action":"Accept","to":[{"domainNames":["*.example.org","example.org."]},{"nodes":{}}]}]`,
			want:     []string{subject, "egress egress[0] allow: [host, remote-node] [everything] but to[0].domainNames"},
			findings: []string{"warning: spec.egress[0].to[0].domainNames: grants nothing until weir enforces rules by domain name; use networks"}},
		{name: "nodes by label are all denied", spec: to(`{"nodes":{"matchLabels":{"a":"b"}}}`), want: []string{subject, "egress egress[0] deny: [host, remote-node] [everything] but to[0].nodes"},
			findings: []string{"warning: spec.egress[0].to[0].nodes: denies every node until weir enforces rules by the labels of nodes"}},
		{name: "nodes by label are not accepted", spec: everybody + `,"egress":[{"action":"Accept","to":[{"nodes":{"matchLabels":{"a":"b"}}}]}]`,
			want: []string{subject, "egress egress[0] allow: [] [everything] but to[0].nodes"}, findings: []string{"warning: spec.egress[0].to[0].nodes: grants nothing until weir"}},

		{name: "domain names denied", spec: to(`{"domainNames":["a"]}`), findings: []string{"spec.egress[0].to[0].domainNames: only possible in a rule with action Accept"}},
		{name: "domain names passed", spec: everybody + `,"egress":[{"action":"Pass","to":[{"domainNames":["a"]}]}]`,
			findings: []string{"spec.egress[0].to[0].domainNames: only possible in a rule with action Accept"}},
		{name: "domain names of wrong form", spec: everybody + `,"egress":[{"action":"Accept","to":[{"domainNames":["a.*","a..b"]},{"domainNames":[]}]}]`,
			findings: []string{`spec.egress[0].to[0].domainNames[0]: "a.*" is not a domain name`, `spec.egress[0].to[0].domainNames[1]: "a..b" is not`,
				"warning: spec.egress[0].to[0].domainNames: grants nothing", "spec.egress[0].to[1].domainNames: 0 names; want 1 to 25", "warning: spec.egress[0].to[1].domainNames: grants"}},
		{name: "nodes by label passed", spec: everybody + `,"egress":[{"action":"Pass","to":[{"nodes":{"matchLabels":{"a":"b"}}}]}]`,
			findings: []string{"spec.egress[0].to[0].nodes: nodes can't be told apart by their labels; allowed in a rule that passes: {}"}},
		{name: "subject missing", spec: ``, findings: []string{"spec.subject: missing; want one of namespaces, pods"}},
		{name: "subject without pods", spec: `,"subject":{"pods":{"namespaceSelector":{}}}`, findings: []string{"spec.subject.pods.podSelector: missing"}},
		{name: "an unknown peer", spec: to(`{"services":{}}`), findings: []string{"spec.egress[0].to[0]", "spec.egress[0].to[0]: names 0 kinds of peers"}},
		{name: "nodes as a source", spec: everybody + `,"ingress":[{"action":"Deny","from":[{"nodes":{}}]}]`,
			findings: []string{"spec.ingress[0].from[0]", "spec.ingress[0].from[0]: names 0 kinds"}},
		{name: "no action", spec: everybody + `,"ingress":[{"from":[{"namespaces":{}}]}]`, findings: []string{"spec.ingress[0].action: missing"}},
		{name: "an empty list of protocols", spec: over(``), findings: []string{"spec.ingress[0].protocols: 0 protocols; want 1 to 25"}},
		{name: "no networks", spec: to(`{"networks":[]}`), findings: []string{"spec.egress[0].to[0].networks: 0 networks"}},
		{name: "a port out of range", spec: over(`{"tcp":{"destinationPort":{"number":0}}}`), findings: []string{"spec.ingress[0].protocols[0].tcp.destinationPort.number"}},
		{name: "two protocols in one", spec: over(`{"tcp":{"destinationPort":{"number":1}},"udp":{"destinationPort":{"number":1}}}`),
			findings: []string{"spec.ingress[0].protocols[0]: names 2 protocols"}},
		{name: "half a range", spec: over(`{"tcp":{"destinationPort":{"range":{"start":1}}}}`), findings: []string{"spec.ingress[0].protocols[0].tcp.destinationPort.range.end: missing"}},
		{name: "number and range", spec: over(`{"tcp":{"destinationPort":{"number":1,"range":{"start":1,"end":2}}}}`),
			findings: []string{"spec.ingress[0].protocols[0].tcp.destinationPort: want exactly one of number, range"}},
		{name: "a named port of nodes", spec: everybody + `,"egress":[{"action":"Deny","to":[{"nodes":{}}],"protocols":[{"destinationNamedPort":"web"}]}]`,
			findings: []string{"spec.egress[0].protocols[0]: a port by name needs peers that are pods"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, tierPolicy(c.spec)) })
	}
	ruleCase{want: []string{"for " + inAny + " in Baseline 9"}}.run(t,
		`{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"p"},"spec":{"tier":"Baseline","priority":9,"subject":{"namespaces":{}}}}`)
	ruleCase{findings: []string{
		"spec.tier: unknown tier",
		"spec.priority: ",
	}}.run(t, `{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"p"},"spec":{"tier":"Top","priority":-1,"subject":{"namespaces":{}}}}`)
	ruleCase{findings: []string{
		"spec.tier: missing; allowed: Admin, Baseline",
		"spec.priority: missing",
	}}.run(t, `{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"ClusterNetworkPolicy","metadata":{"name":"p"},"spec":{"subject":{"namespaces":{}}}}`)
}
