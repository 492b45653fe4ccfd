package connectivity

func denyTests() []Test {
	return []Test{
		{
			Name: "echo-ingress-from-other-client-deny", Summary: "client2 is refused what everybody else may",
			Policies: []string{"allow-all-ingress.yaml", "echo-ingress-from-client2-deny.yaml"}, Scenarios: []string{"pod-to-pod", "pod-to-service", "client-to-client"},
			Expect: []Clause{{From: []string{RoleClient2}, To: echoes, Verdict: DropIngress}},
		},
		{
			Name: "client-ingress-from-other-client-icmp-deny", Summary: "client refuses the echo requests of client2",
			Policies: []string{"allow-all-ingress.yaml", "client-ingress-from-client2-icmp-deny.yaml"}, Scenarios: []string{"client-to-client", "client-to-client-http"},
			Expect: []Clause{{From: []string{RoleClient2}, To: []string{RoleClient}, Kinds: []Kind{ICMP}, Verdict: DropIngress}},
		},
		{
			Name: "client-egress-to-echo-deny", Summary: "clients are refused port 8080 of the echo pods",
			Policies: []string{"allow-all-egress.yaml", "client-egress-to-echo-deny.yaml"}, Scenarios: append([]string{"pod-to-pod-ports"}, egressScenarios...),
			Expect: []Clause{{From: clients, To: echoes, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP}, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-echo-expression-deny", Summary: "the same by label expressions, for client2",
			Policies: []string{"allow-all-egress.yaml", "client-egress-to-echo-expression-deny.yaml"}, Scenarios: []string{"pod-to-pod", "client-to-client"},
			Expect: []Clause{{From: []string{RoleClient2}, To: echoes, Verdict: DropEgress}},
		},
		{
			Name: "client-ingress-to-echo-named-port-deny", Summary: "the echo pods refuse what comes from client2 to http-8080",
			Policies: []string{"allow-all-ingress.yaml", "client-ingress-to-echo-named-port-deny.yaml"}, Scenarios: []string{"pod-to-pod-ports"},
			Expect: []Clause{{From: []string{RoleClient2}, To: echoes, Ports: []uint16{PortHTTP}, Verdict: DropIngress}},
		},
		{
			Name: "client-with-service-account-egress-to-echo-deny", Summary: "pods of the service account client are refused port 8080 of the echo pods",
			Policies:  []string{"allow-all-egress.yaml", "client-with-service-account-egress-to-echo-deny.yaml"},
			Scenarios: []string{"pod-to-pod", "pod-to-pod-udp", "client-to-client"},
			Expect:    []Clause{{From: []string{RoleClient}, To: echoes, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP}, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-echo-service-account-deny", Summary: "clients are refused port 8080 of pods of the service account echo-same-node",
			Policies:  []string{"allow-all-egress.yaml", "client-egress-to-echo-service-account-deny.yaml"},
			Scenarios: []string{"pod-to-pod", "pod-to-pod-udp", "client-to-client"},
			Expect:    []Clause{{From: clients, To: []string{RoleEchoSameNode}, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP}, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-cidr-deny", Summary: "clients are refused one address outside",
			Policies: []string{"allow-all-egress.yaml", "client-egress-to-cidr-deny.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, To: []string{RoleOutside}, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-cidr-deny-default", Summary: "a refusal alone lets nothing else out either",
			Policies: []string{"client-egress-to-cidr-deny.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-cidrgroup-deny", Summary: "clients are refused the addresses of a CiliumCIDRGroup",
			Policies: []string{"allow-all-egress.yaml", "client-egress-to-cidrgroup-deny.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, To: []string{RoleOutside}, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-cidrgroup-deny-by-label", Summary: "the same, with the group chosen by its labels",
			Policies: []string{"allow-all-egress.yaml", "client-egress-to-cidrgroup-deny-by-label.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, To: []string{RoleOutside}, Verdict: DropEgress}},
		},
	}
}
