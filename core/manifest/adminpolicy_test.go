package manifest

import (
	"fmt"
	"testing"
)

func adminPolicy(rest string) string {
	return fmt.Sprintf(`{"apiVersion":"policy.networking.k8s.io/v1alpha1","kind":"AdminNetworkPolicy","metadata":{"name":"p"},"spec":{"priority":7%s}}`, rest)
}

func baselinePolicy(name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"policy.networking.k8s.io/v1alpha1","kind":"BaselineAdminNetworkPolicy","metadata":{"name":%q},"spec":{%s}}`, name, spec)
}

func TestAdminNetworkPolicy(t *testing.T) {
	everybody := `,"subject":{"namespaces":{}}`
	subject := "for " + inAny + " in Admin 7"
	to := func(peer string) string { return everybody + `,"egress":[{"action":"Deny","to":[` + peer + `]}]` }
	over := func(port string) string {
		return everybody + `,"ingress":[{"action":"Pass","from":[{"namespaces":{}}],"ports":[` + port + `]}]`
	}
	passed := func(ports string) []string {
		return []string{subject, "ingress ingress[0] pass: [{" + inAny + "}] [" + ports + "]"}
	}
	for _, c := range []ruleCase{
		{name: "no rules", spec: everybody, want: []string{subject}},
		{name: "subject by pods", spec: `,"subject":{"pods":{"namespaceSelector":{"matchLabels":{"a":"b"}},"podSelector":{"matchLabels":{"c":"d"}}}}`,
			want: []string{"for k8s:c=d," + nsKey + "a=b," + inAny + " in Admin 7"}},
		{name: "any protocol and port", spec: to(`{"namespaces":{}}`), want: []string{subject, "egress egress[0] deny: [{" + inAny + "}] [everything]"}},
		{name: "allow", spec: everybody + `,"ingress":[{"name":"n","action":"Allow","from":[{"namespaces":{}}]}]`,
			want: []string{subject, "ingress ingress[0] allow: [{" + inAny + "}] [everything]"}},
		{name: "nodes", spec: to(`{"nodes":{}}`), want: []string{subject, "egress egress[0] deny: [host, remote-node] [everything]"}},
		{name: "networks", spec: to(`{"networks":["169.254.169.254/32"]}`), want: []string{subject, "egress egress[0] deny: [169.254.169.254/32] [everything]"},
			findings: []string{"warning: spec.egress[0].to[0].networks[0]: matches addresses outside the cluster"}},
		{name: "everybody by network", spec: to(`{"networks":["::/0"]}`), want: []string{subject, "egress egress[0] deny: [::/0, cluster] [everything]"},
			findings: []string{"warning: spec.egress[0].to[0].networks[0]: matches every pod and node as well"}},
		{name: "a port", spec: over(`{"portNumber":{"protocol":"SCTP","port":5}}`), want: passed("SCTP/5")},
		{name: "a port of TCP", spec: over(`{"portNumber":{"port":5}}`), want: passed("TCP/5")},
		{name: "ports", spec: over(`{"portRange":{"protocol":"UDP","start":5,"end":9}},{"portRange":{"start":1,"end":65535}}`), want: passed("UDP/5-9, TCP/1-65535")},
		{name: "a port by name", spec: over(`{"namedPort":"web"}`), want: passed("ANY/web")},

		{name: "subject missing", spec: ``, findings: []string{"spec.subject: missing; want one of namespaces, pods"}},
		{name: "subject without namespaces", spec: `,"subject":{"pods":{"podSelector":{}}}`, findings: []string{"spec.subject.pods.namespaceSelector: missing"}},
		{name: "names of domains", spec: to(`{"domainNames":["example.org"]}`), findings: []string{"spec.egress[0].to[0].domainNames: only possible in a rule with action Allow"}},
		{name: "nodes by label", spec: to(`{"nodes":{"matchLabels":{"a":"b"}}}`), want: []string{subject, "egress egress[0] deny: [host, remote-node] [everything] but to[0].nodes"},
			findings: []string{"warning: spec.egress[0].to[0].nodes: denies every node until weir"}},
		{name: "nodes as a source", spec: everybody + `,"ingress":[{"action":"Deny","from":[{"nodes":{}}]}]`,
			findings: []string{"spec.ingress[0].from[0].nodes: unknown field", "spec.ingress[0].from[0]: names 0 kinds"}},
		{name: "no action", spec: everybody + `,"ingress":[{"from":[{"namespaces":{}}]}]`, findings: []string{"spec.ingress[0].action: missing; allowed: Allow, Deny, Pass"}},
		{name: "the newer API's action", spec: everybody + `,"ingress":[{"action":"Accept","from":[{"namespaces":{}}]}]`,
			findings: []string{`spec.ingress[0].action: unknown action "Accept"; allowed: Allow, Deny, Pass`}},
		{name: "the newer API's ports", spec: everybody + `,"ingress":[{"action":"Deny","from":[{"namespaces":{}}],"protocols":[{"tcp":{"destinationPort":{"number":80}}}]}]`,
			findings: []string{"spec.ingress[0].protocols: unknown field"}},
		{name: "the newer API's tier", spec: everybody + `,"tier":"Admin"`, findings: []string{"spec.tier: unknown field"}},
		{name: "an empty list of ports", spec: over(``), findings: []string{"spec.ingress[0].ports: 0 ports; want 1 to 100"}},
		{name: "a port out of range", spec: over(`{"portNumber":{"port":65536}}`), findings: []string{"spec.ingress[0].ports[0].portNumber.port"}},
		{name: "no port", spec: over(`{"portNumber":{"protocol":"TCP"}}`), findings: []string{"spec.ingress[0].ports[0].portNumber.port: missing"}},
		{name: "an unknown protocol", spec: over(`{"portRange":{"protocol":"tcp","start":1,"end":2}}`), findings: []string{`spec.ingress[0].ports[0].portRange.protocol: unknown protocol "tcp"; allowed`}},
		{name: "half a range", spec: over(`{"portRange":{"start":1}}`), findings: []string{"spec.ingress[0].ports[0].portRange.end: missing"}},
		{name: "number and range", spec: over(`{"portNumber":{"port":1},"portRange":{"start":1,"end":2}}`), findings: []string{"spec.ingress[0].ports[0]: names 2 kinds of ports"}},
		{name: "a name that is none", spec: over(`{"namedPort":"8080"}`), findings: []string{`spec.ingress[0].ports[0].namedPort: "8080" is not a port name`}},
		{name: "a named port of networks", spec: everybody + `,"egress":[{"action":"Deny","to":[{"networks":["10.0.0.0/8"]}],"ports":[{"namedPort":"web"}]}]`,
			findings: []string{"warning: spec.egress[0].to[0].networks[0]", "spec.egress[0].ports[0]: a port by name needs peers that are pods"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, adminPolicy(c.spec)) })
	}
	ruleCase{findings: []string{"spec.priority: missing; want a number from 0"}}.run(t,
		`{"apiVersion":"policy.networking.k8s.io/v1alpha1","kind":"AdminNetworkPolicy","metadata":{"name":"p"},"spec":{"subject":{"namespaces":{}}}}`)
	ruleCase{findings: []string{"spec: missing; want priority and subject"}}.run(t,
		`{"apiVersion":"policy.networking.k8s.io/v1alpha1","kind":"AdminNetworkPolicy","metadata":{"name":"p"}}`)
	ruleCase{findings: []string{`apiVersion: "policy.networking.k8s.io/v1alpha2" is not served`}}.run(t,
		`{"apiVersion":"policy.networking.k8s.io/v1alpha2","kind":"AdminNetworkPolicy","metadata":{"name":"p"},"spec":{}}`)
}

func TestBaselineAdminNetworkPolicy(t *testing.T) {
	everybody := `"subject":{"namespaces":{}}`
	ruleCase{want: []string{
		"for " + inAny + " in Baseline 1001", "ingress ingress[0] allow: [{" + inAny + "}] [TCP/80]", "egress egress[0] deny: [host, remote-node] [everything]",
	}}.run(t, baselinePolicy("default", everybody+`,"ingress":[{"action":"Allow","from":[{"namespaces":{}}],"ports":[{"portNumber":{"protocol":"TCP","port":80}}]}],"egress":[{"action":"Deny","to":[{"nodes":{}}]}]`))
	ruleCase{findings: []string{`metadata.name: "other": a cluster has one BaselineAdminNetworkPolicy; allowed: "default"`}}.run(t, baselinePolicy("other", everybody))
	ruleCase{findings: []string{`spec.ingress[0].action: unknown action "Pass"; allowed: Allow, Deny`}}.run(t,
		baselinePolicy("default", everybody+`,"ingress":[{"action":"Pass","from":[{"namespaces":{}}]}]`))
	ruleCase{findings: []string{"spec.priority: unknown field"}}.run(t, baselinePolicy("default", everybody+`,"priority":3`))
	ruleCase{findings: []string{"spec.egress[0].to[0].domainNames: unknown field", "spec.egress[0].to[0]: names 0 kinds"}}.run(t,
		baselinePolicy("default", everybody+`,"egress":[{"action":"Deny","to":[{"domainNames":["a.b"]}]}]`))
}
