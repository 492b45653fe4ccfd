package manifest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/policy"
)

// layer7 are the parts of a port rule that look into connections.
var layer7 = []string{"rules", "terminatingTLS", "originatingTLS", "serverNames", "listener"}

// readLayer7 reads those parts of the port rule at the path, and says whether the rule's ports may be granted
// all the same: if no part restricts what is said on them.
func readLayer7(o object, ports []value, path string, sec section, rule *policy.Rule) (granted bool) {
	rules, isObject := o.get("rules").raw.(fields)
	if sec.deny {
		for _, f := range layer7 {
			if part := o.get(f); !part.absent() && !(f == "rules" && isObject && len(rules) == 0) {
				part.bad("not possible in a deny rule; allowed: ports")
			}
		}
		return true
	}
	granted = true
	refuse := func(v value, field string, f feature) {
		granted = false
		unenforced(v, path+"."+field, f, rule)
	}
	said, all := readL7Rules(o.get("rules"), ports, sec)
	if said != nil && !all {
		refuse(o.get("rules"), "rules", feature{name: "rules for " + said.protocol, instead: "ports without rules are granted"})
	}
	for _, f := range []string{"terminatingTLS", "originatingTLS"} {
		if readTLS(o.get(f)) {
			refuse(o.get(f), f, feature{name: "rules for TLS", instead: "ports without them are granted"})
		}
	}
	if names, isList := o.get("serverNames").list(); isList {
		if len(names) == 0 {
			o.get("serverNames").bad("empty; want at least one name, or no list")
		}
		for _, n := range names {
			if s, ok := n.text(); ok && !dottedName(s, "*") {
				n.bad("%q is not a pattern of server names; want letters, digits, '-', '_' and '*' between single dots, at most 255", clip(s))
			}
		}
		refuse(o.get("serverNames"), "serverNames", feature{name: "rules for server names in TLS", instead: "ports without them are granted"})
	}
	if readListener(o.get("listener")) {
		if said != nil {
			o.get("listener").bad("can't stand with rules; keep one")
		}
		refuse(o.get("listener"), "listener", feature{name: "redirection to Envoy listeners", instead: "ports without one are granted"})
	}
	if granted && said != nil {
		o.get("rules").warn("matches every %s, so it is granted as its ports alone; whether %s is what is spoken there is not checked", said.unit, said.protocol)
	}
	return granted
}

// l7Protocol is a protocol that rules can be about.
type l7Protocol struct {
	field    string // of the rules
	protocol string
	unit     string                 // what a rule allows
	read     func(value) (all bool) // reads a rule; all: it allows everything
}

var l7Protocols = []l7Protocol{
	{"http", "HTTP", "HTTP request", readHTTPRule},
	{"kafka", "Kafka", "Kafka request", readKafkaRule},
	{"dns", "DNS", "DNS name", readFQDN},
	{"l7", "the protocol of l7proto", "request", func(v value) bool { return len(v.textMap()) == 0 }},
}

// readL7Rules reads what may be said on the ports. said is nil if nothing restricts it; all says that
// one of the rules allows everything.
func readL7Rules(v value, ports []value, sec section) (said *l7Protocol, all bool) {
	o, ok := v.strictObject("http", "kafka", "dns", "l7proto", "l7")
	if !ok {
		return nil, false
	}
	parser, _ := o.get("l7proto").text()
	for i := range l7Protocols {
		p := &l7Protocols[i]
		items, _ := o.get(p.field).list()
		for _, item := range items {
			all = p.read(item) || all
		}
		switch {
		case len(items) == 0 && (p.field != "l7" || parser == ""):
		case said != nil:
			v.bad("%s and %s can't stand in one entry; make them two", said.field, p.field)
		case p.field == "l7" && parser == "":
			o.get("l7").bad("needs l7proto, the name of the parser that reads it")
		default:
			said = p
		}
	}
	if said == nil {
		return nil, false
	}
	if said.field == "dns" && sec.field == "ingress" {
		o.get("dns").bad("not possible for ingress: DNS is judged where it is asked; put it under egress")
	}
	for _, item := range ports {
		checkL7Port(item, said)
	}
	return said, all
}

