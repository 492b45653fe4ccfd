package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// The pods of the shop.
var (
	frontend  = cluster.Name{Namespace: "production", Name: "frontend"}
	backend1  = cluster.Name{Namespace: "production", Name: "backend-1"}
	backend2  = cluster.Name{Namespace: "production", Name: "backend-2"}
	backend3  = cluster.Name{Namespace: "production", Name: "backend-3"}
	database  = cluster.Name{Namespace: "production", Name: "db"}
	stranger  = cluster.Name{Namespace: "visitors", Name: "stranger"}
	shopPods  = []cluster.Name{backend1, backend2, backend3, database, frontend, stranger}
	backendSv = cluster.Name{Namespace: "production", Name: "backend"}
)

const (
	frontendPort = 80
	backendPort  = 8080
	connects     = 1000
)

// story tells and checks what a lab with the shop can do.
type story struct {
	out      io.Writer
	colours  bool
	lab      ports.Lab
	policies []ports.LabManifest
	pause    time.Duration // how long an agent stays dead
	failures []string
}

// tell runs all steps and returns what failed. A step that fails does not keep the next from being
// told; only the end of the context does.
func (s *story) tell(ctx context.Context) []string {
	for _, step := range []struct {
		title string
		run   func(context.Context)
	}{
		{"Nodes and pods", s.inventory},
		{"Who reaches whom, without policies", s.open},
		{fmt.Sprintf("%d connections to the Service %s", connects, backendSv), s.balance},
		{"Who reaches whom, with policies", s.closed},
		{"The last drops, and the rules that caused them", s.drops},
		{"Agents killed while traffic runs", s.restart},
	} {
		if err := ctx.Err(); err != nil {
			s.failures = append(s.failures, step.title+": "+err.Error())
			break
		}
		s.heading(step.title)
		step.run(ctx)
	}
	return s.failures
}

// inventory shows the lab.
func (s *story) inventory(ctx context.Context) {
	nodes, err := s.lab.Nodes(ctx)
	if !s.worked("the nodes can be listed", err) {
		return
	}
	pods, err := s.lab.Pods(ctx)
	if !s.worked("the pods can be listed", err) {
		return
	}
	t := newTable(s.out, "  NODE", "ADDRESSES", "POD CIDRS")
	ready := 0
	for _, n := range nodes {
		if n.Ready {
			ready++
		}
		t.row("  "+n.Name, joinStrings(n.Addresses), joinStrings(n.PodCIDRs))
	}
	_ = t.flush()
	s.say("")
	t = newTable(s.out, "  POD", "NODE", "IDENTITY", "ADDRESSES")
	byName := map[cluster.Name]ports.LabPod{}
	dual, known := 0, 0
	for _, p := range pods {
		byName[p.Name] = p
		if slices.ContainsFunc(p.IPs, netip.Addr.Is4) && slices.ContainsFunc(p.IPs, netip.Addr.Is6) {
			dual++
		}
		if p.Identity.IsCluster() {
			known++
		}
		t.row("  "+p.Name.String(), p.Node, p.Identity.String(), joinStrings(p.IPs))
	}
	_ = t.flush()
	s.check(len(nodes) == 2 && ready == 2, "2 nodes with ready agents (%d of %d)", ready, len(nodes))
	s.check(len(pods) == len(shopPods) && dual == len(pods), "%d pods with an IPv4 and an IPv6 address (%d of %d)", len(shopPods), dual, len(pods))
	s.check(known == len(pods), "every pod has an identity (%d of %d)", known, len(pods))
	same := byName[backend1].Identity == byName[backend2].Identity && byName[backend2].Identity == byName[backend3].Identity
	s.check(same, "equal labels give the same identity, on both nodes: the backends share %s", byName[backend1].Identity)
	s.check(byName[frontend].Identity != byName[stranger].Identity, "different labels give different ones")
}

// open probes before the policies.
func (s *story) open(ctx context.Context) {
	s.matrix(ctx, func(_, _ cluster.Name, _ string) bool { return true })
}

// closed applies the policies and probes again.
func (s *story) closed(ctx context.Context) {
	findings, err := s.lab.Apply(ctx, s.policies)
	for _, f := range findings {
		err = errors.Join(err, errors.New(f.String()))
	}
	if !s.worked("the policies are taken in", err) {
		return
	}
	s.matrix(ctx, shopAllows)
}

// shopAllows says what the shop's policies allow, as their comments say it.
func shopAllows(from, to cluster.Name, protocol string) bool {
	isBackend := func(n cluster.Name) bool { return strings.HasPrefix(n.Name, "backend-") }
	// Egress: only the frontend is restricted.
	if from == frontend {
		tcpToBackend := isBackend(to) && protocol == "TCP"
		pingToDatabase := to == database && protocol == "ICMP"
		return tcpToBackend || pingToDatabase
	}
	switch {
	case isBackend(to):
		return false // the frontend alone may, and is dealt with above
	case to == database:
		return (isBackend(from) && protocol == "TCP") || (from.Namespace == "production" && protocol == "ICMP")
	}
	return true
}

