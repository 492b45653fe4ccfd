package manifest

import (
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// The translation of AdminNetworkPolicy and BaselineAdminNetworkPolicy (policy.networking.k8s.io/v1alpha1), which
// ClusterNetworkPolicy replaces. In one cluster with it they share its tiers: the lowest priority is asked first,
// whatever the kind, and of two policies with one priority the one whose kind and then name comes first.

const (
	maxAdminRules = 100
	// The one BaselineAdminNetworkPolicy has no priority; it is asked after every policy of its tier that has one.
	baselinePriority = maxTierPriority + 1
	baselineName     = "default"
)

var (
	adminDialect = tierDialect{
		most: maxAdminRules, actions: []string{"Allow", "Deny", "Pass"}, domainNames: true,
		ports: "ports", port: readAdminPort, bothSelectors: true,
	}
	baselineDialect = tierDialect{
		most: maxAdminRules, actions: []string{"Allow", "Deny"},
		ports: "ports", port: readAdminPort, bothSelectors: true,
	}
)

func readAdminNetworkPolicy(_ *report, md metadata, top object) body {
	top.only("apiVersion", "kind", "metadata", "spec", "status")
	p := policy.Policy{Ref: policy.Ref{Kind: KindAdminNetworkPolicy, Name: md.name}}
	spec, ok := top.get("spec").strictObject("priority", "subject", "ingress", "egress")
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing; want priority and subject")
		}
		return nil
	}
	s := policy.Spec{Tier: policy.TierAdmin, Priority: spec.get("priority").tierPriority()}
	adminDialect.readSubjectAndRules(spec, p.Ref, &s)
	p.Specs = []policy.Spec{s}
	return policyBody{policy: p}
}

func readBaselineAdminNetworkPolicy(r *report, md metadata, top object) body {
	top.only("apiVersion", "kind", "metadata", "spec", "status")
	if md.name != "" && md.name != baselineName {
		r.bad("metadata.name", "%q: a cluster has one %s; allowed: %q", clip(md.name), KindBaselineAdminNetworkPolicy, baselineName)
	}
	p := policy.Policy{Ref: policy.Ref{Kind: KindBaselineAdminNetworkPolicy, Name: md.name}}
	spec, ok := top.get("spec").strictObject("subject", "ingress", "egress")
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing; want subject")
		}
		return nil
	}
	s := policy.Spec{Tier: policy.TierBaseline, Priority: baselinePriority}
	baselineDialect.readSubjectAndRules(spec, p.Ref, &s)
	p.Specs = []policy.Spec{s}
	return policyBody{policy: p}
}

func readAdminPort(v value) (policy.Port, bool) {
	o, ok := v.strictObject("portNumber", "namedPort", "portRange")
	if !ok {
		return policy.Port{}, false
	}
	number, name, span := o.get("portNumber"), o.get("namedPort"), o.get("portRange")
	set := 0
	for _, f := range []value{number, name, span} {
		if !f.absent() {
			set++
		}
	}
	if set != 1 {
		v.bad("names %d kinds of ports; want exactly one of portNumber, namedPort, portRange", set)
		return policy.Port{}, false
	}
	var p policy.Port
	switch {
	case !name.absent():
		s, ok := name.text()
		if ok && !validPortName(s, 15) {
			name.bad("%q is not a port name; want at most 15 letters, digits and '-' with a letter in it", clip(s))
			ok = false
		}
		return policy.Port{Name: s, AnyProto: true}, ok
	case !number.absent():
		n, ok := number.strictObject("protocol", "port")
		if !ok {
			return p, false
		}
		if n.get("port").absent() {
			n.get("port").bad("missing; want a number from 1 to 65535")
		}
		port, ok := n.get("port").integer(1, 65535)
		p.First, p.Last = uint16(port), uint16(port)
		return p, n.adminProtocol(&p) && ok
	}
	r, ok := span.strictObject("protocol", "start", "end")
	if !ok {
		return p, false
	}
	ok = r.tierRange(&p)
	return p, r.adminProtocol(&p) && ok
}

// adminProtocol reads the protocol of a port: TCP if nothing else is said.
func (o object) adminProtocol(p *policy.Port) (ok bool) {
	p.Proto = datapath.ProtoTCP
	v := o.get("protocol")
	if v.absent() {
		return true
	}
	s, ok := v.text()
	if !ok {
		return false
	}
	if p.Proto, ok = transport(s); !ok {
		v.bad("unknown protocol %q; allowed: TCP, UDP, SCTP", clip(s))
	}
	return ok
}
