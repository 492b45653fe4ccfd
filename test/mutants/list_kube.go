package main

// inKube runs some tests of the store, inOperator some of the operator: all of either take a minute and more.
func inKube(run string) suite     { return inAPI("./adapters/kubernetes", run) }
func inOperator(run string) suite { return inAPI("./adapters/kubernetes/operator", run) }

func inAPI(pkg, run string) suite {
	return suite{kube: true, steps: []step{{pkg, "-run", "^(" + run + ")$"}}}
}

// Tests of one matter each. Those of an outage have no server.
var (
	inNumbers = inKube("TestNeeded|TestUseCounts|TestFreedNumber.*|TestPassedNumberRestsOn|TestCollector.*").and(inKube("TestAllocatorsAndCollector"))
	inOutage  = tests("./adapters/kubernetes -run ^(TestManyAgentsInAnOutage|TestOutageEnds.*|TestFailureWithout.*|TestFlapping.*|TestIsAway|TestStoreInAnOutage)$")
	inRelist  = inKube("TestListAfterAnOutageTellsDifferences|TestIdentityGoneWhile.*")
	inPublish = inKube("TestPublish.*|TestWithdraw.*|TestClusterPool")
	inGC      = inOperator("TestEndpointGC.*")
	inNodeGC  = inOperator("TestCiliumNodesOfGoneNodes|TestNodeGC.*")
	inPool    = tests("./core/ipam")
)