var matrixProtocols = []string{"TCP", "UDP", "ICMP"}

// matrix measures and shows every pair, and compares with what is expected.
func (s *story) matrix(ctx context.Context, expect func(from, to cluster.Name, protocol string) bool) {
	results, err := s.lab.Probe(ctx, ports.LabProbe{Protocols: matrixProtocols})
	if !s.worked("all pairs can be probed", err) {
		return
	}
	type pair struct{ from, to, protocol string }
	got := map[pair]ports.LabResult{}
	for _, r := range results {
		got[pair{r.From, r.To, r.Protocol}] = r
	}
	var cells [][]cell
	head := []cell{{text: "  from \\ to"}}
	for _, to := range shopPods {
		head = append(head, cell{text: to.Name})
	}
	cells = append(cells, head)
	agree, all := 0, 0
	var wrong []string
	for _, from := range shopPods {
		row := []cell{{text: "  " + from.Name}}
		for _, to := range shopPods {
			if from == to {
				row = append(row, cell{text: "-", colour: faint})
				continue
			}
			var c cell
			for _, p := range matrixProtocols {
				r, ok := got[pair{from.String(), to.String(), p}]
				allowed := r.Verdict == ports.LabAllowed
				all++
				if ok && r.Note == "" && allowed == expect(from, to, p) {
					agree++
				} else {
					wrong = append(wrong, strings.TrimSpace(fmt.Sprintf("%s to %s %s: %s %s", from, to, p, cmp.Or(r.Verdict, "not measured"), r.Note)))
				}
				c.parts = append(c.parts, verdictCell(p, allowed))
			}
			row = append(row, c)
		}
		cells = append(cells, row)
	}
	s.grid(cells)
	s.say("  T, U, I: TCP, UDP, ICMP echo pass, on IPv4 and IPv6 alike; '.': they do not")
	for _, w := range wrong {
		s.say("  %s", s.paint(red, "unexpected: "+w))
	}
	s.check(agree == all, "%d of %d verdicts are what they should be", agree, all)
}

// balance counts where connections to a Service end.
func (s *story) balance(ctx context.Context) {
	counts, err := s.lab.Connects(ctx, frontend, backendSv, connects)
	if !s.worked("the service can be dialled", err) {
		return
	}
	backends := []cluster.Name{backend1, backend2, backend3}
	nodes := map[cluster.Name]string{}
	pods, err := s.lab.Pods(ctx)
	s.worked("the pods can be listed", err)
	for _, p := range pods {
		nodes[p.Name] = p.Node
	}
	total, spread := 0, true
	at := map[string]bool{}
	t := newTable(s.out)
	for _, b := range backends {
		n := counts[b]
		total += n
		at[nodes[b]] = true
		// An even share is a third. Random choice stays well within a quarter of it.
		spread = spread && n > connects/3*3/4 && n < connects/3*5/4
		t.row("  "+b.String(), nodes[b], fmt.Sprint(n), strings.Repeat("#", n*60/connects))
	}
	_ = t.flush()
	s.check(total == connects, "%d of %d connections reached a backend", total, connects)
	s.check(spread, "each of the %d backends got about a third", len(backends))
	s.check(len(at) == 2, "they are on both nodes")
	s.check(len(slices.Collect(maps.Keys(counts))) == len(backends), "nobody else answered")
}

// drops shows what the probes ran into.
func (s *story) drops(ctx context.Context) {
	const show = 10
	all, err := s.lab.LastDrops(ctx, 500)
	if !s.worked("the drops can be read", err) {
		return
	}
	// What a pod's own system sends unasked (router solicitations and the like) is dropped too, by no
	// policy.
	all = slices.DeleteFunc(all, func(f flow.Flow) bool {
		return f.Event.Reason != datapath.ReasonPolicyDenied && f.Event.Reason != datapath.ReasonPolicyDeny
	})
	named := 0
	seen := map[string]bool{}
	t := newTable(s.out, "  FROM", "TO", "PROTOCOL", "REASON", "RULE")
	for _, f := range slices.Backward(all) {
		rule, ok := decidedBy(f)
		if ok {
			named++
		}
		row := []string{"  " + endName(f.Source, f.Event.Src), endName(f.Dest, f.Event.Dst), protocolText(f.Event), dropText(f.Event.Reason), rule}
		if key := strings.Join(row, " "); !seen[key] && len(seen) < show {
			seen[key] = true
			t.row(row...)
		}
	}
	_ = t.flush()
	s.check(len(all) > 0, "drops by policy were recorded (%d looked at)", len(all))
	s.check(named == len(all), "each names the policy that decided (%d of %d)", named, len(all))
	for _, want := range []string{"NetworkPolicy production/backend-ingress", "CiliumNetworkPolicy production/db", "CiliumNetworkPolicy production/frontend-egress"} {
		found := slices.ContainsFunc(all, func(f flow.Flow) bool {
			rule, _ := decidedBy(f)
			return strings.Contains(rule, want)
		})
		s.check(found, "%s is among them", want)
	}
}

