package kernel

import (
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// explicitDeny is the cookie bit that tells a deny rule from a default deny.
const explicitDeny datapath.Cookie = 1 << 31

type verdict struct {
	allow  bool
	reason datapath.Reason
	cookie datapath.Cookie
}

// judge reads the policy of one endpoint.
func (k *Kernel) judge(ep datapath.EndpointID, d datapath.Direction, peer identity.ID, proto uint8, port uint16) verdict {
	id := k.epPolicy.rows[ep].Policy
	if id == 0 {
		return verdict{reason: datapath.ReasonNotReady}
	}
	class := k.classes.rows[classAt(id.Generation(), peer)]
	row, ok := k.lookupPolicy(id, class, d, proto, port)
	if !ok && class != 0 {
		row, ok = k.lookupPolicy(id, 0, d, proto, port)
	}
	switch {
	case !ok:
		return verdict{reason: datapath.ReasonPolicyDenied}
	case row.Allow:
		return verdict{allow: true, cookie: row.Cookie}
	case row.Cookie&explicitDeny != 0:
		return verdict{reason: datapath.ReasonPolicyDeny, cookie: row.Cookie}
	}
	return verdict{reason: datapath.ReasonPolicyDenied, cookie: row.Cookie}
}

func (k *Kernel) lookupPolicy(id datapath.PolicyID, class datapath.Class, d datapath.Direction, proto uint8, port uint16) (datapath.PolicyRow, bool) {
	key := datapath.PolicyKey{Policy: id, Class: class, Direction: d, Proto: proto}
	for bits := 16; bits >= 0; bits-- {
		key.PortBits, key.Port = uint8(bits), maskPort(port, uint8(bits))
		if row, ok := k.policy.rows[key]; ok {
			return row, true
		}
	}
	row, ok := k.policy.rows[datapath.PolicyKey{Policy: id, Class: class, Direction: d, AnyProto: true}]
	return row, ok
}

func maskPort(port uint16, bits uint8) uint16 { return port &^ (0xffff >> bits) }

// outcome is what became of judging a flow.
type outcome struct {
	egressJudged, ingressJudged bool
	egressCookie, ingressCookie datapath.Cookie
	refused                     bool
	reason                      datapath.Reason    // refused only
	direction                   datapath.Direction // of the policy that refused
}

// judgeFlow asks the policies of the pods at the ends of a flow: egress of the one that opened it, ingress of
// the other. The first refusal decides.
func (k *Kernel) judgeFlow(e *entry) outcome {
	var o outcome
	from, to := &e.side[0], &e.side[1]
	if from.way == wayPod {
		v := k.judge(from.endpoint, datapath.Egress, to.identity, e.proto, e.policyPort)
		o.egressJudged, o.egressCookie = true, v.cookie
		if !v.allow {
			o.refused, o.reason, o.direction = true, v.reason, datapath.Egress
			return o
		}
	}
	if to.way == wayPod {
		v := k.judge(to.endpoint, datapath.Ingress, from.identity, e.proto, e.policyPort)
		o.ingressJudged, o.ingressCookie = true, v.cookie
		if !v.allow {
			o.refused, o.reason, o.direction = true, v.reason, datapath.Ingress
		}
	}
	return o
}
