package crds

import "strings"

// spec is a policy of one rule for all pods of its namespace with these sections.
func spec(sections string) string { return `"spec":{"endpointSelector":{},` + sections + `}` }

// specs is the same as a list.
func specs(sections string) string { return `"specs":[{"endpointSelector":{},` + sections + `}]` }

func ingress(rule string) string { return spec(`"ingress":[` + rule + `]`) }
func egress(rule string) string  { return spec(`"egress":[` + rule + `]`) }

// port is a rule for one port.
func port(p string) string { return ingress(`{"toPorts":[{"ports":[` + p + `]}]}`) }

// icmp is a rule for one ICMP message.
func icmp(field string) string { return ingress(`{"icmps":[{"fields":[` + field + `]}]}`) }

// peer is a rule for pods by their labels.
func peer(selector string) string { return ingress(`{"fromEndpoints":[` + selector + `]}`) }

// l7 is a rule for one port and what is said on it.
func l7(port, rules string) string {
	return egress(`{"toPorts":[{"ports":[` + port + `],"rules":` + rules + `}]}`)
}

func cases() []agreementCase {
	manyPorts := strings.TrimSuffix(strings.Repeat(`{"port":"80"},`, 41), ",")
	manyFields := strings.TrimSuffix(strings.Repeat(`{"type":8},`, 41), ",")
	const http = `{"port":"80","protocol":"TCP"}`
	var out []agreementCase
	ok := func(name, spec string) { out = append(out, agreementCase{name: name, spec: spec}) }
	bad := func(name, spec, says string) {
		out = append(out, agreementCase{name: name, spec: spec, refused: true, says: says})
	}
	but := func(exception, name, spec string) {
		out = append(out, agreementCase{name: name, spec: spec, exception: exception})
	}

	ok("empty list", spec(`"ingress":[]`))
	ok("empty rules", spec(`"ingress":[{}],"egress":[{}],"ingressDeny":[{}],"egressDeny":[{}]`))
	ok("spec and specs", ingress(`{}`)+`,`+specs(`"egress":[{}]`))
	ok("peers that are no one", ingress(`{"fromEndpoints":[],"fromEntities":[],"toPorts":[]}`))
	ok("notes", spec(`"description":"x","labels":[{"key":"a","value":"b","source":"k8s"},{}],"log":{"value":"hällo 1!"},"enableDefaultDeny":{"ingress":false},"ingress":[{}]`))
	bad("no spec", `"status":{}`, "want spec, one set of rules, or specs")
	bad("empty specs", `"specs":[]`, "want spec, one set of rules, or specs")
	bad("no sections", spec(`"description":"x"`), "holds no rules")
	bad("no sections in specs", specs(`"description":"x"`), "holds no rules")
	bad("no selector", `"spec":{"ingress":[{}]}`, "want endpointSelector or nodeSelector")
	bad("two selectors", `"spec":{"endpointSelector":{},"nodeSelector":{},"ingress":[{}]}`, "want endpointSelector or nodeSelector")
	bad("node selector in a namespace", `"spec":{"nodeSelector":{},"ingress":[{}]}`, "only a CiliumClusterwideNetworkPolicy may select nodes")
	bad("node selector in a namespace, in specs", `"specs":[{"nodeSelector":{},"ingress":[{}]}]`, "only a CiliumClusterwideNetworkPolicy may select nodes")
	bad("unknown section", spec(`"ingres":[],"ingress":[{}]`), `unknown field "spec.ingres"`)
	bad("unknown field at the top", ingress(`{}`)+`,"Spec":{}`, "unknown field")
	bad("directions mixed up", ingress(`{"toEndpoints":[{}]}`), "unknown field")
	bad("long log", spec(`"ingress":[{}],"log":{"value":"`+strings.Repeat("x", 33)+`"}`), "32")
	bad("log that can't be printed", spec(`"ingress":[{}],"log":{"value":"a\u0007"}`), "spec.log.value")

	ok("entities", ingress(`{"fromEntities":["all","world","world-ipv4","world-ipv6","cluster","host","remote-node","init","ingress","unmanaged","health","kube-apiserver","none"]}`))
	bad("unknown entity", ingress(`{"fromEntities":["worlds"]}`), "supported values")
	ok("the entity of other clusters", ingress(`{"fromEntities":["cluster-mesh"]}`))
	ok("one kind of peers beside an empty one", ingress(`{"fromEndpoints":[],"fromEntities":["world"]}`))
	for _, s := range []struct {
		name string
		of   func(string) string
		says string
	}{{"", spec, "a rule names one kind of peers"}, {" in specs", specs, "anyOf"}} {
		bad("two kinds of peers"+s.name, s.of(`"ingress":[{"fromEndpoints":[{}],"fromEntities":["world"]}]`), s.says)
		bad("two kinds of peers denied"+s.name, s.of(`"ingressDeny":[{"fromCIDR":["10.0.0.0/8"],"fromCIDRSet":[{"cidr":"10.0.0.0/8"}]}]`), s.says)
		bad("two kinds of peers to send to"+s.name, s.of(`"egress":[{"toServices":[{}],"toFQDNs":[{"matchName":"a.b"}]}]`), s.says)
		bad("two kinds of peers denied to send to"+s.name, s.of(`"egressDeny":[{"toEntities":["world"],"toCIDR":["10.0.0.0/8"]}]`), s.says)
		for _, section := range []string{"ingress", "ingressDeny", "egress", "egressDeny"} {
			bad("ports and ICMP in "+section+s.name, s.of(`"`+section+`":[{"toPorts":[{"ports":[`+http+`]}],"icmps":[{"fields":[{"type":8}]}]}]`), "")
			ok("ICMP and no ports in "+section+s.name, s.of(`"`+section+`":[{"toPorts":[],"icmps":[{"fields":[{"type":8}]}]}]`))
		}
		bad("DNS names denied"+s.name, s.of(`"egressDeny":[{"toFQDNs":[{"matchName":"a.b"}]}]`), "")
		bad("no DNS names denied"+s.name, s.of(`"egressDeny":[{"toFQDNs":[]}]`), "")
	}
	ok("no requirements", ingress(`{"fromRequires":[]}`))
	bad("requirements", ingress(`{"fromRequires":[{}]}`), "fromRequires")
	bad("requirements to send to", egress(`{"toRequires":[{}]}`), "toRequires")
	ok("nodes", ingress(`{"fromNodes":[{}]}`))
	ok("groups", egress(`{"toGroups":[{"aws":{}}]}`))
	ok("services", egress(`{"toServices":[{"k8sService":{"serviceName":"a"}}]}`))
	ok("DNS names", egress(`{"toFQDNs":[{"matchName":"a.b"},{"matchPattern":"*.c"}]}`))
	bad("service selector that selects nothing", egress(`{"toServices":[{"k8sServiceSelector":{}}]}`), "selector")
	bad("nodes by a key of wrong form", ingress(`{"fromNodes":[{"matchExpressions":[{"key":"a b","operator":"Exists"}]}]}`), "key")
	bad("a group of nobody", egress(`{"toGroups":[{"gcp":{}}]}`), "unknown field")
	bad("name and pattern", egress(`{"toFQDNs":[{"matchName":"a.b","matchPattern":"*"}]}`), "oneOf")
	bad("name of wrong form", egress(`{"toFQDNs":[{"matchName":"a b"}]}`), "matchName")
	ok("no authentication", ingress(`{"fromEndpoints":[{}],"authentication":{"mode":"disabled"}}`))
	ok("authentication", ingress(`{"authentication":{"mode":"required"}}`))
	bad("unknown authentication", ingress(`{"authentication":{"mode":"maybe"}}`), "supported values")
	bad("authentication without a mode", ingress(`{"authentication":{}}`), "mode")
	bad("authentication of what is denied", spec(`"ingressDeny":[{"authentication":{"mode":"disabled"}}]`), "unknown field")

	ok("prefixes", ingress(`{"fromCIDR":["10.0.0.0/8","0.0.0.0/0","::/0","2001:DB8::/32","192.0.2.1/32","2001:db8::1.2.3.4/128","10.1.2.3/8"]}`))
	for _, p := range []string{"10.0.0.0/33", "10.0.0.0", "10.0.0/8", "10.0.0.0/08", "10.0.0.0/-1", "256.0.0.0/8", "2001:db8::/129", "fe80::1%eth0/64", "::ffff:10.0.0.0/104", "::ffff:a00:0/104", "0:0:0:0:0:FFFF::/96", "", "a", "010.0.0.0/8"} {
		bad("prefix "+p, ingress(`{"fromCIDR":["`+p+`"]}`), "")
	}
	ok("prefix with exceptions", egress(`{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.0.0.0/8"]}]}`))
	but("an exception outside of the prefix", "exception outside", egress(`{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["11.0.0.0/16"]}]}`))
	ok("CIDR groups", egress(`{"toCIDRSet":[{"cidrGroupRef":"g.a-1"},{"cidrGroupSelector":{}},{"cidrGroupSelector":{"matchLabels":{"k8s:a.b/c":"d"},"matchExpressions":[{"key":"controller-uid","operator":"In","values":["1"]},{"key":"reserved:host","operator":"DoesNotExist"}]}}]}`))
	ok("CIDR groups denied in specs", specs(`"ingressDeny":[{"fromCIDRSet":[{"cidrGroupRef":"g"}]}]`))
	ok("CIDR groups with exceptions", egress(`{"toCIDRSet":[{"cidrGroupRef":"g","except":["10.1.0.0/16","::/0"]},{"cidrGroupSelector":{},"except":[]}]}`))
	bad("group and labels of groups", egress(`{"toCIDRSet":[{"cidrGroupSelector":{},"cidrGroupRef":"g"}]}`), "oneOf")
	for _, name := range []string{"", "A", "a b", "-a", "a.", "a..b", strings.Repeat("x", 254)} {
		bad("group "+name, egress(`{"toCIDRSet":[{"cidrGroupRef":"`+name+`"}]}`), "cidrGroupRef")
	}
	bad("group that is no name", egress(`{"toCIDRSet":[{"cidrGroupRef":7}]}`), "cidrGroupRef")
	bad("exception of a group that is no prefix", egress(`{"toCIDRSet":[{"cidrGroupRef":"g","except":["10.0.0.1"]}]}`), "except[0]")
	bad("labels of groups of wrong form", egress(`{"toCIDRSet":[{"cidrGroupSelector":{"matchLabels":{"a":"n o"}}}]}`), "")
	bad("unknown operator on groups", egress(`{"toCIDRSet":[{"cidrGroupSelector":{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]}}]}`), "supported values")
	bad("key of groups", egress(`{"toCIDRSet":[{"cidrGroupSelector":{"matchExpressions":[{"key":"foo:a","operator":"Exists"}]}}]}`), "key")
	but("keys of matchLabels", "a key of groups in matchLabels", egress(`{"toCIDRSet":[{"cidrGroupSelector":{"matchLabels":{"foo:a":""}}}]}`))
	but("an exception outside of the prefix", "exception outside, group beside", egress(`{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["11.0.0.0/16"]},{"cidrGroupRef":"g"}]}`))
	bad("no prefix", egress(`{"toCIDRSet":[{}]}`), "oneOf")
	bad("exceptions from nothing", egress(`{"toCIDRSet":[{"except":["10.0.0.0/8"]}]}`), "oneOf")
	bad("prefix and group", egress(`{"toCIDRSet":[{"cidr":"10.0.0.0/8","cidrGroupRef":"g"}]}`), "oneOf")
	bad("exception that is no prefix", egress(`{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["10.0.0.1"]}]}`), "except[0]")

	for _, p := range []string{`{"port":"80"}`, `{"port":"0"}`, `{"port":"65535","protocol":"SCTP"}`, `{"port":"0080","protocol":"ANY"}`, `{"port":"HTTP"}`, `{"port":"a-1-b"}`, `{"port":"1-a"}`, `{"port":"1","endPort":65535}`, `{"port":"80","endPort":80}`,
		`{"port":"9","endPort":0}`, `{"port":"http","endPort":0}`, `{"port":"0","endPort":0}`, `{"protocol":"GRE"}`, `{"port":"0","protocol":"ICMP"}`, `{"port":"","protocol":"ICMPv6"}`, `{"port":"80","protocol":""}`} {
		ok("port "+p, port(p))
	}
	for _, p := range []string{`{"port":"65536"}`, `{"port":"-1"}`, `{"port":80}`, `{"port":""}`, `{}`, `{"protocol":"TCP"}`, `{"port":"a--b"}`, `{"port":"-a"}`, `{"port":"a-"}`, `{"port":"1-2"}`, `{"port":"a b"}`, `{"port":"a_b"}`, `{"port":"` + strings.Repeat("a", 64) + `"}`,
		`{"port":"http","endPort":90}`, `{"port":"0","endPort":5}`, `{"port":"00","endPort":5}`, `{"port":"80","endPort":65536}`, `{"port":"80","endPort":-1}`, `{"port":"80","endPort":"90"}`, `{"port":"80","protocol":"tcp"}`, `{"port":"5","protocol":"ESP"}`,
		`{"port":"00","protocol":"ESP"}`, `{"protocol":"GRE","endPort":1}`, `{"port":"0","protocol":"GRE","endPort":0}`, `{"port":"80","name":"x"}`} {
		bad("port "+p, port(p), "")
	}
	but("a range that ends before it begins", "range", port(`{"port":"80","endPort":79}`))
	bad("many ports", port(manyPorts), "at most 40")
	bad("many ports denied", spec(`"egressDeny":[{"toPorts":[{"ports":[`+manyPorts+`]}]}]`), "at most 40")
	ok("entries without ports", ingress(`{"fromEndpoints":[{}],"toPorts":[{},{"ports":[]}]}`))

	for _, f := range []string{`{"type":0}`, `{"type":255}`, `{"type":"255","family":"IPv4"}`, `{"type":"EchoRequest"}`, `{"type":"Photuris"}`, `{"type":"EchoRequest","family":"IPv6"}`, `{"type":"NeighborSolicitation","family":"IPv6"}`, `{"type":135,"family":"IPv6"}`, `{"type":"007"}`} {
		ok("ICMP "+f, icmp(f))
	}
	for _, f := range []string{`{"type":256}`, `{"type":-1}`, `{"type":"256"}`, `{"type":"Ping"}`, `{"type":"NeighborSolicitation"}`, `{"type":"Photuris","family":"IPv6"}`, `{"type":8,"family":"ipv4"}`, `{"type":8,"family":""}`, `{"family":"IPv6"}`, `{}`, `{"type":true}`, `{"type":""}`} {
		bad("ICMP "+f, icmp(f), "")
	}
	bad("many ICMP messages", icmp(manyFields), "at most 40")
	ok("no ICMP messages", ingress(`{"icmps":[{},{"fields":[]}]}`))

	ok("selectors", peer(`{},{"matchLabels":{"a":"1","any:b":"","k8s:c.d/e":"x_y.z"}},{"matchLabels":{"reserved:host":""}},{"matchLabels":{"k8s:io.cilium.k8s.namespace.labels.`+strings.Repeat("x", 60)+`":"1"}}`))
	ok("expressions", peer(`{"matchExpressions":[{"key":"k8s:app","operator":"In","values":["a",""]},{"key":"x.y/z","operator":"NotIn","values":["b"]},{"key":"reserved:remote-node","operator":"Exists"},{"key":"io.kubernetes.pod.namespace","operator":"DoesNotExist","values":[]},{"key":"any:io.cilium.k8s.namespace.labels.app.kubernetes.io/name","operator":"Exists"}]}`))
	bad("unknown operator", peer(`{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]}`), "supported values")
	bad("In without values", peer(`{"matchExpressions":[{"key":"a","operator":"In"}]}`), "anyOf")
	bad("NotIn without values", peer(`{"matchExpressions":[{"key":"a","operator":"NotIn","values":[]}]}`), "anyOf")
	bad("Exists with values", peer(`{"matchExpressions":[{"key":"a","operator":"Exists","values":["x"]}]}`), "anyOf")
	bad("no key", peer(`{"matchExpressions":[{"operator":"Exists"}]}`), "key")
	bad("no operator", peer(`{"matchExpressions":[{"key":"a"}]}`), "operator")
	bad("value of wrong form", peer(`{"matchLabels":{"a":"n o"}}`), "")
	bad("value that is no text", peer(`{"matchLabels":{"a":true}}`), "")
	bad("value of wrong form in a list", peer(`{"matchExpressions":[{"key":"a","operator":"In","values":["-"]}]}`), "")
	bad("long value", peer(`{"matchLabels":{"a":"`+strings.Repeat("x", 64)+`"}}`), "")
	for _, k := range []string{"foo:x", "a b", "reserved:nobody", "", "a/b/c", "A/b", "/x", strings.Repeat("x", 64), "k8s:", "k8s:reserved:host"} {
		bad("key "+k, peer(`{"matchExpressions":[{"key":"`+k+`","operator":"Exists"}]}`), "key")
		if k != "" {
			but("keys of matchLabels", "key "+k+" of matchLabels", peer(`{"matchLabels":{"`+k+`":""}}`))
		}
	}
	bad("unknown field of a selector", peer(`{"matchlabels":{}}`), "unknown field")
	bad("selector that is text", peer(`"app=a"`), "")
	but("labels that are no part of identities", "controller-uid", peer(`{"matchLabels":{"controller-uid":"1"}}`))
	but("pods of another namespace", "another namespace", `"spec":{"endpointSelector":{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"other"}},"ingress":[{}]}`)

	ok("no rules for what is said", l7(http, `{}`))
	ok("HTTP", l7(http, `{"http":[{"method":"GET","path":"/a"}]}`))
	ok("HTTP on a named port", l7(`{"port":"web","protocol":"TCP"}`, `{"http":[{}]}`))
	ok("DNS", l7(`{"port":"53","protocol":"ANY"},{"port":"53"},{"port":"53","protocol":"UDP"}`, `{"dns":[{"matchPattern":"*"}]}`))
	ok("Kafka", l7(http, `{"kafka":[{"role":"produce","topic":"a"}]}`))
	ok("a parser", l7(http, `{"l7proto":"memcached","l7":[{"command":"get"}]}`))
	ok("server names", egress(`{"toPorts":[{"ports":[`+http+`],"serverNames":["a.b"]}]}`))
	ok("listener", egress(`{"toPorts":[{"ports":[`+http+`],"listener":{"envoyConfig":{"name":"a"},"name":"b"}}]}`))
	ok("every HTTP request", l7(http, `{"http":[{}]}`))
	ok("headers", l7(http, `{"http":[{"headers":["A: b"],"headerMatches":[{"name":"A","value":"b","mismatch":"LOG","secret":{"name":"s","namespace":"n"}}]}]}`))
	ok("TLS", egress(`{"toPorts":[{"ports":[`+http+`],"terminatingTLS":{"secret":{"name":"s"}},"originatingTLS":{"secret":{"name":"s"},"trustedCA":"a"}}]}`))
	ok("empty lists of what is said", l7(`{"port":"0"}`, `{"http":[],"dns":[],"kafka":[],"l7":[]}`))
	bad("unknown reaction to a header", l7(http, `{"http":[{"headerMatches":[{"name":"A","mismatch":"DROP"}]}]}`), "supported values")
	bad("a header without a name", l7(http, `{"http":[{"headerMatches":[{"name":""}]}]}`), "name")
	bad("TLS without a secret", egress(`{"toPorts":[{"ports":[`+http+`],"terminatingTLS":{}}]}`), "secret")
	bad("no server names", egress(`{"toPorts":[{"ports":[`+http+`],"serverNames":[]}]}`), "serverNames")
	bad("server name of wrong form", egress(`{"toPorts":[{"ports":[`+http+`],"serverNames":["a..b"]}]}`), "serverNames")
	bad("listener without its object", egress(`{"toPorts":[{"ports":[`+http+`],"listener":{"name":"b"}}]}`), "envoyConfig")
	bad("listener with a large number", egress(`{"toPorts":[{"ports":[`+http+`],"listener":{"envoyConfig":{"name":"a"},"name":"b","priority":101}}]}`), "priority")
	bad("topic of wrong form", l7(http, `{"kafka":[{"topic":"a b"}]}`), "topic")
	bad("unknown role", l7(http, `{"kafka":[{"role":"read"}]}`), "supported values")
	bad("DNS by name and pattern", l7(`{"port":"53"}`, `{"dns":[{"matchName":"a","matchPattern":"*"}]}`), "oneOf")
	but("regular expressions", "a path that is no expression", l7(http, `{"http":[{"path":"/("}]}`))
	but("a range of ports for DNS", "DNS on a range", l7(`{"port":"53","endPort":54}`, `{"dns":[{"matchPattern":"*"}]}`))
	bad("HTTP on UDP", l7(`{"port":"80","protocol":"UDP"}`, `{"http":[{}]}`), "anyOf")
	bad("HTTP on any protocol", l7(`{"port":"80"}`, `{"http":[{}]}`), "anyOf")
	bad("HTTP on TCP and UDP", l7(http+`,{"port":"80","protocol":"UDP"}`, `{"http":[{}]}`), "anyOf")
	bad("HTTP on port 0", l7(`{"port":"0","protocol":"TCP"}`, `{"http":[{}]}`), "anyOf")
	bad("DNS on port 0", l7(`{"port":"0","protocol":"UDP"}`, `{"dns":[{"matchName":"a"}]}`), "anyOf")
	bad("DNS on SCTP", l7(`{"port":"53","protocol":"SCTP"}`, `{"dns":[{"matchName":"a"}]}`), "anyOf")
	bad("Kafka on UDP", l7(`{"port":"80","protocol":"UDP"}`, `{"kafka":[{}]}`), "anyOf")
	bad("a parser on UDP", l7(`{"port":"80","protocol":"UDP"}`, `{"l7proto":"x"}`), "anyOf")
	bad("DNS received", ingress(`{"toPorts":[{"ports":[{"port":"53","protocol":"UDP"}],"rules":{"dns":[{"matchName":"a"}]}}]}`), "not")
	bad("HTTP and DNS", l7(http, `{"http":[{}],"dns":[{"matchName":"a"}]}`), "anyOf")
	bad("HTTP and a parser", l7(http, `{"http":[{}],"l7proto":"x"}`), "anyOf")
	bad("requests without a parser", l7(http, `{"l7":[{"a":"b"}]}`), "anyOf")
	bad("Kafka by role and key", l7(http, `{"kafka":[{"role":"produce","apiKey":"fetch"}]}`), "anyOf")
	bad("listener and rules", egress(`{"toPorts":[{"ports":[`+http+`],"rules":{"http":[{}]},"listener":{"envoyConfig":{"name":"a"},"name":"b"}}]}`), "anyOf")
	bad("rules for what is denied", spec(`"egressDeny":[{"toPorts":[{"ports":[`+http+`],"rules":{"http":[{}]}}]}]`), "unknown field")
	return out
}

