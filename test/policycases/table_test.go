package policycases

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A truth table begins with "everything is allowed" and changes line by line, the later line counting:
//
//	deny FROM -> TO [WHAT…]
//	allow FROM -> TO [WHAT…]
//
// FROM and TO are lists, joined by commas, of NAMESPACE/POD where either may be *, of * (every pod), n1 and
// n2 (nodes), out (the host outside), host (the node that the pod at the other end runs on), remote (the other
// node), and all (everything). WHAT narrows a line to some of TCP, UDP, ICMP (echo requests), 80, 81, 80/TCP and the
// like, and to one family by v4 or v6.
type table map[cell]bool

// cell is one question: may from open a connection to to?
type cell struct {
	from, to string
	port     uint16 // 0 for ICMP
	proto    string // TCP, UDP, ICMP
	v6       bool
}

func (c cell) String() string {
	what, family := c.proto, "v4"
	if c.port != 0 {
		what = fmt.Sprintf("%d/%s", c.port, c.proto)
	}
	if c.v6 {
		family = "v6"
	}
	return fmt.Sprintf("%s -> %s %s %s", c.from, c.to, what, family)
}

// place is where packets begin and end.
type place struct {
	name  string
	node  string // of a pod, and of a node itself; empty outside
	pod   bool
	addrs [2]netip.Addr // IPv4, IPv6
}

func at(name, node string, pod bool, v4, v6 string) place {
	return place{name, node, pod, [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}}
}

// places are those of testdata/cluster, and the lab's host outside.
var places = []place{
	at("x/a", "n1", true, "10.244.1.10", "fd00:10:244:1::10"),
	at("x/b", "n1", true, "10.244.1.11", "fd00:10:244:1::11"),
	at("x/c", "n2", true, "10.244.2.10", "fd00:10:244:2::10"),
	at("y/a", "n1", true, "10.244.1.12", "fd00:10:244:1::12"),
	at("y/b", "n2", true, "10.244.2.11", "fd00:10:244:2::11"),
	at("y/c", "n1", true, "10.244.1.13", "fd00:10:244:1::13"),
	at("z/a", "n2", true, "10.244.2.12", "fd00:10:244:2::12"),
	at("z/b", "n1", true, "10.244.1.14", "fd00:10:244:1::14"),
	at("z/c", "n2", true, "10.244.2.13", "fd00:10:244:2::13"),
	at("n1", "n1", false, "172.30.0.11", "fd00:172:30::11"),
	at("n2", "n2", false, "172.30.0.12", "fd00:172:30::12"),
	at("out", "", false, "172.30.0.1", "fd00:172:30::1"),
}

func (p place) addr(v6 bool) netip.Addr {
	if v6 {
		return p.addrs[1]
	}
	return p.addrs[0]
}

func placeOf(name string) place {
	return places[slices.IndexFunc(places, func(p place) bool { return p.name == name })]
}

// cells are all questions: between distinct places of which one at least is a pod.
func cells() []cell {
	var out []cell
	for _, from := range places {
		for _, to := range places {
			if from.name == to.name || !from.pod && !to.pod {
				continue
			}
			for _, v6 := range []bool{false, true} {
				for _, port := range []uint16{80, 81} {
					out = append(out, cell{from.name, to.name, port, "TCP", v6}, cell{from.name, to.name, port, "UDP", v6})
				}
				out = append(out, cell{from.name, to.name, 0, "ICMP", v6})
			}
		}
	}
	return out
}

func parseTable(file string, s step) (table, error) {
	out := table{}
	all := cells()
	for _, c := range all {
		out[c] = true
	}
	lines, numbers := s.lines()
	for i, l := range lines {
		fault := func(err error) error { return fmt.Errorf("%s:%d: %q: %w", file, numbers[i], l, err) }
		words := strings.Fields(l)
		if len(words) < 4 || words[0] != "allow" && words[0] != "deny" || words[2] != "->" {
			return nil, fault(fmt.Errorf(`want "allow FROM -> TO [WHAT]" or "deny FROM -> TO [WHAT]"`))
		}
		w, err := parseWhat(words[4:])
		if err != nil {
			return nil, fault(err)
		}
		n := 0
		for _, c := range all {
			from, err1 := inList(words[1], placeOf(c.from), placeOf(c.to))
			to, err2 := inList(words[3], placeOf(c.to), placeOf(c.from))
			if err := cmp.Or(err1, err2); err != nil {
				return nil, fault(err)
			}
			if from && to && w.has(c) {
				out[c] = words[0] == "allow"
				n++
			}
		}
		if n == 0 {
			return nil, fault(fmt.Errorf("says nothing about anything"))
		}
	}
	return out, nil
}

