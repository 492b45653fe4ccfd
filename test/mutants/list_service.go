package main

// inServices are tests of what a Service and its endpoints say; inHealth those of what load balancers are told.
var (
	inServices = tests("./core/manifest", "./fakes/cluster")
	inHealth   = tests("./adapters/servicehealth")
)

// serviceMutants change who gets the connections to a service, by its policies and its endpoints' conditions.
var serviceMutants = []mutant{
	{
		name: "service/internal-policy-of-all", file: "core/lb/scopes.go", by: inLB,
		old: "return s.InternalLocal && t == ClusterIP",
		new: "return s.InternalLocal",
		why: "internalTrafficPolicy: Local keeps node ports at the client's node",
	},
	{
		name: "service/external-policy-inside", file: "core/lb/scopes.go", by: inLB,
		old: "if scope == datapath.External {",
		new: "if t != ClusterIP {",
		why: "externalTrafficPolicy: Local refuses clients in the cluster on nodes without a backend",
	},
	{
		name: "service/host-ports-open-all", file: "core/lb/scopes.go", by: inLB,
		old: "if s.NodePorts {",
		new: "if s.NodePorts || s.HostPorts {",
		why: "where host ports are served alone the network gets services that are kube-proxy's",
	},
	{
		name: "service/host-ports-unasked", file: "core/lb/scopes.go", by: inLB,
		old: "if !s.HostPorts {",
		new: "if !s.HostPorts && !s.NodePorts {",
		why: "host ports are served where somebody else does",
	},
	{
		name: "service/unknown-is-local", file: "core/lb/health.go", by: inLB,
		old: "return b.Node != \"\" && b.Node == node",
		new: "return b.Node == \"\" || b.Node == node",
		why: "a backend of unknown place is local to every node",
	},
	{
		name: "service/terminating-counted", file: "core/lb/health.go", by: inLB,
		old: "if b.State != Active || b.Weight == 0 ||",
		new: "if b.Weight == 0 ||",
		why: "load balancers send to a node whose pods are going",
	},
	{
		name: "service/families-added", file: "core/lb/health.go", by: inLB,
		old: "return max(len(v4), len(v6))",
		new: "return len(v4) + len(v6)",
		why: "load balancers take a node of dual-stack pods for twice as good",
	},
	{
		name: "service/remote-counted", file: "core/lb/health.go", by: inLB,
		old: "|| !isLocal(b, node) ||",
		new: "|| b.Node == \"\" ||",
		why: "load balancers send to nodes without a backend, which drop it",
	},
	{
		name: "service/answer-kept", file: "core/lb/health.go", by: inLB,
		old: "if !had || old != now {",
		new: "if !had || old.Port != now.Port {",
		why: "load balancers are told what was true first",
	},
	{
		name: "service/others-behind-none", file: "core/lb/members.go", by: inLB,
		old: "if g.local && !isLocal(b, node) {",
		new: "if g.local && b.Node != \"\" && !isLocal(b, node) {",
		why: "what must stay on the node goes to a backend of unknown place",
	},
	{
		name: "service/external-policy-unheard", file: "core/lb/members.go", by: inLB,
		old: "a.ExternalLocal == b.ExternalLocal && a.InternalLocal == b.InternalLocal &&",
		new: "a.InternalLocal == b.InternalLocal &&",
		why: "a change of externalTrafficPolicy takes effect with the next change of something else",
	},
	{
		name: "service/internal-policy-unheard", file: "core/lb/members.go", by: inLB,
		old: "a.ExternalLocal == b.ExternalLocal && a.InternalLocal == b.InternalLocal &&",
		new: "a.ExternalLocal == b.ExternalLocal &&",
		why: "a change of internalTrafficPolicy takes effect with the next change of something else",
	},
	{
		name: "service/affinity-unheard", file: "core/lb/members.go", by: inLB,
		old: "return a.Name == b.Name && a.Affinity == b.Affinity &&",
		new: "return a.Name == b.Name &&",
		why: "a change of the affinity takes effect with the next change of something else",
	},
	{
		name: "service/nobody-no-row", file: "core/lb/compiler.go", by: inLB,
		old: "f.members = make([]member, len(specs))",
		new: "if len(specs) == 0 {\n\t\treturn nil\n\t}\n\tf.members = make([]member, len(specs))",
		why: "what comes for a service without backends is passed on, not refused",
	},
	{
		name: "service/host-port-first", file: "core/lb/compiler.go", by: inLB,
		old: "claim{s.Name, i, f.PortName, f.Type == HostPort}",
		new: "claim{s.Name, i, f.PortName, false}",
		why: "a pod takes a node port by declaring it as its host port",
	},
	{
		name: "service/host-port-everywhere", file: "core/lb/scopes.go", by: inLB,
		old: "return t == HostPort || t == NodePort && s.ExternalLocal",
		new: "return t == NodePort && s.ExternalLocal",
		why: "a host port is answered by a pod of this node at the addresses of all nodes",
	},
	{
		name: "service/policy-of-another-node", file: "core/lb/scopes.go", by: inLB,
		old: "return t == HostPort || t == NodePort && s.ExternalLocal",
		new: "return t == HostPort",
		why: "sockets reach backends by a node that keeps what comes to its own, and has none",
	},
	{
		name: "service/hints-of-some", file: "core/lb/hints.go", by: inLB,
		old: "if all && some {",
		new: "if some {",
		why: "backends without hints get nothing while the control plane hands hints out",
	},
	{
		name: "service/hints-before-policy", file: "core/lb/compiler.go", by: inLB,
		old: "if c.settings.Topology && !f.local && state == Active {",
		new: "if c.settings.Topology && state == Active {",
		why: "a node's own backends are not used because another one is meant for its zone",
	},
	{
		name: "service/affinity-to-the-gone", file: "core/lb/affinity.go", by: inLB,
		old: "now.Sub(row.used) >= timeout || !exists(row.backend) {",
		new: "now.Sub(row.used) >= timeout {",
		why: "a client is sent to a backend that is gone for as long as it tries",
	},
	{
		name: "service/affinity-not-renewed", file: "core/lb/affinity.go", by: inLB,
		old: "a.rows[key] = affinityRow{row.backend, now}",
		new: "if !found {\n\t\trow.used = now\n\t}\n\ta.rows[key] = row",
		why: "a client that never pauses changes its backend all the same",
	},
	{
		name: "service/affinity-collected-in-use", file: "core/lb/affinity.go", by: inLB,
		old: "if now.Sub(row.used) >= timeout(key.service) {",
		new: "if now.Sub(row.used) <= timeout(key.service) {",
		why: "clients lose their backends when old ones are forgotten",
	},
	{
		name: "service/serving-not-asked", file: "core/manifest/service.go", by: inServices,
		old: "return lb.Terminating, serving",
		new: "return lb.Terminating, serving && ready",
		why: "a pod that shuts down gets no connections though no other is left and it serves",
	},
	{
		name: "service/terminating-serves-by-default", file: "core/manifest/service.go", by: inServices,
		old: "serving = ready\n",
		new: "serving = true\n",
		why: "a pod that shuts down gets connections though it is not ready",
	},
	{
		name: "service/unknown-is-not-ready", file: "core/manifest/service.go", by: inServices,
		old: "ready = ready || !ok",
		new: "ready = ready && ok",
		why: "endpoints whose readiness is unknown get no connections",
	},
	{
		name: "service/unready-serves", file: "core/manifest/service.go", by: inServices,
		old: "return lb.Active, ready",
		new: "return lb.Active, serving",
		why: "a pod that serves and is not ready gets connections",
	},
	{
		name: "service/policies-mixed-up", file: "core/manifest/service.go", by: inServices,
		old: "b.service.InternalLocal = isLocal(spec.get(\"internalTrafficPolicy\"))",
		new: "b.service.InternalLocal = isLocal(spec.get(\"externalTrafficPolicy\"))",
		why: "externalTrafficPolicy: Local counts inside the cluster",
	},
	{
		name: "service/check-without-policy", file: "core/manifest/service.go", by: inServices,
		old: "if kind == \"LoadBalancer\" && b.service.ExternalLocal {",
		new: "if kind == \"LoadBalancer\" {",
		why: "load balancers leave out nodes that would serve",
	},
	{
		name: "service/balancer-without-node-ports", file: "core/manifest/service.go", by: inServices,
		old: "if kind == \"NodePort\" || kind == \"LoadBalancer\" {",
		new: "if kind == \"NodePort\" {",
		why: "a load balancer that comes by node ports finds them closed",
	},
	{
		name: "service/source-ranges-open", file: "core/manifest/service.go", by: inServices,
		old: "the load balancer's addresses are not served\")\n\t\treturn nil",
		new: "the load balancer's addresses are not served\")",
		why: "who is outside of a load balancer's source ranges gets in",
	},
	{
		name: "service/balancer-left-out", file: "core/manifest/service.go", by: inServices,
		old: "mode == \"Proxy\" {",
		new: "mode == \"VIP\" {",
		why: "pods go past a load balancer that has to see everything",
	},
	{
		name: "service/node-port-of-both-families", file: "core/manifest/service.go", by: inServices,
		old: "if a.Is4() && !b.derive.v4 || a.Is6() && !b.derive.v6 {",
		new: "if a.Is4() && !b.derive.v4 {",
		why: "a service of IPv4 takes the node port of IPv6, too",
	},
	{
		name: "service/affinity-standard", file: "core/manifest/service.go", by: inServices,
		old: "return standard * time.Second",
		new: "return longest * time.Second",
		why: "clients stay for a day where three hours are promised",
	},
	{
		name: "service/finished-pod", file: "core/manifest/derive.go", by: inServices,
		old: "if p.Finished || !p.Ready && !svc.rule.notReady {",
		new: "if !p.Ready && !svc.rule.notReady {",
		why: "a service that publishes pods that are not ready leads to ended ones",
	},
	{
		name: "service/terminating-pod", file: "core/manifest/derive.go", by: inServices,
		old: "if p.Terminating && !rule.notReady {\n\t\t\t\tb.State = lb.Terminating",
		new: "if p.Terminating && !rule.notReady && !p.Ready {\n\t\t\t\tb.State = lb.Terminating",
		why: "a pod that shuts down gets new connections while others could take them",
	},
	{
		name: "service/status-of-none", file: "adapters/servicehealth/servicehealth.go", by: inHealth,
		old: "if a.LocalEndpoints == 0 {",
		new: "if a == nil {",
		why: "load balancers send to nodes without a backend",
	},
	{
		name: "service/answer-stays", file: "adapters/servicehealth/servicehealth.go", by: inHealth,
		old: "p.answer.Store(&a)\n\t\t} else if",
		new: "_ = p\n\t\t} else if",
		why: "load balancers are told what was true when the port was opened",
	},
	{
		name: "service/host-port-of-an-ended-pod", file: "core/engine/hostports.go", by: tests("./core/engine"),
		old: "pod.Finished || len(pod.HostPorts) == 0 ||",
		new: "len(pod.HostPorts) == 0 ||",
		why: "an ended pod keeps its host ports until it is deleted",
	},
	{
		name: "service/host-port-before-identity", file: "core/engine/hostports.go", by: tests("./core/engine"),
		old: "ep == nil || ep.identity == identity.Unknown ||",
		new: "ep == nil || ep.identity == identity.Init ||",
		why: "a pod is reachable by its host port before its policy is known",
	},
}
