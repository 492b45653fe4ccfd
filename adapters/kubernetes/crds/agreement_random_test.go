package crds

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// A random policy is built of parts that are mostly right, so that about half of the policies have no
// fault and many have one.

// faults is how many right values there are to a wrong one.
const faults = 50

type source struct{ *rapid.T }

// chance is true once in so many draws. It looks at a value in the middle: rapid prefers those at the ends.
func (s source) chance(oneIn int) bool {
	return rapid.IntRange(0, 8*oneIn-1).Draw(s.T, "chance")/8 == oneIn*2/3
}

// pick draws from the good values, rarely from the bad.
func (s source) pick(good, bad []any) any {
	if len(bad) > 0 && s.chance(faults) {
		return rapid.SampledFrom(bad).Draw(s.T, "bad")
	}
	return rapid.SampledFrom(good).Draw(s.T, "good")
}

// some draws up to n of what make makes.
func (s source) some(n int, make func() any) []any {
	out := []any{}
	for range rapid.IntRange(0, n).Draw(s.T, "some") {
		out = append(out, make())
	}
	return out
}

func values(vs ...any) []any { return vs }

func randomPolicy(t *rapid.T) map[string]any {
	s := source{t}
	doc := map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": map[string]any{"name": "p", "namespace": "shop"}}
	if s.chance(4) {
		doc["kind"], doc["metadata"] = "CiliumClusterwideNetworkPolicy", map[string]any{"name": "p"}
	}
	if !s.chance(4) {
		doc["spec"] = s.rule()
	}
	if doc["spec"] == nil || s.chance(8) {
		doc["specs"] = s.some(2, func() any { return s.rule() })
	}
	return doc
}

func (s source) rule() map[string]any {
	out := map[string]any{}
	if !s.chance(faults) {
		out["endpointSelector"] = s.selector()
	}
	if s.chance(faults) {
		out["nodeSelector"] = s.selector()
	}
	always := rapid.IntRange(0, 3).Draw(s.T, "section")
	for i, section := range []string{"ingress", "ingressDeny", "egress", "egressDeny"} {
		if i == always && !s.chance(faults) || s.chance(3) {
			out[section] = s.some(2, func() any { return s.entry(section) })
		}
	}
	if s.chance(10) {
		out["enableDefaultDeny"] = map[string]any{"ingress": s.pick(values(true, false), values("yes", 1))}
	}
	if s.chance(10) {
		out["log"] = map[string]any{"value": s.pick(values("a", "", "grün 7"), values("a\n", strings.Repeat("é", 33), 1))}
	}
	if s.chance(faults) {
		out["unknown"] = true
	}
	return out
}

func (s source) entry(section string) map[string]any {
	out := map[string]any{}
	prefix := "from"
	if strings.HasPrefix(section, "egress") {
		prefix = "to"
	}
	for range rapid.SampledFrom([]int{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2}).Draw(s.T, "members") {
		switch rapid.IntRange(0, 7).Draw(s.T, "member") {
		case 0, 1:
			out[prefix+"Endpoints"] = s.some(2, func() any { return s.selector() })
		case 2, 3:
			out[prefix+"Entities"] = s.some(2, func() any {
				return s.pick(values("all", "world", "world-ipv6", "cluster", "host", "none", "kube-apiserver"), values("World", "", 1, "nobody"))
			})
		case 4:
			out[prefix+"CIDR"] = s.some(2, s.prefix)
		case 5:
			out[prefix+"CIDRSet"] = s.some(2, func() any {
				m := map[string]any{}
				switch {
				case s.chance(4):
					m["cidrGroupRef"] = s.pick(values("g", "a.b-1"), values("", "A", "-", 7))
				case s.chance(6):
					m["cidrGroupSelector"] = s.selector()
				case !s.chance(faults):
					m["cidr"] = s.prefix()
				}
				if s.chance(faults) {
					m["cidrGroupRef"] = "h"
				}
				if s.chance(2) {
					m["except"] = s.some(2, s.prefix)
				}
				return m
			})
		case 6:
			if s.chance(8) {
				out[prefix+"Requires"] = s.some(1, func() any { return s.selector() })
			}
		case 7:
			if s.chance(3) && prefix == "to" {
				out["toFQDNs"] = s.some(1, func() any { return map[string]any{"matchName": "a.b"} })
			}
		}
	}
	if s.chance(2) {
		out["toPorts"] = s.some(2, func() any {
			if s.chance(10) {
				return map[string]any{}
			}
			entry := map[string]any{"ports": s.some(3, s.port)}
			if s.chance(3) {
				s.layer7(entry)
			}
			return entry
		})
	}
	if out["toPorts"] == nil && s.chance(3) || s.chance(faults) {
		out["icmps"] = s.some(2, func() any { return map[string]any{"fields": s.some(3, s.icmp)} })
	}
	return out
}

