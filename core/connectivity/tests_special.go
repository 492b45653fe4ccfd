package connectivity

// specialTests are those that take more than the pods of one namespace, or a way of their own.
func specialTests() []Test {
	return []Test{
		{
			Name: "ingress-from-specific-namespace-ccnp", Summary: "a policy of the whole cluster: the echo pods take connections from another namespace only",
			Policies:  []string{"ingress-from-specific-namespace-ccnp.yaml"},
			Scenarios: []string{"other-namespace-to-pod", "pod-to-pod", "client-to-client"}, Needs: []string{"other-namespace-to-pod"},
			Expect: []Clause{{From: clients, To: echoes, Verdict: DropIngress}},
		},
		{
			Name: "egress-to-specific-namespace-ccnp", Summary: "a policy of the whole cluster: clients may talk to another namespace only",
			Policies:  []string{"egress-to-specific-namespace-ccnp.yaml"},
			Scenarios: []string{"pod-to-other-namespace", "other-namespace-to-pod", "pod-to-pod", "client-to-client"}, Needs: []string{"pod-to-other-namespace"},
			Expect: []Clause{{From: clients, To: []string{RoleCCNPClient}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
		{
			Name: "pod-to-pod-no-frag", Summary: "packets as large as the pods' interfaces take arrive whole",
			Scenarios: []string{"pod-to-pod-no-frag"},
		},
		{
			Name: "pod-to-itself-via-service", Summary: "pods reach themselves by their own service",
			Scenarios: []string{"pod-to-itself-via-service"},
		},
		{
			Name: "north-south-loadbalancing", Summary: "who is outside of the cluster reaches the node ports of every node",
			Scenarios: []string{"outside-to-nodeport"},
		},
		{
			Name: "all-ingress-deny-from-outside", Summary: "nobody outside gets in, through no node's port",
			Policies:  []string{"all-ingress-deny.yaml"},
			Scenarios: []string{"outside-to-nodeport", "host-to-pod"}, Needs: []string{"outside-to-nodeport"},
			Expect: ingressDenied(),
		},
		{
			Name: "echo-ingress-from-outside", Summary: "the echo pods take connections from client2 only, and none from outside",
			Policies:  []string{"echo-ingress-from-client2.yaml"},
			Scenarios: []string{"outside-to-nodeport", "pod-to-pod"}, Needs: []string{"outside-to-nodeport"},
			Expect: []Clause{{From: []string{RoleClient2}, Verdict: Allowed}, {To: echoes, Verdict: DropIngress}},
		},
		{
			Name: "from-cidr-host-netns", Summary: "the echo pods take connections from one address outside, and none from pods",
			Policies:  []string{"echo-ingress-from-cidr.yaml"},
			Scenarios: []string{"from-cidr-to-pod", "pod-to-pod"}, Needs: []string{"from-cidr-to-pod"},
			Expect: []Clause{{From: clients, To: echoes, Verdict: DropIngress}},
		},
		// What looks back at the whole run comes last.
		{Name: "no-interrupted-connections", Summary: "connections made by an earlier run with --conn-disrupt-test-setup are still there", Check: CheckConnections},
		{Name: "no-unexpected-packet-drops", Summary: "no node has dropped packets for a reason that is not their sender's doing", Check: CheckDrops},
		{Name: "check-log-errors", Summary: "the logs of agents and operators tell of no errors", Check: CheckLogs},
	}
}
