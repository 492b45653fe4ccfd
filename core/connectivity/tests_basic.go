package connectivity

func basicTests() []Test {
	return []Test{
		{
			Name: "no-policies", Summary: "without a policy everybody reaches everybody",
			Scenarios: []string{
				"pod-to-pod", "pod-to-pod-udp", "pod-to-pod-icmp", "client-to-client", "pod-to-service", "pod-to-service-udp", "pod-to-headless-service",
				"pod-to-hostport", "pod-to-external-ip", "pod-to-loadbalancer", "pod-to-host", "host-to-pod", "host-to-service", "pod-to-api-server", "dns",
				"pod-to-world", "pod-to-world-2",
			},
		},
		{
			Name: "no-policies-extra", Summary: "without a policy pods reach the node ports of every node",
			Scenarios: []string{"pod-to-local-nodeport", "pod-to-remote-nodeport"},
		},
		{
			Name: "allow-all-except-world", Summary: "clients may talk to what is in the cluster",
			Policies:  []string{"allow-all-except-world.yaml"},
			Scenarios: []string{"pod-to-pod", "client-to-client", "pod-to-service", "pod-to-host", "host-to-pod", "dns", "pod-to-world", "pod-to-world-2"},
			Expect:    clusterOnly(),
		},
		{
			Name: "all-ingress-deny", Summary: "nobody gets in but a pod's own node",
			Policies:  []string{"all-ingress-deny.yaml"},
			Scenarios: []string{"pod-to-pod", "pod-to-pod-udp", "client-to-client", "pod-to-service", "pod-to-hostport", "host-to-pod", "pod-to-world"},
			Expect:    ingressDenied(),
		},
		{
			Name: "all-ingress-deny-knp", Summary: "the same as a NetworkPolicy",
			Policies:  []string{"all-ingress-deny-knp.yaml"},
			Scenarios: []string{"pod-to-pod", "client-to-client", "host-to-pod", "pod-to-world"},
			Expect:    ingressDenied(),
		},
		{
			Name: "all-egress-deny", Summary: "nobody gets out",
			Policies:  []string{"all-egress-deny.yaml"},
			Scenarios: append([]string{"host-to-pod", "pod-to-host", "pod-to-api-server", "dns"}, egressScenarios...),
			Expect:    []Clause{{From: pods, Verdict: DropEgress}},
		},
		{
			Name: "all-egress-deny-knp", Summary: "the same as a NetworkPolicy",
			Policies:  []string{"all-egress-deny-knp.yaml"},
			Scenarios: []string{"host-to-pod", "pod-to-host", "pod-to-pod", "client-to-client", "pod-to-service", "pod-to-world"},
			Expect:    []Clause{{From: pods, Verdict: DropEgress}},
		},
		{
			Name: "all-entities-deny", Summary: "an explicit refusal of everybody, both ways",
			Policies:  []string{"all-entities-deny.yaml"},
			Scenarios: []string{"pod-to-pod", "client-to-client", "pod-to-service", "pod-to-world"},
			Expect:    []Clause{{From: pods, Verdict: DropEgress}},
		},
		{
			Name: "cluster-entity", Summary: "clients may talk to the cluster and to nobody else",
			Policies:  []string{"cluster-entity.yaml"},
			Scenarios: []string{"pod-to-pod", "client-to-client", "pod-to-service", "pod-to-host", "pod-to-world", "pod-to-world-2"},
			Expect:    clusterOnly(),
		},
		{
			Name: "host-entity-egress", Summary: "clients may talk to nodes and to nobody else",
			Policies:  []string{"host-entity-egress.yaml"},
			Scenarios: []string{"pod-to-host", "pod-to-pod", "pod-to-world"},
			Expect:    []Clause{{From: clients, To: nodes, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
		{
			Name: "host-entity-ingress", Summary: "nodes may talk to pods, and nobody else may",
			Policies:  []string{"host-entity-ingress.yaml"},
			Scenarios: []string{"host-to-pod", "pod-to-pod", "client-to-client"},
			Expect:    []Clause{{From: clients, Verdict: DropIngress}},
		},
	}
}

// clusterOnly is what entity cluster comes to: its API servers belong to it, wherever they are.
func clusterOnly() []Clause {
	return []Clause{
		{From: clients, To: outsides, APIServer: true, Verdict: Allowed},
		{From: clients, To: outsides, Verdict: DropEgress},
	}
}

func ingressDenied() []Clause {
	return []Clause{
		{From: []string{RoleHost}, Verdict: Allowed},
		{From: []string{RoleRemoteNode, RoleOutside}, To: pods, Verdict: DropIngress},
		{From: clients, To: pods, Verdict: DropIngress},
	}
}
