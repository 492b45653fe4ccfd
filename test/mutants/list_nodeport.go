package main

// nodePortMutants change what makes the ports of nodes reach services.
var nodePortMutants = []mutant{
	{
		name: "nodeport/bpf-local-ignored", file: "bpf/lib/lb.h", by: inSockets,
		old: "if (!(s->flags & SERVICE_LOCAL) && bpf_map_lookup_elem(&nodes_v1, &peer->addr))",
		new: "if (bpf_map_lookup_elem(&nodes_v1, &peer->addr))",
		why: "a host port is answered by a pod of this node at the addresses of all nodes",
	},
	{
		name: "nodeport/bpf-loopback-of-pods", file: "bpf/lib/lb.h", by: inSockets,
		old: "return is_node_itself(ctx) ? s : NULL;",
		new: "return ctx ? s : NULL;",
		why: "a pod that talks to itself gets a service instead",
	},
	{
		name: "nodeport/bpf-loopback-row-of-pods", file: "bpf/lib/lb.h", by: inSockets,
		old: "} else if (addr_is_loopback(&peer->addr) && !is_node_itself(ctx)) {",
		new: "} else if (0) {",
		why: "a pod that talks to itself gets another pod's host port instead",
	},
	{
		name: "nodeport/bpf-pod-is-a-node", file: "bpf/lib/lb.h", by: inSockets,
		old: "if (ep && ep->flags & ENDPOINT_HOST)",
		new: "if (ep)",
		why: "a port of a pod is taken by a service that has the same node port",
	},

	{
		name: "nodeport/bpf-frontend-not-shown", file: "bpf/lib/lb.h", by: inSockets,
		old: "row = frontend->wildcard ? addr_any_like(&frontend->addr) : frontend->addr;",
		new: "row = frontend->addr;",
		why: "a socket that reached a node port is shown the backend as its peer",
	},
	{
		name: "nodeport/bpf-external-rows-for-sockets", file: "bpf/lib/lb.h", by: inSockets,
		old: ".proto = proto, .scope = SCOPE_INTERNAL};",
		new: ".proto = proto, .scope = SCOPE_EXTERNAL};",
		why: "sockets get what is for packets from the network",
	},
	{
		name: "nodeport/fake-local-ignored", file: "fakes/kernel/sock.go", by: inFake,
		old: "return key, node && !service.Local",
		new: "return key, node && (!service.Local || node)",
		why: "a host port is answered by a pod of this node at the addresses of all nodes",
	},
	{
		name: "nodeport/fake-loopback-of-pods", file: "fakes/kernel/sock.go", by: inFake,
		old: "return key, home\n",
		new: "return key, true\n",
		why: "a pod that talks to itself gets a service instead",
	},
	{
		name: "nodeport/fake-loopback-row-of-pods", file: "fakes/kernel/sock.go", by: inFake,
		old: "return key, home || !loopback[a]",
		new: "return key, true",
		why: "a pod that talks to itself gets another pod's host port instead",
	},
	{
		name: "nodeport/former-layout-lost", file: "adapters/ebpf/objects.go", by: inPins,
		old: "if err := migrate(dir, name, m); err != nil {",
		new: "if err := error(nil); err != nil {",
		why: "after an upgrade services are unknown until the agent has heard of all of them",
	},
}