// decidedBy is the text of the verdict that refused a packet, and whether it names a policy.
func decidedBy(f flow.Flow) (string, bool) {
	for _, v := range []*policy.Verdict{f.Egress, f.Ingress} {
		if v != nil && !v.Allowed {
			return v.String(), v.Rule.Path != "" || len(v.Isolating) > 0
		}
	}
	return "-", false
}

// endName is an end of a flow: the pod, or the address where there is none.
func endName(e flow.Endpoint, a netip.AddrPort) string {
	name := a.Addr().String()
	if e.Pod != "" {
		name = e.Namespace + "/" + e.Pod
	}
	return name
}

func protocolText(e datapath.Event) string {
	switch e.Proto {
	case 6:
		return fmt.Sprintf("TCP %d", e.Dst.Port())
	case 17:
		return fmt.Sprintf("UDP %d", e.Dst.Port())
	case 1:
		return "ICMP"
	case 58:
		return "ICMPv6"
	}
	return fmt.Sprintf("protocol %d", e.Proto)
}

// dropText explains the two reasons that policies give.
func dropText(r datapath.Reason) string {
	if r == datapath.ReasonPolicyDeny {
		return "a rule denies it"
	}
	return "no rule allows it"
}

// restart kills every agent, with traffic on, on the same node and across, TCP and UDP.
func (s *story) restart(ctx context.Context) {
	streams := []ports.LabStream{
		{From: frontend, To: backend1, Port: backendPort, Protocols: []string{"TCP"}},
		{From: frontend, To: backend2, Port: backendPort, Protocols: []string{"TCP"}},
		{From: backend1, To: frontend, Port: frontendPort},
		{From: backend2, To: frontend, Port: frontendPort},
	}
	if err := s.lab.StartTraffic(ctx, streams); !s.worked("traffic runs", err) {
		return
	}
	for _, node := range []string{"node1", "node2"} {
		if err := s.lab.KillAgent(ctx, node); s.worked("the agent of "+node+" can be killed", err) {
			how := ""
			if s.lab.Datapath() == "ebpf" {
				how = " (kill -9)"
			}
			s.say("  the agent of %s is dead%s", node, how)
		}
	}
	s.wait(ctx)
	held, err := s.lab.Probe(ctx, ports.LabProbe{From: []cluster.Name{stranger, frontend}, To: []cluster.Name{backend1, backend2}, Protocols: []string{"TCP"}})
	s.worked("pairs can be probed without agents", err)
	right := len(held) == 4
	for _, r := range held {
		right = right && (r.Verdict == ports.LabAllowed) == (r.From == frontend.String())
	}
	s.check(right, "without agents the policies hold: the frontend reaches the backends, the stranger does not")
	for _, node := range []string{"node1", "node2"} {
		if err := s.lab.StartAgent(ctx, node); s.worked("the agent of "+node+" can be started", err) {
			s.say("  the agent of %s is back", node)
		}
	}
	s.wait(ctx)
	report, err := s.lab.StopTraffic(context.WithoutCancel(ctx))
	if !s.worked("the traffic can be counted", err) {
		return
	}
	var sent, lost, tried, broken int
	t := newTable(s.out, "  FROM", "TO", "TRAFFIC", "SENT", "LOST", "BROKEN", "LONGEST GAP")
	for _, r := range report {
		if r.Protocol == "CONNECT" {
			tried += r.Sent
		} else {
			sent += r.Sent
			lost += r.Lost
		}
		broken += r.Broken
		t.row("  "+r.From.Name, r.To.Name+" "+r.Addr.String(), trafficText(r.Protocol), fmt.Sprint(r.Sent), fmt.Sprint(r.Lost), fmt.Sprint(r.Broken), r.Gap.Round(time.Millisecond).String()+" "+r.Error)
	}
	_ = t.flush()
	s.check(sent > 0 && lost == 0, "%d of %d packets lost", lost, sent)
	s.check(tried > 0 && broken == 0, "%d of %d connections broken, or refused while the agents were away", broken, tried+len(report))
}

func trafficText(protocol string) string {
	switch protocol {
	case "CONNECT":
		return "new TCP connections"
	case "TCP":
		return "one TCP connection"
	}
	return "one UDP flow"
}

// wait lets traffic run for a while.
func (s *story) wait(ctx context.Context) {
	t := time.NewTimer(s.pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
