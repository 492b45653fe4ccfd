package manifest

import (
	"fmt"
	"strings"
	"testing"
)

func ciliumPolicy(spec string) string {
	return fmt.Sprintf(`{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"p","namespace":"shop"},"spec":%s}`, spec)
}

func clusterwidePolicy(spec string) string {
	return fmt.Sprintf(`{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"p"},"spec":%s}`, spec)
}

const forShop = "for " + inShop

// The dialect's emptiness table: what is absent, empty, or holds an empty object.
func TestCiliumPolicyEmptiness(t *testing.T) {
	in, both := forShop+" isolate-ingress", forShop+" isolate-ingress isolate-egress"
	cases := []ruleCase{
		{name: "ingress [] leaves ingress alone", spec: `{"endpointSelector":{},"ingress":[]}`,
			want: []string{forShop}, findings: []string{"warning: spec.ingress: empty, so it says nothing"}},
		{name: "ingress [] beside egress [{}]", spec: `{"endpointSelector":{},"ingress":[],"egress":[{}]}`,
			want:     []string{forShop + " isolate-egress", "egress egress[0] allow: [] [everything]"},
			findings: []string{"warning: spec.ingress: empty"}},
		{name: "[{}] isolates and allows nothing", spec: `{"endpointSelector":{},"ingress":[{}],"egress":[{}]}`,
			want: []string{both, "ingress ingress[0] allow: [] [everything]", "egress egress[0] allow: [] [everything]"}},
		{name: "fromEndpoints [{}]: own namespace", spec: `{"endpointSelector":{},"ingress":[{"fromEndpoints":[{}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [{" + inShop + "}] [everything]"}},
		{name: "fromEndpoints []: nobody", spec: `{"endpointSelector":{},"ingress":[{"fromEndpoints":[]}]}`,
			want: []string{in, "ingress ingress[0] allow: [] [everything]"}},
		{name: "fromEndpoints [] with ports: nobody", spec: `{"endpointSelector":{},"ingress":[{"fromEndpoints":[],"toPorts":[{"ports":[{"port":"80"}]}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [] [ANY/80]"}},
		{name: "fromEntities [] with ports: nobody", spec: `{"endpointSelector":{},"ingress":[{"fromEntities":[],"toPorts":[{"ports":[{"port":"80"}]}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [] [ANY/80]"}},
		{name: "fromEndpoints null is absent", spec: `{"endpointSelector":{},"ingress":[{"fromEndpoints":null,"toPorts":[{"ports":[{"port":"80"}]}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [anyone] [ANY/80]"}},
		{name: "toPorts alone: anyone", spec: `{"endpointSelector":{},"ingress":[{"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}]}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [anyone] [TCP/80]"}},
		{name: "toPorts []: as if absent", spec: `{"endpointSelector":{},"ingress":[{"toPorts":[]}]}`,
			want: []string{in, "ingress ingress[0] allow: [] [everything]"}},
		{name: "toPorts [{}]: no port at all", spec: `{"endpointSelector":{},"ingress":[{"fromEndpoints":[{}],"toPorts":[{}]}]}`,
			want:     []string{in, "ingress ingress[0] allow: [{" + inShop + "}] []"},
			findings: []string{"warning: spec.ingress[0].toPorts[0]: names no ports, so it matches nothing"}},
		{name: "icmps alone: anyone", spec: `{"endpointSelector":{},"ingress":[{"icmps":[{"fields":[{"type":8}]}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [anyone] [ICMPv4 type 8]"}},
		{name: "both: and", spec: `{"endpointSelector":{},"ingress":[{"fromEndpoints":[{"matchLabels":{"app":"a"}},{"matchLabels":{"app":"b"}}],"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}]},{"ports":[{"port":"53"}]}]}]}`,
			want: []string{in, "ingress ingress[0] allow: [{any:app=a," + inShop + "}, {any:app=b," + inShop + "}] [TCP/80, ANY/53]"}},
		{name: "ingressDeny [{}] isolates and denies nobody", spec: `{"endpointSelector":{},"ingressDeny":[{}]}`,
			want: []string{in, "ingress ingressDeny[0] deny: [] [everything]"}},
		{name: "deny isolates its direction too", spec: `{"endpointSelector":{},"egressDeny":[{"toEntities":["world"]}]}`,
			want: []string{forShop + " isolate-egress", "egress egressDeny[0] deny: [world] [everything]"}},
		{name: "enableDefaultDeny false", spec: `{"endpointSelector":{},"enableDefaultDeny":{"ingress":false,"egress":false},"ingressDeny":[{"fromEntities":["world"]}]}`,
			want: []string{forShop, "ingress ingressDeny[0] deny: [world] [everything]"}},
		{name: "enableDefaultDeny for a direction without rules", spec: `{"endpointSelector":{},"enableDefaultDeny":{"egress":true},"ingress":[{}]}`,
			want: []string{both, "ingress ingress[0] allow: [] [everything]"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, ciliumPolicy(c.spec)) })
	}
}

func TestCiliumPolicySelectors(t *testing.T) {
	peer := func(sel string) string {
		return `{"endpointSelector":{},"ingress":[{"fromEndpoints":[` + sel + `]}]}`
	}
	allowed := func(sel string) []string {
		return []string{forShop + " isolate-ingress", "ingress ingress[0] allow: [{" + sel + "}] [everything]"}
	}
	cases := []ruleCase{
		{name: "sources", spec: peer(`{"matchLabels":{"a":"1","any:b":"2","k8s:c":"3"}}`), want: allowed("any:a=1,any:b=2,k8s:c=3," + inShop)},
		{name: "dots are part of the key", spec: peer(`{"matchLabels":{"k8s.app":"x","k8s:k8s.io.x":"y"}}`), want: allowed("any:k8s.app=x," + inShop + ",k8s:k8s.io.x=y")},
		{name: "another namespace by name", spec: peer(`{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"other"}}`),
			want: allowed(inAny + "," + inAny + "=other")},
		{name: "another namespace by name, no source", spec: peer(`{"matchLabels":{"io.kubernetes.pod.namespace":"other","app":"x"}}`),
			want: allowed("any:app=x,any:io.kubernetes.pod.namespace=other," + inAny)},
		{name: "namespaces but one: pods only", spec: peer(`{"matchExpressions":[{"key":"k8s:io.kubernetes.pod.namespace","operator":"NotIn","values":["kube-system"]}]}`),
			want: allowed(inAny + "," + inAny + " notin (kube-system)")},
		{name: "every namespace", spec: peer(`{"matchExpressions":[{"key":"k8s:io.kubernetes.pod.namespace","operator":"Exists"}]}`), want: allowed(inAny)},
		{name: "namespace labels", spec: peer(`{"matchLabels":{"k8s:io.cilium.k8s.namespace.labels.app.kubernetes.io/name":"x"}}`),
			want: allowed(nsKey + "app.kubernetes.io/name=x," + inAny)},
		{name: "namespace labels longer than a label's name", spec: peer(`{"matchLabels":{"k8s:io.cilium.k8s.namespace.labels.` + strings.Repeat("x", 60) + `":"1"}}`),
			want: allowed(nsKey + strings.Repeat("x", 60) + "=1," + inAny)},
		{name: "reserved: no namespace", spec: peer(`{"matchLabels":{"reserved:host":""}}`), want: allowed("reserved:host=")},
		{name: "reserved: exists", spec: peer(`{"matchExpressions":[{"key":"reserved:remote-node","operator":"Exists"}]}`), want: allowed("reserved:remote-node")},
		{name: "expressions", spec: peer(`{"matchExpressions":[{"key":"app","operator":"In","values":["b","a"]},{"key":"k8s:x","operator":"DoesNotExist"}]}`),
			want: allowed("!k8s:x,any:app in (a,b)," + inShop)},
		{name: "subject is of the own namespace", spec: `{"endpointSelector":{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"shop","app":"x"}},"ingress":[{}]}`,
			want: []string{"for any:app=x," + inShop + " isolate-ingress", "ingress ingress[0] allow: [] [everything]"}},
		{name: "subject of another namespace", spec: `{"endpointSelector":{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"other"}},"ingress":[{}]}`,
			findings: []string{"spec.endpointSelector: asks for pods of another namespace"}},
		{name: "reserved subject", spec: `{"endpointSelector":{"matchLabels":{"reserved:host":""}},"ingress":[{}]}`,
			want:     []string{"for " + inShop + ",reserved:host= isolate-ingress", "ingress ingress[0] allow: [] [everything]"},
			findings: []string{"warning: spec.endpointSelector: reserved:host is no pod"}},
		{name: "bad selectors", spec: peer(`{"matchLabels":{"foo:x":"1","reserved:nobody":"","k8s:a b":"1","controller-uid":"1","ok":"n o"}},{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]},{"matchlabels":{}},"x"`),
			findings: []string{
				`spec.ingress[0].fromEndpoints[0].matchLabels["controller-uid"]: label "controller-uid" differs`,
				`spec.ingress[0].fromEndpoints[0].matchLabels["foo:x"]: "foo:x": unknown label source "foo"; allowed: k8s, any, reserved`,
				`spec.ingress[0].fromEndpoints[0].matchLabels["k8s:a b"]: "k8s:a b" is not a label key`,
				`spec.ingress[0].fromEndpoints[0].matchLabels["ok"]: "n o" is not a label value`,
				`spec.ingress[0].fromEndpoints[0].matchLabels["reserved:nobody"]: "reserved:nobody": no such reserved label`,
				`spec.ingress[0].fromEndpoints[1].matchExpressions[0].operator: unknown operator "Gt"; allowed: In, NotIn, Exists, DoesNotExist`,
				`spec.ingress[0].fromEndpoints[2].matchlabels: unknown field; allowed: matchLabels, matchExpressions`,
				`spec.ingress[0].fromEndpoints[3]: want an object, got the text "x"`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, ciliumPolicy(c.spec)) })
	}
}

func TestClusterwidePolicy(t *testing.T) {
	cases := []ruleCase{
		{name: "fromEndpoints [{}]: every pod, no host", spec: `{"endpointSelector":{"matchLabels":{"app":"x"}},"ingress":[{"fromEndpoints":[{}]}]}`,
			want: []string{"for any:app=x isolate-ingress", "ingress ingress[0] allow: [{" + inAny + "}] [everything]"}},
		{name: "every endpoint", spec: `{"endpointSelector":{},"egress":[{"toEndpoints":[{"matchLabels":{"app":"x"}}]}]}`,
			want: []string{"for <all> isolate-egress", "egress egress[0] allow: [{any:app=x," + inAny + "}] [everything]"}},
		{name: "a namespace by name", spec: `{"endpointSelector":{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"a"}},"ingress":[{"fromEndpoints":[{"matchLabels":{"reserved:host":""}}]}]}`,
			want: []string{"for " + inAny + "=a isolate-ingress", "ingress ingress[0] allow: [{reserved:host=}] [everything]"}},
		{name: "policies for nodes", spec: `{"nodeSelector":{},"ingress":[{}]}`, findings: []string{"spec.nodeSelector: policies for nodes are not supported"}},
		{name: "two selectors", spec: `{"nodeSelector":{},"endpointSelector":{},"ingress":[{}]}`, findings: []string{"spec: endpointSelector and nodeSelector exclude one another"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, clusterwidePolicy(c.spec)) })
	}
}

func TestCiliumPolicyPeersAndPorts(t *testing.T) {
	ingress := func(rule string) string { return `{"endpointSelector":{},"ingress":[` + rule + `]}` }
	egress := func(rule string) string { return `{"endpointSelector":{},"egress":[` + rule + `]}` }
	in := func(rest string) []string {
		return []string{forShop + " isolate-ingress", "ingress ingress[0] allow: " + rest}
	}
	many := strings.TrimSuffix(strings.Repeat(`{"port":"80"},`, 41), ",")
	cases := []ruleCase{
		{name: "entities", spec: ingress(`{"fromEntities":["all","world","world-ipv4","world-ipv6","cluster","host","remote-node","init","ingress","unmanaged","health","kube-apiserver","none"]}`),
			want: in("[all, world, world-ipv4, world-ipv6, cluster, host, remote-node, init, ingress, unmanaged, health, kube-apiserver, none] [everything]")},
		{name: "CIDRs", spec: ingress(`{"fromCIDR":["10.0.0.0/8","::/0"]}`), want: in("[10.0.0.0/8, ::/0] [everything]")},
		{name: "CIDR sets", spec: egress(`{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.0.0.0/8"]}]}`),
			want: []string{forShop + " isolate-egress", "egress egress[0] allow: [10.0.0.0/8 but 10.1.0.0/16 but 10.0.0.0/8] [everything]"}},
		{name: "ports", spec: ingress(`{"toPorts":[{"ports":[{"port":"80","protocol":"TCP"},{"port":"0","protocol":"UDP"},{"port":"0"},{"port":"HTTP"},{"port":"1","endPort":5},{"port":"9","endPort":0},{"protocol":"GRE"},{"port":"0","protocol":"ICMP"}],"rules":{}}]}`),
			want: in("[anyone] [TCP/80, UDP, ANY, ANY/http, ANY/1-5, ANY/9, 47, ICMPv4]")},
		{name: "icmps", spec: ingress(`{"icmps":[{"fields":[{"type":"EchoRequest"},{"type":"EchoRequest","family":"IPv6"},{"type":"135","family":"IPv6"},{"type":0}]},{"fields":[{"type":255}]}]}`),
			want: in("[anyone] [ICMPv4 type 8, ICMPv6 type 128, ICMPv6 type 135, ICMPv4 type 0, ICMPv4 type 255]")},
		{name: "specs and paths", spec: `{"endpointSelector":{},"ingress":[{}]},"specs":[{"endpointSelector":{},"egress":[{},{"toEntities":["host"]}]},{"endpointSelector":{},"egressDeny":[{}]}]`,
			want: []string{
				forShop + " isolate-ingress", "ingress ingress[0] allow: [] [everything]",
				forShop + " isolate-egress", "egress specs[0].egress[0] allow: [] [everything]", "egress specs[0].egress[1] allow: [host] [everything]",
				forShop + " isolate-egress", "egress specs[1].egressDeny[0] deny: [] [everything]"}},
		{name: "notes", spec: `{"endpointSelector":{},"description":"x","labels":[{"key":"a","value":"b"}],"log":{"value":"hello"},"ingress":[{"authentication":{"mode":"disabled"}}]}`,
			want: in("[] [everything]")},

		{name: "no selector", spec: `{"ingress":[{}]}`, findings: []string{"spec.endpointSelector: missing"}},
		{name: "node selector in a namespace", spec: `{"nodeSelector":{},"ingress":[{}]}`, findings: []string{"spec.nodeSelector: only a CiliumClusterwideNetworkPolicy may select nodes"}},
		{name: "no section", spec: `{"endpointSelector":{}}`, findings: []string{"spec: holds no rules; want at least one of ingress, ingressDeny, egress, egressDeny"}},
		{name: "no spec", spec: `null`, findings: []string{"spec: missing"}},
		{name: "empty specs", spec: `null,"specs":[]`, findings: []string{"specs: empty"}},
		{name: "two kinds of peers", spec: ingress(`{"fromEndpoints":[{}],"fromEntities":["world"]}`),
			findings: []string{"spec.ingress[0]: fromEndpoints and fromEntities can't stand in one rule"}},
		{name: "CIDR and CIDRSet", spec: ingress(`{"fromCIDR":["10.0.0.0/8"],"fromCIDRSet":[{"cidr":"11.0.0.0/8"}]}`),
			findings: []string{"spec.ingress[0]: fromCIDR and fromCIDRSet can't stand in one rule"}},
		{name: "an empty list beside another kind", spec: ingress(`{"fromEndpoints":[],"fromEntities":["world"]}`), want: in("[world] [everything]")},
		{name: "ports and icmps", spec: ingress(`{"toPorts":[{"ports":[{"port":"80"}]}],"icmps":[{"fields":[{"type":8}]}]}`),
			findings: []string{"spec.ingress[0]: toPorts and icmps can't stand in one rule"}},
		{name: "unknown entity", spec: ingress(`{"fromEntities":["worlds","mesh"]}`),
			findings: []string{`spec.ingress[0].fromEntities[0]: unknown entity "worlds"; allowed: all, world`, `spec.ingress[0].fromEntities[1]: unknown entity "mesh"`}},
		{name: "bad CIDRs", spec: ingress(`{"fromCIDRSet":[{"cidr":"10.0.0.0/40"},{},{"cidr":"10.0.0.0/24","except":["10.0.0.0/16","2001:db8::/64"]},{"cidr":"10.0.0.0/8","cidrGroupRef":"g"}]}`),
			findings: []string{
				`spec.ingress[0].fromCIDRSet[0].cidr: "10.0.0.0/40" is not a CIDR`,
				"spec.ingress[0].fromCIDRSet[1].cidr: missing",
				"spec.ingress[0].fromCIDRSet[2].except[0]: 10.0.0.0/16 is not a part of 10.0.0.0/24",
				"spec.ingress[0].fromCIDRSet[2].except[1]: 2001:db8::/64 is not a part of 10.0.0.0/24",
				"spec.ingress[0].fromCIDRSet[3]: cidr and cidrGroupRef stand in one entry; want exactly one of"}},
		{name: "bad ports", spec: ingress(`{"toPorts":[{"ports":[{"port":"70000"},{"port":80},{"port":"http","endPort":90},{"port":"80","endPort":79},{"port":"80","protocol":"tcp"},{"protocol":"TCP"},{"port":"0","endPort":5},{"port":"5","protocol":"ESP"},{"port":"a--b"},{"port":"80","name":"x"},{"port":"80","endPort":70000},{"port":"00","endPort":5}]}]}`),
			findings: []string{
				`spec.ingress[0].toPorts[0].ports[0].port: "70000" is not a port; want a number in quotes`,
				"spec.ingress[0].toPorts[0].ports[1].port: want text, got the number 80; put it in quotes",
				`spec.ingress[0].toPorts[0].ports[2].endPort: can't stand with the named port "http"`,
				"spec.ingress[0].toPorts[0].ports[3].endPort: 79 is less than port 80",
				`spec.ingress[0].toPorts[0].ports[4].protocol: unknown protocol "tcp"; allowed: TCP, UDP, SCTP, ICMP`,
				"spec.ingress[0].toPorts[0].ports[5].port: missing",
				`spec.ingress[0].toPorts[0].ports[6].endPort: port "0" is every port already`,
				"spec.ingress[0].toPorts[0].ports[7].port: protocol ESP has no ports",
				`spec.ingress[0].toPorts[0].ports[8].port: "a--b" is not a port`,
				"spec.ingress[0].toPorts[0].ports[9].name: unknown field; allowed: port, endPort, protocol",
				"spec.ingress[0].toPorts[0].ports[10].endPort: 70000 is out of range",
				`spec.ingress[0].toPorts[0].ports[11].endPort: port "0" is every port already`}},
		{name: "too many ports", spec: ingress(`{"toPorts":[{"ports":[` + many + `]}]}`),
			findings: []string{"spec.ingress[0].toPorts[0].ports: 41 entries; allowed: 40"}},
		{name: "bad ICMP", spec: ingress(`{"icmps":[{"fields":[{"type":256},{"type":"Ping"},{"family":"ipv4","type":8},{"family":"IPv6"}]}]}`),
			findings: []string{
				"spec.ingress[0].icmps[0].fields[0].type: 256 is out of range; allowed: 0 to 255",
				`spec.ingress[0].icmps[0].fields[1].type: unknown ICMP type "Ping" of this family; want a number from 0 to 255 or one of DestinationUnreachable`,
				`spec.ingress[0].icmps[0].fields[2].family: unknown family "ipv4"; allowed: IPv4, IPv6`,
				"spec.ingress[0].icmps[0].fields[3].type: missing"}},
		{name: "layer 7 and names in deny rules", spec: `{"endpointSelector":{},"ingressDeny":[{"toPorts":[{"ports":[{"port":"80"}],"rules":{"http":[{}]}}]}],"egressDeny":[{"toFQDNs":[]},{"authentication":{}}]}`,
			findings: []string{
				"spec.ingressDeny[0].toPorts[0].rules: not possible in a deny rule; allowed: ports",
				"spec.egressDeny[0].toFQDNs: unknown field; allowed: toEndpoints",
				"spec.egressDeny[1].authentication: unknown field"}},
		{name: "directions mixed up and unknown fields", spec: `{"endpointSelector":{},"enableDefaultDeny":{"ingres":true},"ingres":[],"ingress":[{"toEndpoints":[{}]}],"egress":[{"fromEndpoints":[{}]}]}`,
			findings: []string{
				"spec.ingres: unknown field; allowed: endpointSelector, nodeSelector, ingress",
				"spec.ingress[0].toEndpoints: unknown field; allowed: fromEndpoints, fromEntities, fromCIDR, fromCIDRSet",
				"spec.egress[0].fromEndpoints: unknown field; allowed: toEndpoints",
				"spec.enableDefaultDeny.ingres: unknown field; allowed: ingress, egress"}},
		{name: "log out of form", spec: `{"endpointSelector":{},"ingress":[{}],"log":{"value":"` + strings.Repeat("x", 33) + `"}}`,
			findings: []string{"spec.log.value: want at most 32 printable characters"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, ciliumPolicy(c.spec)) })
	}
}
