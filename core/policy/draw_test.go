package policy

import (
	"fmt"
	"net/netip"

	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
)

// drawPod draws labels and named ports of a pod.
func drawPod(t *rapid.T) (labels.Set, []NamedPort) {
	ns := rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "namespace")
	ls := []labels.Label{
		{Source: labels.SourceK8s, Key: labels.KeyNamespace, Value: ns},
		{Source: labels.SourceK8s, Key: labels.KeyCluster, Value: "default"},
	}
	for _, k := range []string{"app", "tier"} {
		if v := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, k); v != "" {
			ls = append(ls, labels.Label{Source: labels.SourceK8s, Key: k, Value: v})
		}
	}
	return labels.NewSet(ls...), drawNamedPorts(t)
}

func drawNamedPorts(t *rapid.T) []NamedPort {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) NamedPort {
		return NamedPort{
			Name:  rapid.SampledFrom([]string{"http", "dns"}).Draw(t, "name"),
			Proto: rapid.SampledFrom([]uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoICMP}).Draw(t, "proto"),
			Port:  rapid.SampledFrom([]uint16{53, 80, 8080}).Draw(t, "port"),
		}
	}), 0, 2).Draw(t, "namedPorts")
}

var testPrefixes = []string{
	"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/25",
	"::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::5/128",
}

func drawPrefix(t *rapid.T, in netip.Prefix) netip.Prefix {
	var fit []netip.Prefix
	for _, s := range testPrefixes {
		if p := netip.MustParsePrefix(s); !in.IsValid() || contains(in, p) {
			fit = append(fit, p)
		}
	}
	return rapid.SampledFrom(fit).Draw(t, "prefix")
}

func drawSelector(t *rapid.T) labels.Selector {
	reqs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) labels.Requirement {
		r := labels.Requirement{
			Source:   rapid.SampledFrom([]string{labels.SourceAny, labels.SourceK8s}).Draw(t, "source"),
			Key:      rapid.SampledFrom([]string{"app", "tier", labels.KeyNamespace}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]labels.Operator{labels.In, labels.In, labels.NotIn, labels.Exists, labels.DoesNotExist}).Draw(t, "operator"),
		}
		values := []string{"a", "b", "c"}
		if r.Key == labels.KeyNamespace {
			values = []string{"shop", "bank"}
		}
		if r.Operator == labels.In || r.Operator == labels.NotIn {
			r.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 2).Draw(t, "values")
		}
		if rapid.IntRange(0, 19).Draw(t, "reserved") == 0 {
			r = labels.Requirement{Source: labels.SourceReserved, Key: rapid.SampledFrom([]string{"world", "host", "world-ipv4"}).Draw(t, "reservedKey"), Operator: r.Operator, Values: r.Values}
		}
		return r
	}), 0, 2).Draw(t, "requirements")
	sel, err := labels.NewSelector(reqs...)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func drawPeer(t *rapid.T) Peer {
	switch rapid.IntRange(0, 3).Draw(t, "peerKind") {
	case 0:
		return Peer{Entity: rapid.SampledFrom([]Entity{
			EntityAll, EntityWorld, EntityWorldIPv4, EntityWorldIPv6, EntityCluster, EntityHost,
			EntityRemoteNode, EntityKubeAPIServer, EntityInit, EntityNone,
		}).Draw(t, "entity")}
	case 1:
		p := Peer{CIDR: drawPrefix(t, netip.Prefix{})}
		for range rapid.IntRange(0, 2).Draw(t, "excepts") {
			p.Except = append(p.Except, drawPrefix(t, p.CIDR))
		}
		return p
	}
	sel := drawSelector(t)
	return Peer{Selector: &sel}
}

var borderPorts = []uint16{0, 1, 52, 53, 79, 80, 81, 443, 1023, 1024, 8079, 8080, 8081, 32767, 32768, 65534, 65535}

func drawPort(t *rapid.T) Port {
	p := Port{Proto: rapid.SampledFrom([]uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP, 47}).Draw(t, "proto")}
	if p.Proto == 47 {
		p.Last = 65535
		return p
	}
	p.AnyProto = rapid.IntRange(0, 3).Draw(t, "anyProto") == 0
	if p.AnyProto {
		p.Proto = 0
	}
	switch rapid.IntRange(0, 4).Draw(t, "portKind") {
	case 0:
		p.Name = rapid.SampledFrom([]string{"http", "dns", "none"}).Draw(t, "name")
	case 1:
		p.Last = 65535
	case 2:
		p.First = rapid.SampledFrom(borderPorts).Draw(t, "port")
		p.Last = p.First
	default:
		p.First = rapid.OneOf(rapid.SampledFrom(borderPorts), rapid.Uint16()).Draw(t, "first")
		p.Last = rapid.OneOf(rapid.SampledFrom(borderPorts), rapid.Uint16()).Draw(t, "last")
		if p.First > p.Last {
			p.First, p.Last = p.Last, p.First
		}
	}
	return p
}

func drawPolicy(t *rapid.T, ref Ref) Policy {
	p := Policy{Ref: ref}
	for s := range rapid.IntRange(1, 2).Draw(t, "specs") {
		spec := Spec{
			Subject:        drawSelector(t),
			IsolateIngress: rapid.Bool().Draw(t, "isolateIngress"),
			IsolateEgress:  rapid.Bool().Draw(t, "isolateEgress"),
		}
		if spec.Tier = rapid.SampledFrom([]Tier{TierOrdinary, TierOrdinary, TierAdmin, TierBaseline}).Draw(t, "tier"); spec.Tier != TierOrdinary {
			spec.IsolateIngress, spec.IsolateEgress = false, false
			spec.Priority = rapid.IntRange(0, 2).Draw(t, "priority")
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
			dir := rapid.SampledFrom([]datapath.Direction{datapath.Ingress, datapath.Egress}).Draw(t, "direction")
			r := Rule{Deny: rapid.IntRange(0, 3).Draw(t, "deny") == 0}
			r.Pass = spec.Tier != TierOrdinary && !r.Deny && rapid.IntRange(0, 2).Draw(t, "pass") == 0
			word := dir.String()
			if r.Deny {
				word += "Deny"
			}
			r.Ref = RuleRef{Policy: ref, Direction: dir, Path: fmt.Sprintf("specs[%d].%s[%d]", s, word, i)}
			r.AnyPeer = rapid.IntRange(0, 4).Draw(t, "anyPeer") == 0
			for range rapid.IntRange(0, 2).Draw(t, "peers") {
				r.Peers = append(r.Peers, drawPeer(t))
			}
			r.AnyPort = rapid.IntRange(0, 3).Draw(t, "anyPort") == 0
			for range rapid.IntRange(0, 2).Draw(t, "ports") {
				r.Ports = append(r.Ports, drawPort(t))
			}
			if rapid.IntRange(0, 3).Draw(t, "icmp") == 0 {
				r.ICMP = append(r.ICMP, ICMP{IPv6: rapid.Bool().Draw(t, "icmp6"), Type: rapid.SampledFrom([]uint8{0, 8, 128, 255}).Draw(t, "type")})
			}
			spec.Rules = append(spec.Rules, r)
		}
		p.Specs = append(p.Specs, spec)
	}
	return p
}
