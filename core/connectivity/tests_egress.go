package connectivity

func egressTests() []Test {
	toEcho := []Clause{
		{From: clients, To: echoes, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP}, Verdict: Allowed},
		{From: clients, Verdict: DropEgress},
	}
	outside := []Clause{{From: clients, To: []string{RoleOutside}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}}
	apiScenarios := []string{"pod-to-api-server", "pod-to-pod", "pod-to-world", "pod-to-world-2"}
	toAPIServer := []Clause{
		{From: clients, To: []string{RoleAPIServer}, Verdict: Allowed},
		{From: clients, To: outsides, APIServer: true, Verdict: Allowed},
		{From: clients, Verdict: DropEgress},
	}
	return []Test{
		{
			Name: "client-egress", Summary: "clients may talk to port 8080 of the echo pods only",
			Policies: []string{"client-egress-to-echo.yaml"}, Scenarios: egressScenarios, Expect: toEcho,
		},
		{
			Name: "client-egress-knp", Summary: "the same as a NetworkPolicy",
			Policies: []string{"client-egress-to-echo-knp.yaml"}, Scenarios: egressScenarios, Expect: toEcho,
		},
		{
			Name: "client-egress-expression", Summary: "the same by label expressions",
			Policies: []string{"client-egress-to-echo-expression.yaml"}, Scenarios: egressScenarios, Expect: toEcho,
		},
		{
			Name: "client-egress-expression-knp", Summary: "the same by label expressions of a NetworkPolicy",
			Policies: []string{"client-egress-to-echo-expression-knp.yaml"}, Scenarios: egressScenarios, Expect: toEcho,
		},
		{
			Name: "client-egress-port-range", Summary: "clients may talk to 8080 and 8081 of the echo pods only",
			Policies: []string{"client-egress-port-range.yaml"}, Scenarios: []string{"pod-to-pod-ports", "pod-to-pod-udp"},
			Expect: []Clause{
				{From: clients, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP, PortAlternative}, Verdict: Allowed},
				{From: clients, Verdict: DropEgress},
			},
		},
		{
			Name: "client-egress-named-port", Summary: "clients may talk to what the echo pods call http-8080 only",
			Policies: []string{"client-egress-named-port.yaml"}, Scenarios: []string{"pod-to-pod-ports", "pod-to-service"}, Expect: onlyHTTP(DropEgress),
		},
		{
			Name: "client-with-service-account-egress-to-echo", Summary: "pods of the service account client may talk to the echo pods, the other clients may not",
			Policies: []string{"client-with-service-account-egress-to-echo.yaml"}, Scenarios: []string{"pod-to-pod"},
			Expect: []Clause{{From: []string{RoleClient}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-echo-service-account", Summary: "clients may talk to pods of the service account echo-same-node only",
			Policies: []string{"client-egress-to-echo-service-account.yaml"}, Scenarios: []string{"pod-to-pod"},
			Expect: []Clause{{To: []string{RoleEchoSameNode}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
		{
			Name: "to-entities-world", Summary: "clients may talk to the outside and to nobody else",
			Policies: []string{"to-entities-world.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, To: outsides, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
		{
			Name: "to-cidr-external", Summary: "clients may talk to one address outside and to nobody else",
			Policies: []string{"to-cidr-external.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"}, Expect: outside,
		},
		{
			Name: "to-cidr-external-knp", Summary: "the same as a NetworkPolicy",
			Policies: []string{"to-cidr-external-knp.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"}, Expect: outside,
		},
		{
			Name: "client-egress-to-cidrgroup", Summary: "clients may talk to the addresses of a CiliumCIDRGroup and to nobody else",
			Policies: []string{"client-egress-to-cidrgroup.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"}, Expect: outside,
		},
		{
			Name: "pod-to-k8s-on-controlplane", Summary: "clients may talk to the API server, as an entity, and to nobody else",
			Policies: []string{"client-egress-to-kube-apiserver.yaml"}, Scenarios: apiScenarios, Needs: apiScenarios[:1], Expect: toAPIServer,
		},
		{
			Name: "pod-to-k8s-on-controlplane-cidr", Summary: "the same by the API server's addresses",
			Policies: []string{"client-egress-to-kube-apiserver-cidr.yaml"}, Scenarios: apiScenarios, Needs: apiScenarios[:1], Expect: toAPIServer,
		},
		{
			Name: "allow-dns-only", Summary: "clients may look up names and nothing else",
			Policies: []string{"allow-dns-only.yaml"}, Scenarios: []string{"dns", "pod-to-pod", "pod-to-headless-service", "pod-to-world"},
			Expect: []Clause{{From: clients, To: []string{RoleDNS}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
	}
}