// inList says whether a list of ends names the place, seen from the place at the other end.
func inList(list string, p, other place) (bool, error) {
	for pattern := range strings.SplitSeq(list, ",") {
		ns, pod, slash := strings.Cut(pattern, "/")
		myNS, myName, _ := strings.Cut(p.name, "/")
		switch {
		case slash && strings.Contains("xyz*", ns) && strings.Contains("abc*", pod):
			if p.pod && (ns == "*" || ns == myNS) && (pod == "*" || pod == myName) {
				return true, nil
			}
		case pattern == "*":
			if p.pod {
				return true, nil
			}
		case pattern == "all":
			return true, nil
		case pattern == "host":
			if !p.pod && p.node != "" && other.node == p.node {
				return true, nil
			}
		case pattern == "remote":
			if !p.pod && p.node != "" && other.node != p.node {
				return true, nil
			}
		case slices.Contains([]string{"n1", "n2", "out"}, pattern):
			if p.name == pattern {
				return true, nil
			}
		default:
			return false, fmt.Errorf("unknown place %q", pattern)
		}
	}
	return false, nil
}

// what is a choice of ports and families; empty lists choose all.
type what struct {
	kinds    []cell // with port and protocol, either of which may be missing
	families []bool // v6?
}

func parseWhat(words []string) (what, error) {
	var w what
	for _, word := range words {
		port, proto, slash := strings.Cut(word, "/")
		if !slash && port != "80" && port != "81" {
			port, proto = "", word
		}
		ports := map[string]uint16{"": 0, "80": 80, "81": 81}
		_, known := ports[port]
		switch {
		case word == "v4" || word == "v6":
			w.families = append(w.families, word == "v6")
		case known && slices.Contains([]string{"", "TCP", "UDP", "ICMP"}, proto):
			w.kinds = append(w.kinds, cell{port: ports[port], proto: proto})
		default:
			return w, fmt.Errorf("unknown %q", word)
		}
	}
	return w, nil
}

func (w what) has(c cell) bool {
	kind := len(w.kinds) == 0 || slices.ContainsFunc(w.kinds, func(k cell) bool {
		return (k.port == 0 || k.port == c.port) && (k.proto == "" || k.proto == c.proto)
	})
	return kind && (len(w.families) == 0 || slices.Contains(w.families, c.v6))
}

// compareTables says in lines that a person can read where the two differ.
func compareTables(want, got table) string {
	type group struct {
		from, to string
		want     bool
	}
	words := map[group][]string{}
	var order []group
	for _, c := range cells() {
		if g, ok := got[c]; ok && g != want[c] {
			k := group{c.from, c.to, want[c]}
			if words[k] == nil {
				order = append(order, k)
			}
			words[k] = append(words[k], strings.TrimPrefix(c.String(), c.from+" -> "+c.to+" "))
		}
	}
	var b strings.Builder
	for _, k := range order {
		verdict := map[bool]string{true: "allowed", false: "denied"}
		fmt.Fprintf(&b, "%s -> %s: want %s, got %s: %s\n", k.from, k.to, verdict[k.want], verdict[!k.want], strings.Join(words[k], ", "))
	}
	return b.String()
}

func TestParseTable(t *testing.T) {
	parse := func(text string) (table, error) { return parseTable("f", step{line: 7, text: text}) }
	got, err := parse("deny all -> x/* # isolated\nallow host -> x/*\nallow y/*,*/c -> x/a 80/TCP ICMP v6\n")
	require.NoError(t, err)
	for c, want := range map[cell]bool{
		{"y/a", "z/a", 80, "TCP", false}: true, {"out", "x/a", 80, "TCP", false}: false, {"n1", "x/a", 81, "UDP", true}: true,
		{"n2", "x/a", 81, "UDP", true}: false, {"y/b", "x/a", 80, "TCP", true}: true, {"y/b", "x/a", 80, "TCP", false}: false,
		{"y/b", "x/a", 80, "UDP", true}: false, {"z/c", "x/a", 0, "ICMP", true}: true, {"z/b", "x/a", 0, "ICMP", true}: false,
		{"x/a", "out", 80, "TCP", false}: true,
	} {
		v, ok := got[c]
		require.True(t, ok, c)
		require.Equal(t, want, v, c)
	}
	for text, want := range map[string]string{
		"permit * -> *": "f:7: ", "deny * x/a": "want", "deny w/a -> *": `unknown place "w/a"`, "\ndeny * -> * 90": "f:8: ", "deny n1 -> out": "nothing",
	} {
		_, err := parse(text)
		require.ErrorContains(t, err, want)
	}
	other, err := parse("deny all -> x/*\nallow host -> x/*\nallow y/*,*/c -> x/a 80/TCP ICMP v6\ndeny x/a -> out 80/UDP v4\n")
	require.NoError(t, err)
	require.Empty(t, compareTables(got, got))
	require.Equal(t, "x/a -> out: want allowed, got denied: 80/UDP v4\n", compareTables(got, other))
}