func clusterwideCases() []agreementCase {
	return []agreementCase{
		{name: "pods", spec: ingress(`{"fromEndpoints":[{}]}`)},
		{name: "pods of a namespace", spec: `"spec":{"endpointSelector":{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"other"}},"ingress":[{}]}`},
		{name: "nodes", spec: `"spec":{"nodeSelector":{},"ingress":[{}]}`, exception: "policies for nodes"},
		{name: "nodes in specs", spec: `"specs":[{"nodeSelector":{},"ingress":[{}]}]`, exception: "policies for nodes"},
		{name: "two selectors", spec: `"spec":{"endpointSelector":{},"nodeSelector":{},"ingress":[{}]}`, refused: true, says: "want endpointSelector or nodeSelector"},
		{name: "no spec", spec: `"status":{}`, refused: true, says: "want spec"},
		{name: "two kinds of peers", spec: ingress(`{"fromEndpoints":[{}],"fromEntities":["world"]}`), refused: true, says: "one kind of peers"},
	}
}

func groupCases() []agreementCase {
	out := []agreementCase{
		{name: "prefixes", spec: `"spec":{"externalCIDRs":["10.0.0.0/8","0.0.0.0/0","::/0","2001:DB8::/32","10.1.2.3/8","10.0.0.0/8"]}`},
		{name: "empty", spec: `"spec":{"externalCIDRs":[]}`},
		{name: "without a list", spec: `"spec":{}`, refused: true, says: "externalCIDRs"},
		{name: "with null for the list", spec: `"spec":{"externalCIDRs":null}`, refused: true, says: "externalCIDRs"},
		{name: "without a spec", spec: `"spec":null`, refused: true, says: "spec"},
		{name: "with text for the list", spec: `"spec":{"externalCIDRs":"10.0.0.0/8"}`, refused: true, says: "externalCIDRs"},
		{name: "with an empty entry", spec: `"spec":{"externalCIDRs":[null]}`, refused: true, says: "externalCIDRs[0]"},
		{name: "with an unknown field", spec: `"spec":{"externalCIDRs":[],"except":[]}`, refused: true, says: "unknown field"},
		{name: "with an unknown field at the top", spec: `"spec":{"externalCIDRs":[]},"status":{}`, refused: true, says: "unknown field"},
	}
	for _, p := range []string{"10.0.0.0/33", "10.0.0.0", "10.0.0/8", "010.0.0.0/8", "10.0.0.0/08", "::ffff:10.0.0.0/104", "fe80::1%eth0/64", "", "a"} {
		out = append(out, agreementCase{name: "with prefix " + p, spec: `"spec":{"externalCIDRs":["` + p + `"]}`, refused: true, says: "externalCIDRs[0]"})
	}
	return out
}
