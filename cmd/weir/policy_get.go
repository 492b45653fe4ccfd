package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

func newPolicyGetCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "get [NAMESPACE/]NAME",
		Short: "Show the policies in force, as the agent understood them",
		Example: `  weir policy get
  weir policy get shop/backend-ingress
  weir policy get -o json | jq .revision`,
		Args: args(cobra.MaximumNArgs(1)),
	}
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, a []string) error {
		info, err := g.agent().Policies(c.Context())
		if err != nil {
			return err
		}
		views := []policyObject{}
		for _, p := range info.Policies {
			if len(a) == 0 || a[0] == p.Ref.Name || a[0] == p.Ref.Namespace+"/"+p.Ref.Name {
				views = append(views, newPolicyObject(p))
			}
		}
		if len(a) == 1 && len(views) == 0 {
			return fmt.Errorf("policy %s: %w in force", a[0], ports.ErrNotFound)
		}
		if out.json() {
			return printJSON(g.out, struct {
				Revision uint64         `json:"revision"`
				Policies []policyObject `json:"policies"`
			}{info.Revision, views})
		}
		if err := printJSON(g.out, views); err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "Revision: %d\n", info.Revision)
		return err
	}
	return c
}

// policyObject is a policy as people read it: every part in the words of the manifests.
type policyObject struct {
	Kind      string       `json:"kind"`
	Namespace string       `json:"namespace,omitempty"`
	Name      string       `json:"name"`
	Specs     []policySpec `json:"specs"`
}

type policySpec struct {
	Tier            string       `json:"tier,omitempty"` // Admin, Baseline; empty: the ordinary one
	Priority        *int         `json:"priority,omitempty"`
	Subject         string       `json:"endpointSelector"`
	IsolatesIngress bool         `json:"isolatesIngress"`
	IsolatesEgress  bool         `json:"isolatesEgress"`
	Rules           []policyRule `json:"rules"`
}

type policyRule struct {
	Path      string   `json:"path"`
	Direction string   `json:"direction"`
	Action    string   `json:"action"`
	Peers     []string `json:"peers"`
	Ports     []string `json:"ports"`
	// Parts of the rule that grant nothing, or in a deny rule deny more, because weir doesn't enforce them.
	Unenforced []string `json:"unenforced,omitempty"`
}

func newPolicyObject(p policy.Policy) policyObject {
	o := policyObject{Kind: p.Ref.Kind, Namespace: p.Ref.Namespace, Name: p.Ref.Name, Specs: []policySpec{}}
	for _, s := range p.Specs {
		spec := policySpec{Subject: s.Subject.String(), IsolatesIngress: s.IsolateIngress, IsolatesEgress: s.IsolateEgress, Rules: []policyRule{}}
		if s.Tier != policy.TierOrdinary {
			spec.Tier, spec.Priority = s.Tier.String(), &s.Priority
		}
		for _, r := range s.Rules {
			rule := policyRule{Path: r.Ref.Path, Direction: r.Ref.Direction.String(), Action: "allow", Peers: peerTexts(r), Ports: portTexts(r), Unenforced: r.Unenforced}
			switch {
			case r.Deny:
				rule.Action = "deny"
			case r.Pass:
				rule.Action = "pass"
			}
			spec.Rules = append(spec.Rules, rule)
		}
		o.Specs = append(o.Specs, spec)
	}
	return o
}

func peerTexts(r policy.Rule) []string {
	if r.AnyPeer {
		return []string{"any"}
	}
	out := []string{}
	for _, p := range r.Peers {
		switch {
		case p.Selector != nil:
			out = append(out, "labels "+p.Selector.String())
		case p.Entity != "":
			out = append(out, "entity "+string(p.Entity))
		default:
			out = append(out, "cidr "+p.CIDR.String()+exceptText(p.Except))
		}
	}
	return out
}

func exceptText(except []netip.Prefix) string {
	if len(except) == 0 {
		return ""
	}
	var parts []string
	for _, e := range except {
		parts = append(parts, e.String())
	}
	return " except " + strings.Join(parts, ", ")
}

func portTexts(r policy.Rule) []string {
	if r.AnyPort {
		return []string{"any"}
	}
	out := []string{}
	for _, p := range r.Ports {
		proto := "ANY"
		if !p.AnyProto {
			proto = datapath.ProtoName(p.Proto)
		}
		text := fmt.Sprint(p.First)
		switch {
		case p.Name != "":
			text = p.Name
		case p.First == 0 && p.Last == 65535:
			text = "any"
		case p.First != p.Last:
			text = fmt.Sprintf("%d-%d", p.First, p.Last)
		}
		out = append(out, text+"/"+proto)
	}
	for _, i := range r.ICMP {
		family := "ICMPv4"
		if i.IPv6 {
			family = "ICMPv6"
		}
		out = append(out, fmt.Sprintf("type %d/%s", i.Type, family))
	}
	return out
}
