package manifest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// The translation of NetworkPolicy (networking.k8s.io/v1).
//
// In this dialect an empty rule allows everything, and a missing or empty list of peers or ports
// does not restrict. A policy isolates its pods in the directions of policyTypes.

func readNetworkPolicy(r *report, md metadata, top object) body {
	top.only("apiVersion", "kind", "metadata", "spec", "status")
	p := policy.Policy{Ref: policy.Ref{Kind: KindNetworkPolicy, Namespace: md.namespace, Name: md.name}}
	spec, ok := top.get("spec").strictObject("podSelector", "ingress", "egress", "policyTypes")
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing; a NetworkPolicy needs spec.podSelector, which may be {}")
		}
		return nil
	}
	s := policy.Spec{}
	s.Subject = spec.get("podSelector").build(append(spec.get("podSelector").requirements(podKey), inNamespace(md.namespace)))

	ingress, _ := spec.get("ingress").list()
	egress, _ := spec.get("egress").list()
	s.IsolateIngress, s.IsolateEgress = readPolicyTypes(spec, len(egress) > 0)
	// Rules of a direction that is not isolated say nothing, but are checked all the same.
	for i, item := range ingress {
		rule := readNetworkPolicyRule(item, p.Ref, datapath.Ingress, fmt.Sprintf("ingress[%d]", i))
		if s.IsolateIngress {
			s.Rules = append(s.Rules, rule)
		}
	}
	for i, item := range egress {
		rule := readNetworkPolicyRule(item, p.Ref, datapath.Egress, fmt.Sprintf("egress[%d]", i))
		if s.IsolateEgress {
			s.Rules = append(s.Rules, rule)
		}
	}
	if len(ingress) > 0 && !s.IsolateIngress {
		spec.get("ingress").warn("without effect: spec.policyTypes lacks Ingress")
	}
	if len(egress) > 0 && !s.IsolateEgress {
		spec.get("egress").warn("without effect: spec.policyTypes lacks Egress")
	}
	p.Specs = []policy.Spec{s}
	return policyBody{policy: p}
}

// readPolicyTypes applies the API's default: Ingress always, Egress if there are egress rules.
func readPolicyTypes(spec object, egressRules bool) (ingress, egress bool) {
	types, _ := spec.get("policyTypes").list()
	if len(types) == 0 {
		return true, egressRules
	}
	for _, t := range types {
		s, ok := t.text()
		switch {
		case !ok:
		case s == "Ingress":
			ingress = true
		case s == "Egress":
			egress = true
		default:
			t.bad("unknown policy type %q; allowed: Ingress, Egress", clip(s))
		}
	}
	return ingress, egress
}

func readNetworkPolicyRule(v value, ref policy.Ref, dir datapath.Direction, path string) policy.Rule {
	rule := policy.Rule{Ref: policy.RuleRef{Policy: ref, Direction: dir, Path: path}}
	peerField := "from"
	if dir == datapath.Egress {
		peerField = "to"
	}
	o, ok := v.strictObject(peerField, "ports")
	if !ok {
		return rule
	}
	peers, _ := o.get(peerField).list()
	rule.AnyPeer = len(peers) == 0
	for _, item := range peers {
		if p, ok := readNetworkPolicyPeer(item, ref.Namespace); ok {
			rule.Peers = append(rule.Peers, p)
		}
	}
	ports, _ := o.get("ports").list()
	rule.AnyPort = len(ports) == 0
	for _, item := range ports {
		if p, ok := readNetworkPolicyPort(item); ok {
			rule.Ports = append(rule.Ports, p)
		}
	}
	return rule
}

func readNetworkPolicyPeer(v value, namespace string) (policy.Peer, bool) {
	o, ok := v.strictObject("podSelector", "namespaceSelector", "ipBlock")
	if !ok {
		return policy.Peer{}, false
	}
	pods, spaces, block := o.get("podSelector"), o.get("namespaceSelector"), o.get("ipBlock")
	if !block.absent() {
		if !pods.absent() || !spaces.absent() {
			v.bad("ipBlock can't stand with podSelector or namespaceSelector in one peer; make it a peer of its own")
			return policy.Peer{}, false
		}
		return readIPBlock(block)
	}
	if pods.absent() && spaces.absent() {
		v.bad("names no peer; want one of podSelector, namespaceSelector, ipBlock (podSelector: {} is every pod of the namespace)")
		return policy.Peer{}, false
	}
	var reqs []labels.Requirement
	if spaces.absent() {
		reqs = append(reqs, inNamespace(namespace))
	} else {
		// A namespace selector speaks of pods alone, also one that is empty or only excludes.
		reqs = append(spaces.requirements(namespaceKey), anyNamespace())
	}
	reqs = append(reqs, pods.requirements(podKey)...)
	s := v.build(reqs)
	return policy.Peer{Selector: &s}, true
}

