package policy_test

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
)

// backendIngress lets pods with app=frontend reach pods with app=backend on TCP port 8080.
func backendIngress() policy.Policy {
	app := func(name string) labels.Selector {
		s, err := labels.NewSelector(labels.Requirement{Source: labels.SourceK8s, Key: "app", Operator: labels.In, Values: []string{name}})
		if err != nil {
			panic(err)
		}
		return s
	}
	ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "backend-ingress"}
	frontend := app("frontend")
	return policy.Policy{Ref: ref, Specs: []policy.Spec{{
		Subject:        app("backend"),
		IsolateIngress: true,
		Rules: []policy.Rule{{
			Ref:   policy.RuleRef{Policy: ref, Direction: datapath.Ingress, Path: "ingress[0]"},
			Peers: []policy.Peer{{Selector: &frontend}},
			Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 8080, Last: 8080}},
		}},
	}}}
}

func app(name string) labels.Set {
	return labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: name})
}

// Who may talk to whom, from the rules alone.
func ExampleEvaluate() {
	policies := []policy.Policy{backendIngress()}
	backend := policy.Party{Labels: app("backend")}
	ask := func(peer policy.Party, port uint16) {
		v := policy.Evaluate(policies, backend, datapath.Ingress, peer, datapath.ProtoTCP, port)
		fmt.Println(v.Allowed, v)
	}
	ask(policy.Party{Labels: app("frontend")}, 8080)
	ask(policy.Party{Labels: app("frontend")}, 22)
	ask(policy.Outside(netip.MustParseAddr("203.0.113.7")), 8080)
	ask(policy.Party{Labels: identity.ReservedIdentity(identity.Host).Labels}, 8080)
	// Output:
	// true NetworkPolicy shop/backend-ingress ingress[0]
	// false default deny (NetworkPolicy shop/backend-ingress)
	// false default deny (NetworkPolicy shop/backend-ingress)
	// true local host is always allowed in
}

// The same policy as rows for a kernel. The second identity with app=frontend costs a single write.
func ExampleCompiler() {
	c := policy.NewCompiler(0, 1)
	for _, id := range identity.Reserved() {
		c.UpsertIdentity(id, nil)
	}
	c.UpsertPolicy(backendIngress())
	c.UpsertSubject(7, app("backend"), nil)
	c.UpsertIdentity(identity.Identity{ID: 300, Labels: app("frontend")}, nil)
	show(c, c.Flush())

	fmt.Println("another frontend:")
	labelled := labels.NewSet(append(app("frontend").All(), labels.Label{Source: labels.SourceK8s, Key: "version", Value: "2"})...)
	c.UpsertIdentity(identity.Identity{ID: 301, Labels: labelled}, nil)
	show(c, c.Flush())
	fmt.Println(c.Decide(7, datapath.Ingress, 301, datapath.ProtoTCP, 8080))
	// Output:
	// class of host = 1
	// class of 300 = 2
	// {policy 1 class 0 ingress any} allow=false: default deny (NetworkPolicy shop/backend-ingress)
	// {policy 1 class 0 egress any} allow=true: no policy
	// {policy 1 class 1 ingress any} allow=true: local host is always allowed in
	// {policy 1 class 2 ingress any} allow=false: default deny (NetworkPolicy shop/backend-ingress)
	// {policy 1 class 2 ingress TCP 8080/16} allow=true: NetworkPolicy shop/backend-ingress ingress[0]
	// endpoint 7: policy 1
	// another frontend:
	// class of 301 = 2
	// NetworkPolicy shop/backend-ingress ingress[0]
}

func show(c *policy.Compiler, ops []policy.Op) {
	for _, op := range ops {
		switch op := op.(type) {
		case policy.PutRow:
			why, _ := c.Rule(op.Row.Cookie)
			fmt.Printf("%s allow=%v: %s\n", op.Key, op.Row.Allow, why)
		case policy.DeleteRow:
			fmt.Println("delete", op.Key)
		case policy.SetClass:
			fmt.Printf("class of %s = %d\n", op.Key.Identity, op.Class)
		case policy.SetPolicy:
			fmt.Printf("endpoint %d: policy %d\n", op.Endpoint, op.Policy)
		}
	}
}
