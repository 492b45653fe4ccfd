package manifest

import (
	"fmt"
	"testing"
)

// What is valid and not enforced fails closed: the policy takes effect, isolates, and the part grants nothing, or
// denies more.
func TestCiliumPolicyUnenforced(t *testing.T) {
	const (
		in, out = forShop + " isolate-ingress", forShop + " isolate-egress"
		port80  = `"ports":[{"port":"80","protocol":"TCP"}]`
	)
	ingress := func(rule string) string { return `{"endpointSelector":{},"ingress":[` + rule + `]}` }
	egress := func(rule string) string { return `{"endpointSelector":{},"egress":[` + rule + `]}` }
	allowIn := func(rest string) []string { return []string{in, "ingress ingress[0] allow: " + rest} }
	allowOut := func(rest string) []string { return []string{out, "egress egress[0] allow: " + rest} }
	denyIn := func(rest string) []string { return []string{in, "ingress ingressDeny[0] deny: " + rest} }
	denyOut := func(rest string) []string { return []string{out, "egress egressDeny[0] deny: " + rest} }
	http := func(rules string) string {
		return ingress(`{"fromEndpoints":[{}],"toPorts":[{` + port80 + `,"rules":{"http":` + rules + `}}]}`)
	}
	const nothing, alone = "warning: spec.ingress[0].toPorts[0].rules: grants nothing until weir enforces rules for HTTP; ports without rules are granted",
		"warning: spec.ingress[0].toPorts[0].rules: matches every HTTP request, so it is granted as its ports alone"
	peer := "[{" + inShop + "}] "
	cases := []ruleCase{
		{name: "HTTP rules", spec: http(`[{"method":"GET","path":"/a/.*"},{"host":"x"},{"headers":["A: b"]},{"headerMatches":[{"name":"A","value":"b","mismatch":"LOG","secret":{"name":"s"}}]}]`),
			want: allowIn(peer + "[] but toPorts[0].rules"), findings: []string{nothing}},
		{name: "HTTP rules beside ports", spec: ingress(`{"fromEndpoints":[{}],"toPorts":[{` + port80 + `,"rules":{"http":[{"method":"GET"}]}},{"ports":[{"port":"81"}]}]},{"fromEntities":["host"]}`),
			want: append(allowIn(peer+"[ANY/81] but toPorts[0].rules"), "ingress ingress[1] allow: [host] [everything]"), findings: []string{nothing}},
		{name: "HTTP: everything", spec: http(`[{}]`), want: allowIn(peer + "[TCP/80]"), findings: []string{alone}},
		{name: "HTTP: everything among others", spec: http(`[{"method":"GET"},{"path":".*","method":"","host":"","headers":[],"headerMatches":[]}]`), want: allowIn(peer + "[TCP/80]"), findings: []string{alone}},
		{name: "HTTP: everything before others", spec: http(`[{},{"method":"GET"}]`), want: allowIn(peer + "[TCP/80]"), findings: []string{alone}},
		{name: "HTTP: nothing said", spec: http(`[]`), want: allowIn(peer + "[TCP/80]")},
		{name: "HTTP: everything, by another server name", spec: ingress(`{"toPorts":[{` + port80 + `,"rules":{"http":[{}]},"terminatingTLS":{"secret":{"name":"s"}},"serverNames":["a.b"]}]}`),
			want: allowIn("[anyone] [] but toPorts[0].terminatingTLS, toPorts[0].serverNames"), findings: []string{
				"warning: spec.ingress[0].toPorts[0].terminatingTLS: grants nothing until weir enforces rules for TLS",
				"warning: spec.ingress[0].toPorts[0].serverNames: grants nothing until weir enforces rules for server names in TLS"}},
		{name: "TLS and listeners", spec: egress(`{"toPorts":[{` + port80 + `,"originatingTLS":{"secret":{"namespace":"n","name":"s"},"trustedCA":"a","certificate":"b","privateKey":"c"}},{` + port80 + `,"listener":{"envoyConfig":{"kind":"CiliumEnvoyConfig","name":"a"},"name":"b","priority":3}}]}`),
			want: allowOut("[anyone] [] but toPorts[0].originatingTLS, toPorts[1].listener"), findings: []string{
				"warning: spec.egress[0].toPorts[0].originatingTLS: grants nothing until weir enforces rules for TLS",
				"warning: spec.egress[0].toPorts[1].listener: grants nothing until weir enforces redirection to Envoy listeners"}},
		{name: "Kafka", spec: ingress(`{"toPorts":[{` + port80 + `,"rules":{"kafka":[{"role":"produce","topic":"a.b-c_d"},{"apiKey":"fetch","apiVersion":"1","clientID":"x"}]}},{"ports":[{"port":"81","protocol":"TCP"}],"rules":{"kafka":[{}]}}]}`),
			want: allowIn("[anyone] [TCP/81] but toPorts[0].rules"), findings: []string{
				"warning: spec.ingress[0].toPorts[0].rules: grants nothing until weir enforces rules for Kafka", "warning: spec.ingress[0].toPorts[1].rules: matches every Kafka request"}},
		{name: "a parser", spec: ingress(`{"toPorts":[{` + port80 + `,"rules":{"l7proto":"x"}},{"ports":[{"port":"81","protocol":"TCP"}],"rules":{"l7proto":"x","l7":[{"a":"b"},{}]}}]}`),
			want: allowIn("[anyone] [TCP/81] but toPorts[0].rules"), findings: []string{
				"warning: spec.ingress[0].toPorts[0].rules: grants nothing until weir enforces rules for the protocol of l7proto", "warning: spec.ingress[0].toPorts[1].rules: matches every request"}},
		{name: "DNS", spec: egress(`{"toEntities":["cluster"],"toPorts":[{"ports":[{"port":"53","protocol":"ANY"}],"rules":{"dns":[{"matchPattern":"*"}]}},{"ports":[{"port":"54","protocol":"UDP","endPort":54},{"port":"dns","endPort":0}],"rules":{"dns":[{"matchPattern":"*.a"},{"matchName":"a.b."}]}}]}`),
			want: allowOut("[cluster] [ANY/53] but toPorts[1].rules"), findings: []string{
				"warning: spec.egress[0].toPorts[0].rules: matches every DNS name, so it is granted as its ports alone", "warning: spec.egress[0].toPorts[1].rules: grants nothing until weir enforces rules for DNS"}},
		{name: "DNS names", spec: egress(`{"toFQDNs":[{"matchName":"a.b"},{"matchPattern":"*"}],"toPorts":[{` + port80 + `}]},{"toEntities":["host"]}`),
			want:     append(allowOut("[] [TCP/80] but toFQDNs"), "egress egress[1] allow: [host] [everything]"),
			findings: []string{"warning: spec.egress[0].toFQDNs: grants nothing until weir enforces rules by DNS name; name the addresses with toCIDR"}},
		{name: "DNS names without ports", spec: egress(`{"toFQDNs":[{"matchName":"a.b"}]}`), want: allowOut("[] [everything] but toFQDNs"), findings: []string{"warning: spec.egress[0].toFQDNs: grants nothing"}},
		{name: "no DNS names", spec: egress(`{"toFQDNs":[]}`), want: allowOut("[] [everything]")},
		{name: "services", spec: egress(`{"toServices":[{"k8sService":{"serviceName":"a","namespace":"b"}},{"k8sServiceSelector":{"selector":{"matchLabels":{"controller-uid":"1"}},"namespace":"b"}}]}`),
			want: allowOut("[] [everything] but toServices"), findings: []string{"warning: spec.egress[0].toServices: grants nothing until weir enforces rules by service"}},
		{name: "services denied", spec: `{"endpointSelector":{},"egressDeny":[{"toServices":[{}],"toPorts":[{` + port80 + `}]}]}`,
			want: denyOut("[anyone] [TCP/80] but toServices"), findings: []string{"warning: spec.egressDeny[0].toServices: denies everyone until weir enforces rules by service"}},
		{name: "nodes", spec: ingress(`{"fromNodes":[{"matchLabels":{"kubernetes.io/hostname":"a"}}]}`), want: allowIn("[] [everything] but fromNodes"),
			findings: []string{"warning: spec.ingress[0].fromNodes: grants nothing until weir enforces rules by the labels of nodes"}},
		{name: "nodes denied", spec: `{"endpointSelector":{},"ingressDeny":[{"fromNodes":[{}]}]}`, want: denyIn("[host, remote-node] [everything] but fromNodes"),
			findings: []string{"warning: spec.ingressDeny[0].fromNodes: denies every node until weir"}},
		{name: "groups", spec: ingress(`{"fromGroups":[{"aws":{"labels":{"a":"b"},"securityGroupsIds":["x"],"securityGroupsNames":["y"],"region":"z"}}]}`), want: allowIn("[] [everything] but fromGroups"),
			findings: []string{"warning: spec.ingress[0].fromGroups: grants nothing until weir enforces rules by group of a cloud"}},
		{name: "groups denied", spec: `{"endpointSelector":{},"egressDeny":[{"toGroups":[{}]}]}`, want: denyOut("[world] [everything] but toGroups"),
			findings: []string{"warning: spec.egressDeny[0].toGroups: denies everything outside the cluster until weir"}},
		{name: "other clusters", spec: ingress(`{"fromEntities":["cluster-mesh","host"]}`), want: allowIn("[host] [everything] but fromEntities[0]"),
			findings: []string{"warning: spec.ingress[0].fromEntities[0]: grants nothing until weir enforces rules about other clusters"}},
		{name: "other clusters denied", spec: `{"endpointSelector":{},"ingressDeny":[{"fromEntities":["cluster-mesh"]}]}`, want: denyIn("[anyone] [everything] but fromEntities[0]"),
			findings: []string{"warning: spec.ingressDeny[0].fromEntities[0]: denies everyone until weir"}},
		{name: "authentication", spec: ingress(`{"fromEndpoints":[{}],"toPorts":[{` + port80 + `}],"authentication":{"mode":"required"}},{"toPorts":[{` + port80 + `}],"authentication":{"mode":"test-always-fail"}},{"fromEndpoints":[{}],"authentication":{"mode":"disabled"}}`),
			want:     append(allowIn("[] [TCP/80] but authentication"), "ingress ingress[1] allow: [] [TCP/80] but authentication", "ingress ingress[2] allow: "+peer+"[everything]"),
			findings: []string{"warning: spec.ingress[0].authentication.mode: the rule grants nothing until weir enforces mutual authentication", "warning: spec.ingress[1].authentication.mode: the rule grants nothing"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, ciliumPolicy(c.spec)) })
	}
	for _, c := range []ruleCase{
		{name: "nodes beside pods", spec: `{"nodeSelector":{"matchLabels":{"a":"b"}},"ingress":[{}]},"specs":[{"endpointSelector":{},"ingress":[{}]}]`,
			want:     []string{"for <all> isolate-ingress", "ingress specs[0].ingress[0] allow: [] [everything]"},
			findings: []string{"warning: spec.nodeSelector: nothing of this set of rules is in force, and nodes stay open"}},
		{name: "a wrong selector of nodes beside pods", spec: `{"nodeSelector":{"matchLabels":{"a b":"b"}},"ingress":[{}]},"specs":[{"endpointSelector":{},"ingress":[{}]}]`,
			findings: []string{`spec.nodeSelector.matchLabels["a b"]: "a b" is not a label key`, "warning: spec.nodeSelector: nothing of"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, clusterwidePolicy(c.spec)) })
	}
}