// kubeMutants change what agents and the operator write to the cluster, and what they make of its silence.
var kubeMutants = []mutant{
	{
		name: "kube/second-number", file: "adapters/kubernetes/identities.go", by: inNumbers,
		old: "case found && e.labels.Len() > 0 && e.labels.Key() == ls.Key():",
		new: "case found && !e.retired() && e.labels.Key() == ls.Key():",
		why: "labels whose number rests get another: nodes disagree on who they are",
	},
	{
		name: "kube/no-rest", file: "adapters/kubernetes/identities.go", by: inNumbers,
		old: "return e.retired() && ok && !now.Before(free)",
		new: "return e.retired() && ok && !now.After(free)",
		why: "a number means other labels while nodes still know the old ones",
	},
	{
		name: "kube/rested-number-first", file: "adapters/kubernetes/identities.go", by: inNumbers,
		old: "if rested == nil {\n\t\t\t\trested = &e\n\t\t\t}",
		new: "return s.takeOver(ctx, e, ls)",
		why: "labels that have a number further on get a second one",
	},
	{
		name: "kube/passed-number-goes", file: "adapters/kubernetes/identities.go", by: inNumbers,
		old: "if err := s.pass(ctx, e); err != nil {",
		new: "if err := ctx.Err(); err != nil {",
		why: "a number is freed while somebody is on the way past it, whose labels are never found again",
	},
	{
		name: "kube/mark-on-any-version", file: "adapters/kubernetes/identities.go", by: inNumbers,
		old: "\"resourceVersion\": strconv.FormatUint(e.head.Version, 10), \"annotations\": marks,",
		new: "\"annotations\": marks,",
		why: "an identity is retired that somebody has just asked for",
	},
	{
		name: "kube/no-grace", file: "adapters/kubernetes/collect.go", by: inNumbers,
		old: "if now.Sub(since) < grace {",
		new: "if now.Sub(since) < 0 {",
		why: "an identity goes between a pod's end and its successor's beginning",
	},
	{
		name: "kube/mark-of-the-used", file: "adapters/kubernetes/collect.go", by: inNumbers,
		old: "case used && (marked || e.retired()):",
		new: "case used && marked && e.retired():",
		why: "the time without an endpoint counts from before the last one",
	},
	{
		name: "kube/needed-number-freed", file: "adapters/kubernetes/collect.go", by: inNumbers,
		old: "if !e.rested(now) || s.needed(all, id) {",
		new: "if !e.rested(now) {",
		why: "labels behind a number that is freed are not found, and get a second one",
	},
	{
		name: "kube/unreadable-is-needed-by-none", file: "adapters/kubernetes/collect.go", by: inNumbers,
		old: "if home := int(s.home(e.labels)) - int(id); e.labels.Len() == 0 || s.steps(home) == 0",
		new: "if home := int(s.home(e.labels)) - int(id); s.steps(home) == 0",
		why: "a number is freed before an identity that can't be read, whose place may be there",
	},
	{
		name: "kube/endpoint-not-read", file: "adapters/kubernetes/collect.go", by: inKube("TestUnreadableEndpoint.*"),
		old: "unread = fmt.Errorf(",
		new: "_ = fmt.Errorf(",
		why: "the identity of an endpoint that can't be read is retired",
	},
	{
		name: "kube/marked-is-gone", file: "adapters/kubernetes/reflector.go", by: inRelist,
		old: "n.head.Annotation(retiredSince) != \"\":",
		new: "n.head.Annotation(unusedSince) != \"\":",
		why: "agents forget an identity as soon as nobody has an endpoint of it",
	},
	{
		name: "kube/withdraws-anothers", file: "adapters/kubernetes/publish.go", by: inPublish,
		old: "if e, ok := endpointOf(doc); ok && e.Node != node {",
		new: "if e, ok := endpointOf(doc); ok && e.Node == \"\" {",
		why: "a node that a pod left takes away what the pod's new node published",
	},
	{
		name: "kube/withdraws-what-changed", file: "adapters/kubernetes/publish.go", by: inPublish,
		old: "version, uid := strconv.FormatUint(head.Version, 10), types.UID(head.UID)\n\tbody, err := json.Marshal(&metav1.DeleteOptions{\n\t\tTypeMeta:      metav1.TypeMeta{APIVersion: \"v1\", Kind: \"DeleteOptions\"},\n\t\tPreconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},",
		new: "uid := types.UID(head.UID)\n\tbody, err := json.Marshal(&metav1.DeleteOptions{\n\t\tTypeMeta:      metav1.TypeMeta{APIVersion: \"v1\", Kind: \"DeleteOptions\"},\n\t\tPreconditions: &metav1.Preconditions{UID: &uid},",
		why: "a node takes away an endpoint that another wrote since it looked",
	},
	{
		name: "kube/pool-overwritten", file: "adapters/kubernetes/publish.go", by: inPublish,
		old: "if s.opts.ClusterPool {\n\t\tn.PodCIDRs = nil",
		new: "if s.opts.ClusterPool && s.opts.Node == \"\" {\n\t\tn.PodCIDRs = nil",
		why: "an agent writes pod CIDRs that are the operator's to give",
	},
	{
		name: "kube/status-not-compared", file: "adapters/kubernetes/publish.go", by: inPublish,
		old: "owners, o.Status}, err",
		new: "owners}, err",
		why: "what changes of an endpoint is not written: its identity, its addresses, its isolation",
	},
	{
		name: "kube/isolation-turned", file: "core/manifest/encode.go", by: tests("./core/manifest", "./fakes ./fakes/cluster").and(inPublish),
		old: "endpointPolicy{directionOf(e.EnforceIngress), directionOf(e.EnforceEgress)}",
		new: "endpointPolicy{directionOf(e.EnforceEgress), directionOf(e.EnforceIngress)}",
		why: "the status of an endpoint tells the isolation of one direction as the other's",
	},
	{
		name: "kube/isolation-of-egress-unheard", file: "core/engine/policies.go", by: tests("./core/engine"),
		old: "in != ep.ingress || out != ep.egress {",
		new: "in != ep.ingress && out != ep.egress {",
		why: "the status of an endpoint tells of its isolation when both directions change at once",
	},
	{
		name: "kube/forgotten-version", file: "adapters/kubernetes/reflector.go", by: inRelist,
		old: "case apierrors.IsResourceExpired(err) || apierrors.IsGone(err) ||",
		new: "case",
		why: "after a long outage an agent asks for ever for what the server has forgotten",
	},
	{
		name: "kube/gone-in-an-outage", file: "adapters/kubernetes/reflector.go", by: inRelist,
		old: "if _, ok := l.now[name]; !ok {",
		new: "if _, ok := l.now[name]; !ok && l.at == 0 {",
		why: "what was deleted during an outage stays in force",
	},
	{
		name: "kube/changed-in-an-outage", file: "adapters/kubernetes/reflector.go", by: inRelist,
		old: "if known && before.version == n.head.Version {",
		new: "if known && before.version > 0 {",
		why: "what was changed during an outage stays as it was",
	},
	{
		name: "kube/flapping-not-spared", file: "adapters/kubernetes/outage.go", by: inOutage,
		old: "ended.IsZero() || now.Sub(ended) > sameOutage {",
		new: "ended.IsZero() || now.Sub(ended) > 0 {",
		why: "a server that is up and down by turns is asked by everybody at each turn",
	},
	{
		name: "kube/all-return-at-once", file: "adapters/kubernetes/outage.go", by: inOutage,
		old: "pause/2+rand.N(pause/2), changed) {",
		new: "pause, changed) {",
		why: "all agents of a cluster ask a server that is back in the same second",
	},
	{
		name: "kube/first-sign-unseen", file: "adapters/kubernetes/outage.go", by: inOutage,
		old: "func (o *outage) served() { o.set(false) }",
		new: "func (o *outage) served() {}",
		why: "a watch that works again does not help the others",
	},
	{
		name: "kube/never-ready", file: "adapters/kubernetes/outage.go", by: inOutage,
		old: "case time.Since(answered) > startTime:",
		new: "case time.Since(answered) < 0:",
		why: "a server that serves and never says that it is ready is not used",
	},
	{
		name: "kube/refusal-is-an-outage", file: "adapters/kubernetes/outage.go", by: inOutage,
		old: "return code >= http.StatusInternalServerError ||",
		new: "return code >= http.StatusBadRequest ||",
		why: "a missing right stops the watches of everything else",
	},
	{
		name: "gc/list-believed", file: "adapters/kubernetes/operator/endpointgc.go", by: inGC,
		old: "if err != nil || !gone {",
		new: "if err != nil {",
		why: "a list that is late costs a living pod its endpoint",
	},
	{
		name: "gc/any-pod-of-the-name", file: "adapters/kubernetes/operator/endpointgc.go", by: inGC,
		old: "if !running || owner != \"\" && owner != uid {",
		new: "if !running {",
		why: "the endpoint of a pod that is gone stays as long as another one has its name",
	},
	{
		name: "gc/node-not-waited-for", file: "adapters/kubernetes/operator/endpointgc.go", by: inGC,
		old: "if now.Sub(since) < g.op.config.EndpointGC {",
		new: "if now.Sub(since) < 0 {",
		why: "a node that is away for a moment loses its endpoints",
	},
	{
		name: "gc/any-version", file: "adapters/kubernetes/operator/endpointgc.go", by: inGC,
		old: "Delete(ctx, e.Name, exactly(e))",
		new: "Delete(ctx, e.Name, metav1.DeleteOptions{})",
		why: "an endpoint is removed that somebody has just written",
	},
	{
		name: "gc/node-at-once", file: "adapters/kubernetes/operator/nodegc.go", by: inNodeGC,
		old: "if now.Sub(since) < g.op.config.NodeGC {",
		new: "if now.Sub(since) < 0 {",
		why: "a node that is away for a moment loses its pod CIDRs",
	},
	{
		name: "gc/kept-node", file: "adapters/kubernetes/operator/nodegc.go", by: inNodeGC,
		old: "alive || n.keep {",
		new: "alive {",
		why: "a CiliumNode goes whose owner asked to keep it",
	},
	{
		name: "gc/view-believed", file: "adapters/kubernetes/operator/nodegc.go", by: inNodeGC,
		old: "case err == nil:\n\t\treturn nil\n\tcase !apierrors.IsNotFound(err):",
		new: "case err != nil && !apierrors.IsNotFound(err):",
		why: "a list that is late costs a living node its pod CIDRs",
	},
	{
		name: "pool/younger-keeps", file: "core/ipam/clusterpool.go", by: inPool,
		old: "return sa.Before(sb)",
		new: "return sa.After(sb)",
		why: "of two nodes with one pod CIDR the one that has pods in it loses it",
	},
	{
		name: "pool/no-rest", file: "core/ipam/clusterpool.go", by: inPool,
		old: "if now.Before(r.value) && !inTheWay.IsValid() {",
		new: "if now.After(r.value) && !inTheWay.IsValid() {",
		why: "a new node gets addresses that connections of a former one still mean",
	},
	{
		name: "pool/first-claim-keeps", file: "core/ipam/clusterpool.go", by: inPool,
		old: "if other.value != owner && p.outranks(other.value, owner) {",
		new: "if other.value != owner {",
		why: "who of two nodes keeps a pod CIDR depends on the order of news",
	},
	{
		name: "pool/half-an-answer", file: "core/ipam/clusterpool.go", by: inPool,
		old: "p.owners[owner] = o\n\tfor _, c := range fresh {",
		new: "p.owners[owner] = &poolOwner{since: since}\n\tfor _, c := range fresh {",
		why: "a node that gets a second family loses the first",
	},
	{
		name: "kube/slices-overfull", file: "adapters/kubernetes/operator/sliceplan.go", by: tests("./adapters/kubernetes/operator -run ^TestSlicePlan"),
		old: "n < p.size && (best",
		new: "n <= p.size && (best",
		why: "endpoint slices grow beyond what one object should hold",
	},
	{
		name: "kube/taint-unasked", file: "adapters/kubernetes/operator/readiness.go", by: tests("./adapters/kubernetes/operator -run ^TestTaintsFor$"),
		old: "case !ready && set && !tainted:",
		new: "case !ready && !tainted:",
		why: "nodes are closed to pods where nobody asked for it",
	},
}
