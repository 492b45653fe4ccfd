package manifest

import (
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

// The translation of ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).

const (
	maxTierRules    = 25
	maxTierPriority = 1000
)

var clusterDialect = tierDialect{
	most: maxTierRules, actions: []string{"Accept", "Deny", "Pass"}, domainNames: true,
	ports: "protocols", port: readTierProtocol,
}

func readClusterNetworkPolicy(_ *report, md metadata, top object) body {
	top.only("apiVersion", "kind", "metadata", "spec", "status")
	p := policy.Policy{Ref: policy.Ref{Kind: KindClusterNetworkPolicy, Name: md.name}}
	spec, ok := top.get("spec").strictObject("tier", "priority", "subject", "ingress", "egress")
	if !ok {
		if top.get("spec").absent() {
			top.get("spec").bad("missing; want tier, priority and subject")
		}
		return nil
	}
	s := policy.Spec{}
	switch tier, ok := spec.get("tier").text(); {
	case spec.get("tier").absent():
		spec.get("tier").bad("missing; allowed: Admin, Baseline")
	case !ok:
	case tier == "Admin":
		s.Tier = policy.TierAdmin
	case tier == "Baseline":
		s.Tier = policy.TierBaseline
	default:
		spec.get("tier").bad("unknown tier %q; allowed: Admin, Baseline", clip(tier))
	}
	s.Priority = spec.get("priority").tierPriority()
	clusterDialect.readSubjectAndRules(spec, p.Ref, &s)
	p.Specs = []policy.Spec{s}
	return policyBody{policy: p}
}

func readTierProtocol(v value) (policy.Port, bool) {
	o, ok := v.strictObject("tcp", "udp", "sctp", "destinationNamedPort")
	if !ok {
		return policy.Port{}, false
	}
	p := policy.Port{Last: 65535}
	set := 0
	good := true
	for _, proto := range []struct {
		field string
		num   uint8
	}{{"tcp", datapath.ProtoTCP}, {"udp", datapath.ProtoUDP}, {"sctp", datapath.ProtoSCTP}} {
		if o.get(proto.field).absent() {
			continue
		}
		set++
		p.Proto = proto.num
		if at, ok := o.get(proto.field).strictObject("destinationPort"); !ok {
			good = false
		} else if at.get("destinationPort").absent() {
			o.get(proto.field).bad("want destinationPort; a range from 1 to 65535 is every port")
			good = false
		} else {
			good = at.get("destinationPort").tierPort(&p) && good
		}
	}
	if name := o.get("destinationNamedPort"); !name.absent() {
		set++
		s, ok := name.text()
		if !ok || !validPortName(s, 15) {
			name.bad("%q is not a port name; want at most 15 letters, digits and '-' with a letter in it", clip(s))
			good = false
		}
		p.Name, p.AnyProto, p.Last = s, true, 0
	}
	if set != 1 {
		v.bad("names %d protocols; want exactly one of tcp, udp, sctp, destinationNamedPort", set)
		return p, false
	}
	return p, good
}

// tierPort reads a number or a range of ports.
func (v value) tierPort(p *policy.Port) bool {
	o, ok := v.strictObject("number", "range")
	if !ok {
		return false
	}
	number, span := o.get("number"), o.get("range")
	if number.absent() == span.absent() {
		v.bad("want exactly one of number, range")
		return false
	}
	if !number.absent() {
		n, ok := number.integer(1, 65535)
		p.First, p.Last = uint16(n), uint16(n)
		return ok
	}
	r, ok := span.strictObject("start", "end")
	return ok && r.tierRange(p)
}