func readIPBlock(v value) (policy.Peer, bool) {
	o, ok := v.strictObject("cidr", "except")
	if !ok {
		return policy.Peer{}, false
	}
	p, good := o.get("cidr").prefix()
	if o.get("cidr").absent() {
		o.get("cidr").bad(`missing; want a prefix like "10.0.0.0/8"`)
	}
	ok = good
	peer := policy.Peer{CIDR: p}
	excepts, _ := o.get("except").list()
	for _, e := range excepts {
		x, okx := e.prefix()
		switch {
		case !okx:
			ok = false
		case good && (x.Bits() <= p.Bits() || !p.Contains(x.Addr())):
			e.bad("%s is not a part of %s; every exception must lie inside the cidr and be smaller", x, p)
			ok = false
		default:
			peer.Except = append(peer.Except, x)
		}
	}
	return peer, ok
}

// prefix reads a CIDR. Bits of the host are cut off with a warning, as Kubernetes reads them.
func (v value) prefix() (netip.Prefix, bool) {
	s, ok := v.text()
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		v.bad(`%q is not a CIDR; want address/length like "10.0.0.0/8", "192.0.2.1/32" or "2001:db8::/32"`, clip(s))
		return netip.Prefix{}, false
	}
	if m := p.Masked(); m != p {
		v.warn("%q has bits beyond its length; it means %s", clip(s), m)
		p = m
	}
	return p, true
}

func readNetworkPolicyPort(v value) (policy.Port, bool) {
	o, ok := v.strictObject("protocol", "port", "endPort")
	if !ok {
		return policy.Port{}, false
	}
	p := policy.Port{Proto: datapath.ProtoTCP, Last: 65535}
	good := true
	if s, ok := o.get("protocol").text(); ok {
		if p.Proto, ok = transport(s); !ok {
			o.get("protocol").bad("unknown protocol %q; allowed: TCP, UDP, SCTP", clip(s))
			good = false
		}
	} else {
		good = good && o.get("protocol").absent()
	}
	port := o.get("port")
	switch port.raw.(type) {
	case nil:
		if !o.get("endPort").absent() {
			o.get("endPort").bad("needs port, the first of the range")
			good = false
		}
		return p, good
	case string:
		s, _ := port.text()
		if !validPortName(s, 15) || s != strings.ToLower(s) {
			port.bad("%q is not a port; want a number from 1 to 65535, unquoted, or a name of at most 15 lower-case letters, digits and '-' with a letter in it", clip(s))
			good = false
		}
		p.Name, p.First, p.Last = s, 0, 0
	case json.Number:
		n, ok := port.integer(1, 65535)
		good = good && ok
		p.First, p.Last = uint16(n), uint16(n)
	default:
		port.wrongType("a port number or name")
		good = false
	}
	return p, o.endPort(&p, good)
}

// endPort widens a port to a range; the result says whether everything was good.
func (o object) endPort(p *policy.Port, good bool) bool {
	end := o.get("endPort")
	if end.absent() {
		return good
	}
	n, ok := end.integer(1, 65535)
	switch {
	case p.Name != "":
		end.bad("can't stand with the named port %q; a range needs a number as port", clip(p.Name))
		return false
	case !ok:
		return false
	case good && uint16(n) < p.First:
		end.bad("%d is less than port %d", n, p.First)
		return false
	}
	p.Last = uint16(n)
	return good
}

// transport gives the number of a protocol that has ports.
func transport(s string) (uint8, bool) {
	switch s {
	case "TCP":
		return datapath.ProtoTCP, true
	case "UDP":
		return datapath.ProtoUDP, true
	case "SCTP":
		return datapath.ProtoSCTP, true
	}
	return 0, false
}