// layer7 adds what may be said on the ports of an entry.
func (s source) layer7(entry map[string]any) {
	dns := s.chance(3)
	if !s.chance(4) { // mostly ports that can have it
		port := map[string]any{"port": s.pick(values("80", "web"), values("0", "00"))}
		if protocol := s.pick(values("TCP"), values("UDP", "ANY", "SCTP")); !dns || s.chance(2) {
			port["protocol"] = protocol
		}
		entry["ports"] = []any{port}
	}
	rules := map[string]any{}
	if dns || s.chance(faults) {
		rules["dns"] = s.some(2, func() any {
			return s.pick(values(map[string]any{"matchName": "a.b."}, map[string]any{"matchPattern": "*"}), values(map[string]any{"matchName": "*"}, map[string]any{}))
		})
	}
	if !dns || s.chance(faults) {
		field := s.pick(values("http", "kafka", "l7"), nil).(string)
		rules[field] = s.some(2, func() any {
			switch field {
			case "http":
				return s.pick(values(map[string]any{}, map[string]any{"path": "/a", "method": "GET|HEAD"}), values(map[string]any{"path": 1}, "GET"))
			case "kafka":
				return s.pick(values(map[string]any{}, map[string]any{"role": "produce", "topic": "a"}), values(map[string]any{"role": "produce", "apiKey": "a"}, map[string]any{"topic": "/"}))
			}
			return s.pick(values(map[string]any{"a": "b"}), values(map[string]any{"a": 1}))
		})
		if field == "l7" && !s.chance(faults) {
			rules["l7proto"] = "x"
		}
	}
	entry["rules"] = rules
	if s.chance(10) {
		entry["serverNames"] = append(s.some(1, func() any { return "a.b" }), s.pick(values("**.c"), values("a..b", "")))
	}
}

func (s source) prefix() any {
	return s.pick(values("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8:1::/48", "192.0.2.1/32", "10.1.2.3/9", "1::2:3/70"),
		values("10.0.0.0", "10.0.0.0/33", "x", "", "::ffff:1.2.3.4/128", "1::/129", 7, "10.0.0.0/ 8", "fe80::%1/64"))
}

func (s source) selector() any {
	if s.chance(faults) {
		return s.pick(values("app=a", 1, []any{}), nil)
	}
	out := map[string]any{}
	if s.chance(2) {
		m := map[string]any{}
		for range rapid.IntRange(0, 2).Draw(s.T, "labels") {
			m[s.key(false).(string)] = s.value()
		}
		out["matchLabels"] = m
	}
	if s.chance(3) {
		out["matchExpressions"] = s.some(2, func() any {
			op := s.pick(values("In", "NotIn", "Exists", "DoesNotExist"), values("in", "", "Gt"))
			m := map[string]any{"key": s.key(true), "operator": op}
			if op == "In" || op == "NotIn" || s.chance(faults) {
				m["values"] = append(s.some(1, s.value), s.value())
			}
			if s.chance(faults) {
				delete(m, []string{"key", "operator", "values"}[rapid.IntRange(0, 2).Draw(s.T, "lost")])
			}
			return m
		})
	}
	return out
}

// key draws a label key; the bad ones only where the API server can see them.
func (s source) key(wrong bool) any {
	var bad []any
	if wrong {
		bad = values("x y", "", "foo:a", "reserved:a", "-", "a/", "k8s:a:b")
	}
	return s.pick(values("app", "k8s:app", "any:a.b/c", "x_y", "io.kubernetes.pod.namespace", "k8s:io.cilium.k8s.namespace.labels.a.b/c", "reserved:host", "reserved:world-ipv6"), bad)
}

func (s source) value() any {
	return s.pick(values("", "a", "b.c", "D_9", strings.Repeat("x", 63)), values("a b", "-a", strings.Repeat("x", 64), 5, true))
}

func (s source) port() any {
	m := map[string]any{}
	if s.chance(5) {
		m["protocol"] = s.pick(values("GRE", "ICMP", "ICMPv6", "AH"), values("gre"))
		if s.chance(3) {
			m["port"] = s.pick(values("", "0"), values("00", "1", "http"))
		}
		if s.chance(faults) {
			m["endPort"] = 0
		}
		return m
	}
	if !s.chance(faults) {
		m["port"] = s.pick(values("0", "1", "80", "65535", "http", "a-b", "0443", fmt.Sprint(rapid.IntRange(0, 65535).Draw(s.T, "port"))), values("", "65536", "-1", 80, "a--b", "1-2", "x ", "00"))
	}
	if s.chance(6) {
		m["endPort"] = s.pick(values(0, 65535, 65535, 65535, 80), values(-1, 65536, "80", 1))
	}
	if s.chance(2) {
		m["protocol"] = s.pick(values("TCP", "UDP", "SCTP", "ANY", ""), values("tcp", "HTTP", 6, "ESP"))
	}
	if s.chance(faults) {
		m["name"] = "x"
	}
	return m
}

func (s source) icmp() any {
	m := map[string]any{}
	if !s.chance(faults) {
		m["type"] = s.pick(values(0, 8, 255, "8", "EchoRequest", "EchoReply", "TimeExceeded", "PacketTooBig", "Redirect"), values(256, -1, "256", "Echo Request", "", 1.5, true))
	}
	if s.chance(2) {
		m["family"] = s.pick(values("IPv4", "IPv6"), values("ipv6", "", 6))
	}
	return m
}