// checkL7Port complains about a port that rules of a protocol can't stand with. What is wrong with the port
// itself is told elsewhere.
func checkL7Port(v value, said *l7Protocol) {
	m, _ := v.raw.(fields)
	port, isText := m.get("port").(string)
	if !isText {
		return
	}
	if port != "" && strings.Trim(port, "0") == "" {
		v.bad("rules for %s need a port of their own, and %q is every port", said.protocol, port)
	}
	protocol, _ := m.get("protocol").(string)
	switch {
	case said.field != "dns" && protocol != "TCP":
		v.bad("rules for %s need protocol TCP", said.protocol)
	case said.field == "dns" && !slices.Contains([]string{"", "ANY", "TCP", "UDP"}, protocol):
		v.bad("rules for DNS need protocol TCP, UDP or ANY")
	}
	if end, ok := m.get("endPort").(json.Number); ok && said.field == "dns" && end != "0" && end.String() != port {
		v.bad("rules for DNS need single ports; leave endPort out")
	}
}

// readHTTPRule reads a rule for HTTP requests. An empty one allows every request.
func readHTTPRule(v value) (all bool) {
	o, ok := v.strictObject("path", "method", "host", "headers", "headerMatches")
	if !ok {
		return false
	}
	all = true
	for _, f := range []string{"path", "method", "host"} {
		s, _ := o.get(f).text()
		if _, err := regexp.Compile(s); err != nil {
			o.get(f).bad("%q is not a regular expression: %v", clip(s), err)
		}
		all = all && (s == "" || s == ".*")
	}
	headers, _ := o.get("headers").list()
	o.get("headers").texts()
	matches, _ := o.get("headerMatches").list()
	for _, item := range matches {
		m, ok := item.strictObject("name", "secret", "value", "mismatch")
		if !ok {
			continue
		}
		m.get("name").named()
		m.get("value").text()
		readSecret(m.get("secret"))
		if s, ok := m.get("mismatch").text(); ok && !slices.Contains([]string{"LOG", "ADD", "DELETE", "REPLACE"}, s) {
			m.get("mismatch").bad("unknown action %q; allowed: LOG, ADD, DELETE, REPLACE", clip(s))
		}
	}
	return all && len(headers)+len(matches) == 0
}

// readKafkaRule reads a rule for Kafka requests. An empty one allows every request.
func readKafkaRule(v value) (all bool) {
	o, ok := v.strictObject("role", "apiKey", "apiVersion", "clientID", "topic")
	if !ok {
		return false
	}
	all = true
	for _, f := range []string{"role", "apiKey", "apiVersion", "clientID", "topic"} {
		s, _ := o.get(f).text()
		all = all && s == ""
	}
	if s, ok := o.get("role").text(); ok && s != "produce" && s != "consume" {
		o.get("role").bad("unknown role %q; allowed: produce, consume", clip(s))
	}
	if !o.get("role").absent() && !o.get("apiKey").absent() {
		v.bad("role and apiKey exclude one another; keep one")
	}
	if s, _ := o.get("topic").text(); len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool {
		return r > 127 || !isAlnum(byte(r)) && !strings.ContainsRune("._-", r)
	}) {
		o.get("topic").bad("%q is not a topic; want letters, digits, '.', '_' and '-', at most 255", clip(s))
	}
	return all
}

// readTLS reads where certificates are; there says whether anything does.
func readTLS(v value) (there bool) {
	o, ok := v.strictObject("secret", "trustedCA", "certificate", "privateKey")
	if !ok {
		return !v.absent()
	}
	if o.get("secret").absent() {
		o.get("secret").bad("missing; want the name of a secret")
	}
	readSecret(o.get("secret"))
	for _, f := range []string{"trustedCA", "certificate", "privateKey"} {
		o.get(f).text()
	}
	return true
}

func readSecret(v value) {
	if s, ok := v.strictObject("namespace", "name"); ok {
		s.get("namespace").text()
		if _, isText := s.get("name").text(); !isText && s.get("name").absent() {
			s.get("name").bad("missing")
		}
	}
}

// readListener reads the name of an Envoy listener; there says whether there is one.
func readListener(v value) (there bool) {
	o, ok := v.strictObject("envoyConfig", "name", "priority")
	if !ok {
		return !v.absent()
	}
	o.get("name").named()
	o.get("priority").integer(1, 100)
	if o.get("envoyConfig").absent() {
		o.get("envoyConfig").bad("missing; want the kind and name of an object")
	}
	if c, ok := o.get("envoyConfig").strictObject("kind", "name"); ok {
		c.get("name").named()
		if s, ok := c.get("kind").text(); ok && s != "CiliumEnvoyConfig" && s != "CiliumClusterwideEnvoyConfig" {
			c.get("kind").bad("unknown kind %q; allowed: CiliumEnvoyConfig, CiliumClusterwideEnvoyConfig", clip(s))
		}
	}
	return true
}

// named wants a text that is not empty.
func (v value) named() {
	if s, ok := v.text(); s == "" && (ok || v.absent()) {
		v.bad("missing; want a name")
	}
}
