package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

var namespaceNames = []string{"shop", "bank", "ops"}

func one[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

var prefixes = parsePrefixes("0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.10/32", "198.51.100.0/24",
	"198.51.0.0/16", "10.0.0.0/8", "172.18.0.0/16", "::/0", "2001:db8::/32", "2001:db8::10/128", "fd00::/8")

func parsePrefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func randomSelector(rng *rand.Rand) labels.Selector {
	var reqs []labels.Requirement
	for range one(rng, 0, 1, 1, 1, 2) {
		r := labels.Requirement{Source: one(rng, labels.SourceK8s, labels.SourceAny), Operator: one(rng, labels.In, labels.In, labels.In, labels.NotIn, labels.Exists, labels.DoesNotExist)}
		switch rng.IntN(8) {
		case 0, 1, 2, 3:
			r.Key, r.Values = "app", []string{one(rng, apps...), one(rng, apps...)}
		case 4:
			r.Key, r.Values = "tier", []string{one(rng, "front", "back")}
		case 5:
			r.Key, r.Values = labels.KeyNamespacePrefix+"team", []string{one(rng, "red", "blue")}
		case 6:
			r.Key, r.Values = labels.KeyNamespace, []string{one(rng, namespaceNames...)}
		default:
			r = labels.Requirement{Source: labels.SourceReserved, Key: one(rng, "world", "host", "remote-node", "world-ipv6"), Operator: labels.Exists}
		}
		if r.Operator == labels.Exists || r.Operator == labels.DoesNotExist {
			r.Values = nil
		}
		reqs = append(reqs, r)
	}
	sel, err := labels.NewSelector(reqs...)
	if err != nil {
		panic(err)
	}
	return sel
}

func randomPeer(rng *rand.Rand) policy.Peer {
	switch rng.IntN(6) {
	case 0:
		return policy.Peer{Entity: one(rng, policy.EntityAll, policy.EntityWorld, policy.EntityWorldIPv4,
			policy.EntityWorldIPv6, policy.EntityCluster, policy.EntityHost, policy.EntityRemoteNode, policy.EntityNone,
			policy.EntityInit, policy.EntityHealth, policy.EntityUnmanaged, policy.EntityKubeAPIServer, policy.EntityIngress)}
	case 1, 2:
		p := policy.Peer{CIDR: one(rng, prefixes...)}
		for range rng.IntN(3) {
			if x := one(rng, prefixes...); x.Bits() > p.CIDR.Bits() && p.CIDR.Contains(x.Addr()) {
				p.Except = append(p.Except, x)
			}
		}
		return p
	}
	sel := randomSelector(rng)
	return policy.Peer{Selector: &sel}
}

func randomPort(rng *rand.Rand) policy.Port {
	p := policy.Port{Proto: one(rng, datapath.ProtoTCP, datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP)}
	if rng.IntN(4) == 0 {
		p.Proto, p.AnyProto = 0, true
	}
	switch rng.IntN(5) {
	case 0, 1:
		p.First = one[uint16](rng, 80, 8080, 53, 443)
		p.Last = p.First
	case 2:
		p.First, p.Last = one[uint16](rng, 0, 1, 54, 80, 81), one[uint16](rng, 80, 443, 8079, 8080, 65535)
	case 3:
		p.Name = one(rng, "http", "dns", "none")
	default:
		p.Last = 65535
	}
	return p
}

// randomPolicy draws a policy object of a kind; the name decides kind and namespace.
func randomPolicy(rng *rand.Rand, ref policy.Ref) policy.Policy {
	p := policy.Policy{Ref: ref}
	specs := 1
	if ref.Kind != "NetworkPolicy" && rng.IntN(4) == 0 {
		specs = 2
	}
	for i := range specs {
		var reqs []labels.Requirement
		if ref.Namespace != "" {
			reqs = append(reqs, labels.Requirement{Source: labels.SourceK8s, Key: labels.KeyNamespace, Operator: labels.In, Values: []string{ref.Namespace}})
		}
		for _, r := range randomSelector(rng).Requirements() {
			if r.Source != labels.SourceReserved {
				reqs = append(reqs, r)
			}
		}
		sel, err := labels.NewSelector(reqs...)
		if err != nil {
			panic(err)
		}
		s := policy.Spec{Subject: sel, IsolateIngress: rng.IntN(2) == 0, IsolateEgress: rng.IntN(3) == 0}
		for j := range rng.IntN(4) {
			s.Rules = append(s.Rules, randomRule(rng, ref, i, j))
		}
		p.Specs = append(p.Specs, s)
	}
	return p
}

func randomRule(rng *rand.Rand, ref policy.Ref, spec, index int) policy.Rule {
	dir := one(rng, datapath.Ingress, datapath.Ingress, datapath.Egress)
	r := policy.Rule{Deny: ref.Kind != "NetworkPolicy" && rng.IntN(4) == 0}
	word := dir.String()
	if r.Deny {
		word += "Deny"
	}
	r.Ref = policy.RuleRef{Policy: ref, Direction: dir, Path: fmt.Sprintf("specs[%d].%s[%d]", spec, word, index)}
	if r.AnyPeer = rng.IntN(6) == 0; !r.AnyPeer {
		for range 1 + rng.IntN(3) {
			r.Peers = append(r.Peers, randomPeer(rng))
		}
	}
	if r.AnyPort = rng.IntN(3) == 0; !r.AnyPort {
		for range rng.IntN(4) {
			r.Ports = append(r.Ports, randomPort(rng))
		}
		if rng.IntN(3) == 0 {
			v6 := rng.IntN(2) == 0
			typ := one[uint8](rng, 8, 8, 0, 3)
			if v6 {
				typ = one[uint8](rng, 128, 128, 129, 1)
			}
			r.ICMP = append(r.ICMP, policy.ICMP{IPv6: v6, Type: typ})
		}
	}
	return r
}