// What Cilium doesn't take refuses the object, also in parts that are not enforced.
func TestCiliumPolicyUnenforcedOfWrongForm(t *testing.T) {
	const tcp = `{"port":"80","protocol":"TCP"}`
	entry := func(port, rest string) string {
		return `{"endpointSelector":{},"egress":[{"toPorts":[{"ports":[` + port + `],` + rest + `}]}]}`
	}
	rules := func(port, rules string) string { return entry(port, `"rules":`+rules) }
	egress := func(rest string) string { return `{"endpointSelector":{},"egress":[{` + rest + `}]}` }
	const at = "spec.egress[0].toPorts[0]."
	for _, c := range []struct{ spec, refusal string }{
		{rules(tcp, `{"http":[{"path":"/(a"}]}`), at + `rules.http[0].path: "/(a" is not a regular expression: error parsing`},
		{rules(tcp, `{"http":[{"method":"*"}]}`), at + `rules.http[0].method: "*" is not a regular expression`},
		{rules(tcp, `{"http":[{"host":"["}]}`), at + `rules.http[0].host: "[" is not a regular expression`},
		{rules(tcp, `{"http":[{"paths":"/"}]}`), at + "rules.http[0].paths: unknown field; allowed: path, method"},
		{rules(tcp, `{"http":[{"headers":[1]}]}`), at + "rules.http[0].headers[0]: want text"},
		{rules(tcp, `{"http":[{"headerMatches":[{"value":"a"}]}]}`), at + "rules.http[0].headerMatches[0].name: missing"},
		{rules(tcp, `{"http":[{"headerMatches":[{"name":"a","mismatch":"DROP"}]}]}`), at + `rules.http[0].headerMatches[0].mismatch: unknown action "DROP"; allowed: LOG`},
		{rules(tcp, `{"http":[{"headerMatches":[{"name":"a","secret":{}}]}]}`), at + "rules.http[0].headerMatches[0].secret.name: missing"},
		{rules(tcp, `{"http":"GET"}`), at + "rules.http: want a list"},
		{rules(tcp, `[]`), at + "rules: want an object"},
		{rules(tcp, `{"grpc":[{}]}`), at + "rules.grpc: unknown field; allowed: http, kafka, dns"},
		{rules(tcp, `{"http":[{}],"dns":[{"matchName":"a"}]}`), at + "rules: http and dns can't stand in one entry"},
		{rules(tcp, `{"http":[{}],"l7proto":"x"}`), at + "rules: http and l7 can't stand in one entry"},
		{rules(tcp, `{"l7":[{"a":"b"}]}`), at + "rules.l7: needs l7proto"},
		{rules(`{"port":"80","protocol":"UDP"}`, `{"http":[{}]}`), at + "ports[0]: rules for HTTP need protocol TCP"},
		{rules(tcp+`,{"port":"80"}`, `{"kafka":[{}]}`), at + "ports[1]: rules for Kafka need protocol TCP"},
		{rules(`{"port":"0","protocol":"TCP"}`, `{"http":[{"path":"/"}]}`), at + "ports[0]: rules for HTTP need a port of their own"},
		{rules(`{"port":"00"}`, `{"dns":[{"matchPattern":"*"}]}`), at + "ports[0]: rules for DNS need a port of their own"},
		{rules(`{"port":"53","protocol":"SCTP"}`, `{"dns":[{"matchName":"a"}]}`), at + "ports[0]: rules for DNS need protocol TCP, UDP or ANY"},
		{rules(`{"port":"53","endPort":54}`, `{"dns":[{"matchName":"a"}]}`), at + "ports[0]: rules for DNS need single ports"},
		{rules(`{"port":"53"}`, `{"dns":[{}]}`), at + "rules.dns[0]: want exactly one of matchName, matchPattern"},
		{rules(`{"port":"53"}`, `{"dns":[{"matchName":"*.a"}]}`), at + `rules.dns[0].matchName: "*.a" is not a DNS name`},
		{rules(tcp, `{"kafka":[{"role":"read"}]}`), at + `rules.kafka[0].role: unknown role "read"; allowed: produce, consume`},
		{rules(tcp, `{"kafka":[{"role":"produce","apiKey":"fetch"}]}`), at + "rules.kafka[0]: role and apiKey exclude one another"},
		{rules(tcp, `{"kafka":[{"topic":"a b"}]}`), at + `rules.kafka[0].topic: "a b" is not a topic`},
		{entry(tcp, `"serverNames":[]`), at + "serverNames: empty"},
		{entry(tcp, `"serverNames":["a..b"]`), at + `serverNames[0]: "a..b" is not a pattern`},
		{entry(tcp, `"terminatingTLS":{}`), at + "terminatingTLS.secret: missing"},
		{entry(tcp, `"originatingTLS":[]`), at + "originatingTLS: want an object"},
		{entry(tcp, `"listener":{"name":"a"}`), at + "listener.envoyConfig: missing"},
		{entry(tcp, `"listener":{"envoyConfig":{"name":"a","kind":"Envoy"},"name":"b"}`), at + `listener.envoyConfig.kind: unknown kind "Envoy"`},
		{entry(tcp, `"listener":{"envoyConfig":{"name":"a"},"name":"b","priority":101}`), at + "listener.priority: 101 is out of range"},
		{entry(tcp, `"rules":{"http":[{}]},"listener":{"envoyConfig":{"name":"a"},"name":"b"}`), at + "listener: can't stand with rules"},
		{`{"endpointSelector":{},"ingress":[{"toPorts":[{"ports":[{"port":"53"}],"rules":{"dns":[{"matchPattern":"*"}]}}]}]}`, "spec.ingress[0].toPorts[0].rules.dns: not possible for ingress"},
		{`{"endpointSelector":{},"egressDeny":[{"toPorts":[{"ports":[` + tcp + `],"rules":{"http":[{}]}}]}]}`, "spec.egressDeny[0].toPorts[0].rules: not possible in a deny rule"},
		{`{"endpointSelector":{},"egressDeny":[{"toFQDNs":[{"matchName":"a"}]}]}`, "spec.egressDeny[0].toFQDNs: unknown field"},
		{egress(`"toFQDNs":[{"matchName":"a..b"}]`), `spec.egress[0].toFQDNs[0].matchName: "a..b" is not a DNS name`},
		{egress(`"toFQDNs":[{"matchName":"a","matchPattern":"*"}]`), "spec.egress[0].toFQDNs[0]: want exactly one of"},
		{egress(`"toFQDNs":[{"matchPattern":"a b"}]`), `spec.egress[0].toFQDNs[0].matchPattern: "a b" is not a pattern`},
		{egress(`"toFQDNs":["a.b"]`), "spec.egress[0].toFQDNs[0]: want an object"},
		{egress(`"toFQDNs":[{"matchName":"a"}],"toCIDR":["10.0.0.0/8"]`), "spec.egress[0]: toCIDR and toFQDNs can't stand in one rule"},
		{egress(`"toServices":[{"service":"a"}]`), "spec.egress[0].toServices[0].service: unknown field"},
		{egress(`"toServices":[{"k8sServiceSelector":{}}]`), "spec.egress[0].toServices[0].k8sServiceSelector.selector: missing"},
		{egress(`"toNodes":[{"matchLabels":{"a b":""}}]`), `spec.egress[0].toNodes[0].matchLabels["a b"]: "a b" is not a label key`},
		{egress(`"toNodes":[{"matchLabels":{"reserved:nobody":""}}]`), `spec.egress[0].toNodes[0].matchLabels["reserved:nobody"]: "reserved:nobody": no such`},
		{egress(`"toGroups":[{"gcp":{}}]`), "spec.egress[0].toGroups[0].gcp: unknown field"},
		{egress(`"toGroups":[{"aws":{"securityGroupsIds":[1]}}]`), "spec.egress[0].toGroups[0].aws.securityGroupsIds[0]: want text"},
		{egress(`"toRequires":[{}]`), "spec.egress[0].toRequires: no longer part of the API"},
		{egress(`"authentication":{}`), "spec.egress[0].authentication.mode: missing"},
		{egress(`"authentication":{"mode":"always"}`), `spec.egress[0].authentication.mode: unknown mode "always"`},
	} {
		t.Run(c.refusal, func(t *testing.T) {
			o, findings := Decode("", []byte(ciliumPolicy(c.spec)))
			var refusals []string
			for _, f := range findings {
				if !f.Warning {
					refusals = append(refusals, fmt.Sprintf("%s: %s", f.Field, f.Message))
				}
			}
			if o.Valid() || len(refusals) != 1 || len(refusals[0]) < len(c.refusal) || refusals[0][:len(c.refusal)] != c.refusal {
				t.Errorf("want it refused, beginning with\n  %s\ngot\n  %q", c.refusal, refusals)
			}
		})
	}
}
