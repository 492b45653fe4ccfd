package connectivity

// Test is a set of policies, the scenarios that are run under them, and what must come of these.
type Test struct {
	Name      string
	Summary   string
	Policies  []string // files under policies/
	Scenarios []string
	Expect    []Clause
}

// Roles in groups.
var (
	clients  = []string{"client*"}
	echoes   = []string{"echo*"}
	nodes    = []string{RoleHost, RoleRemoteNode}
	outsides = []string{"outside*"}
	pods     = []string{"client*", "echo*"}
)

// Scenarios that most tests of egress have in common.
var egressScenarios = []string{"pod-to-pod", "pod-to-pod-udp", "client-to-client", "pod-to-service", "pod-to-service-udp", "pod-to-world", "pod-to-world-2"}

// Tests are all tests in the order in which they are run.
func Tests() []Test {
	out := append(basicTests(), ingressTests()...)
	out = append(out, egressTests()...)
	return append(out, denyTests()...)
}

func basicTests() []Test {
	return []Test{
		{
			Name: "no-policies", Summary: "without a policy everybody reaches everybody",
			Scenarios: []string{
				"pod-to-pod", "pod-to-pod-udp", "pod-to-pod-icmp", "client-to-client", "pod-to-service", "pod-to-service-udp", "pod-to-headless-service",
				"pod-to-local-nodeport", "pod-to-remote-nodeport", "pod-to-external-ip", "pod-to-loadbalancer",
				"pod-to-itself-via-service", "pod-to-host", "host-to-pod", "host-to-service", "pod-to-api-server", "dns",
				"pod-to-world", "pod-to-world-2",
			},
		},
		{
			Name: "allow-all-except-world", Summary: "clients may talk to what is in the cluster",
			Policies:  []string{"allow-all-except-world.yaml"},
			Scenarios: []string{"pod-to-pod", "client-to-client", "pod-to-service", "pod-to-host", "host-to-pod", "dns", "pod-to-world"},
			Expect:    []Clause{{From: clients, To: outsides, Verdict: DropEgress}},
		},
		{
			Name: "all-ingress-deny", Summary: "nobody gets in but a pod's own node",
			Policies:  []string{"all-ingress-deny.yaml"},
			Scenarios: []string{"pod-to-pod", "pod-to-pod-udp", "client-to-client", "pod-to-service", "host-to-pod", "pod-to-world"},
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
			Expect:    []Clause{{From: clients, To: outsides, Verdict: DropEgress}},
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

func ingressDenied() []Clause {
	return []Clause{
		{From: []string{RoleHost}, Verdict: Allowed},
		{From: []string{RoleRemoteNode}, To: pods, Verdict: DropIngress},
		{From: clients, To: pods, Verdict: DropIngress},
	}
}

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

func egressTests() []Test {
	toEcho := []Clause{
		{From: clients, To: echoes, Kinds: []Kind{HTTP}, Ports: []uint16{PortHTTP}, Verdict: Allowed},
		{From: clients, Verdict: DropEgress},
	}
	outside := []Clause{{From: clients, To: []string{RoleOutside}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}}
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
			Name: "allow-dns-only", Summary: "clients may look up names and nothing else",
			Policies: []string{"allow-dns-only.yaml"}, Scenarios: []string{"dns", "pod-to-pod", "pod-to-headless-service", "pod-to-world"},
			Expect: []Clause{{From: clients, To: []string{RoleDNS}, Verdict: Allowed}, {From: clients, Verdict: DropEgress}},
		},
	}
}

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
			Name: "client-egress-to-cidr-deny", Summary: "clients are refused one address outside",
			Policies: []string{"allow-all-egress.yaml", "client-egress-to-cidr-deny.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, To: []string{RoleOutside}, Verdict: DropEgress}},
		},
		{
			Name: "client-egress-to-cidr-deny-default", Summary: "a refusal alone lets nothing else out either",
			Policies: []string{"client-egress-to-cidr-deny.yaml"}, Scenarios: []string{"pod-to-world", "pod-to-world-2", "pod-to-pod"},
			Expect: []Clause{{From: clients, Verdict: DropEgress}},
		},
	}
}
