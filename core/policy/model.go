// Package policy decides who may talk to whom. Rules of all dialects (NetworkPolicy v1, the L3/L4 part
// of CiliumNetworkPolicy v2, ClusterNetworkPolicy v1alpha2, AdminNetworkPolicy v1alpha1) have one form here. The compiler
// turns them into the rows that a kernel looks up; Evaluate reads them as their documentation says, without identities,
// classes or tables, and the two are held against each other in tests.
package policy

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/labels"
)

// Ref names a policy object.
type Ref struct {
	Kind      string // NetworkPolicy, CiliumNetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy, …
	Namespace string // empty for cluster-wide kinds
	Name      string
}

func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// RuleRef names one rule of a policy object by its place in the manifest.
type RuleRef struct {
	Policy    Ref
	Direction datapath.Direction
	Path      string // as the user wrote it: "ingress[0]", "egressDeny[1]", "specs[2].ingress[0]"
}

func (r RuleRef) String() string { return r.Policy.String() + " " + r.Path }

// Policy is one policy object, ready to be judged by.
type Policy struct {
	Ref   Ref
	Specs []Spec // one for NetworkPolicy; CiliumNetworkPolicy may hold several
}

// Tier says when the rules of a spec are asked, as in ClusterNetworkPolicy and, before it, AdminNetworkPolicy (KEP-2091): those of
// administrators first, then those of everybody together, then the administrators' defaults for what
// nobody spoke about.
type Tier uint8

// The tiers. In the admin and baseline tiers rules are asked one after the other, by the priority of
// their spec, and the first that matches decides. In the ordinary tier the order says nothing.
const (
	TierOrdinary Tier = iota
	TierAdmin
	TierBaseline
)

func (t Tier) String() string {
	switch t {
	case TierOrdinary:
		return "NetworkPolicy"
	case TierAdmin:
		return "Admin"
	case TierBaseline:
		return "Baseline"
	}
	return fmt.Sprintf("tier %d", uint8(t))
}

// Spec is one set of rules for one kind of subject.
type Spec struct {
	Tier     Tier
	Priority int // in the admin and baseline tiers: the lowest is asked first

	Subject                       labels.Selector // which endpoints it applies to
	IsolateIngress, IsolateEgress bool            // unmatched traffic of the subject is denied in this direction
	Rules                         []Rule
}

// Rule allows, denies or passes. Peers, Ports and ICMP restrict it; they are joined by "and", the members
// of each by "or".
type Rule struct {
	Ref  RuleRef
	Deny bool
	// Pass, in the admin and baseline tiers: what the rule matches is left to the next tier.
	Pass bool

	// AnyPeer: no restriction of peers, the world included. Otherwise one of Peers must match, and
	// an empty Peers matches nothing.
	AnyPeer bool
	Peers   []Peer

	// AnyPort: every protocol and port, ICMP included. Otherwise one of Ports or ICMP must match,
	// and empty lists match nothing.
	AnyPort bool
	Ports   []Port
	ICMP    []ICMP

	// Unenforced names the parts of the rule as written, by their path below Ref, that can't be judged
	// yet: "toFQDNs", "toPorts[0].rules". They are not among the restrictions above: an allow rule
	// grants nothing by them, and of a deny rule they make something wider. For people; it decides nothing.
	Unenforced []string
}

// Peer is one alternative for the other end of a connection. Exactly one of the kinds is set.
type Peer struct {
	Selector *labels.Selector // endpoints (and reserved identities) whose labels match
	Entity   Entity           // a named group of identities
	CIDR     netip.Prefix     // addresses outside the cluster; never pods or nodes
	Except   []netip.Prefix   // inside CIDR
}

// Entity is a named group of peers, as in Cilium.
type Entity string

// Entities of CiliumNetworkPolicy.
const (
	EntityAll           Entity = "all"
	EntityWorld         Entity = "world"
	EntityWorldIPv4     Entity = "world-ipv4"
	EntityWorldIPv6     Entity = "world-ipv6"
	EntityCluster       Entity = "cluster"
	EntityHost          Entity = "host"
	EntityRemoteNode    Entity = "remote-node"
	EntityInit          Entity = "init"
	EntityIngress       Entity = "ingress"
	EntityUnmanaged     Entity = "unmanaged"
	EntityHealth        Entity = "health"
	EntityKubeAPIServer Entity = "kube-apiserver"
	EntityNone          Entity = "none"
)

// Port is one alternative for protocol and destination port. Name, when set, is resolved at the
// destination: by the subject's own named ports for ingress, by the peer's for egress.
type Port struct {
	Proto       uint8  // TCP, UDP, SCTP, or another IP protocol number (then First = 0, Last = 65535)
	AnyProto    bool   // TCP, UDP and SCTP
	First, Last uint16 // inclusive; 0 to 65535 is "all ports"
	Name        string
}

// ICMP is one alternative for an ICMP message.
type ICMP struct {
	IPv6 bool // family of the message
	Type uint8
}

// NamedPort is a named container port of an endpoint.
type NamedPort struct {
	Name  string `json:"name,omitempty"`
	Proto uint8  `json:"protocol"` // IP protocol number
	Port  uint16 `json:"port"`
}

// Verdict is a decision with its reason.
type Verdict struct {
	Allowed bool
	// Rule is the deciding rule. Without one (Rule.Path empty): a default deny if not Allowed, caused
	// by the policies in Isolating; or no policy at all if Allowed and Isolating is empty; or the
	// built-in allowance named in Note.
	Rule      RuleRef
	Isolating []Ref
	Note      string
}

// String names what decided: a rule, "default deny (POLICY, …)", a built-in allowance, or "no policy".
func (v Verdict) String() string {
	switch {
	case v.Rule.Path != "":
		return v.Rule.String()
	case !v.Allowed && v.Note != "":
		return v.Note
	case !v.Allowed:
		s := ""
		for i, r := range v.Isolating {
			if i > 0 {
				s += ", "
			}
			s += r.String()
		}
		return fmt.Sprintf("default deny (%s)", s)
	case v.Note != "":
		return v.Note
	}
	return "no policy"
}

// NoteLocalHost is the note of the built-in allowance for traffic from a pod's own node.
const NoteLocalHost = "local host is always allowed in"

// NoteNotReady is the note of the refusal of an endpoint that no policy is in force for yet.
const NoteNotReady = "no policy in force yet"
