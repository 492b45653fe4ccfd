package connectivity

func ingressTests() []Test {
	fromClient2 := []Clause{{From: []string{RoleClient2}, Verdict: Allowed}, {From: clients, To: []string{RoleClient}, Verdict: DropIngress}}
	toEcho := []Clause{{From: []string{RoleClient2}, Verdict: Allowed}, {From: clients, To: echoes, Verdict: DropIngress}}
	echoScenarios := []string{"pod-to-pod", "pod-to-service", "client-to-client"}
	return []Test{
		{
			Name: "client-ingress", Summary: "client takes connections from client2 only",
			Policies: []string{"client-ingress-from-client2.yaml"}, Scenarios: []string{"client-to-client", "client-to-client-http"},
			Expect: fromClient2,
		},
		{
			Name: "client-ingress-knp", Summary: "the same as a NetworkPolicy",
			Policies: []string{"client-ingress-from-client2-knp.yaml"}, Scenarios: []string{"client-to-client", "client-to-client-http"},
			Expect: fromClient2,
		},
		{
			Name: "client-ingress-icmp", Summary: "client takes echo requests from client2 and nothing else",
			Policies: []string{"client-ingress-icmp.yaml"}, Scenarios: []string{"client-to-client", "client-to-client-http"},
			Expect: []Clause{
				{From: []string{RoleClient2}, To: []string{RoleClient}, Kinds: []Kind{ICMP}, Verdict: Allowed},
				{From: clients, To: []string{RoleClient}, Verdict: DropIngress},
			},
		},
		{
			Name: "echo-ingress", Summary: "the echo pods take connections from client2 only",
			Policies: []string{"echo-ingress-from-client2.yaml"}, Scenarios: echoScenarios, Expect: toEcho,
		},
		{
			Name: "echo-ingress-knp", Summary: "the same as a NetworkPolicy",
			Policies: []string{"echo-ingress-from-client2-knp.yaml"}, Scenarios: echoScenarios, Expect: toEcho,
		},
		{
			Name: "echo-ingress-port-range", Summary: "the echo pods take connections to 8080 and 8081 only",
			Policies: []string{"echo-ingress-port-range.yaml"}, Scenarios: []string{"pod-to-pod-ports", "pod-to-pod-udp"}, Expect: portRange(),
		},
		{
			Name: "echo-ingress-port-range-knp", Summary: "the same as a NetworkPolicy",
			Policies: []string{"echo-ingress-port-range-knp.yaml"}, Scenarios: []string{"pod-to-pod-ports", "pod-to-pod-udp"}, Expect: portRange(),
		},
		{
			Name: "echo-ingress-named-port", Summary: "the echo pods take connections to the port called http-8080 only",
			Policies: []string{"echo-ingress-named-port.yaml"}, Scenarios: []string{"pod-to-pod-ports", "pod-to-service"}, Expect: onlyHTTP(DropIngress),
		},
		{
			Name: "echo-ingress-named-port-knp", Summary: "the same as a NetworkPolicy",
			Policies: []string{"echo-ingress-named-port-knp.yaml"}, Scenarios: []string{"pod-to-pod-ports", "pod-to-service"}, Expect: onlyHTTP(DropIngress),
		},
	}
}

func portRange() []Clause {
	return []Clause{
		{To: echoes, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP, PortAlternative}, Verdict: Allowed},
		{To: echoes, Verdict: DropIngress},
	}
}

func onlyHTTP(otherwise Verdict) []Clause {
	return []Clause{
		{To: echoes, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP}, Verdict: Allowed},
		{To: echoes, Verdict: otherwise},
	}
}
