package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// How often a Reporter writes. What goes beyond is not written, but counted by the next Event that is.
const (
	// EventInterval is the least time between two writes about the same pod, peer, port and direction.
	EventInterval = time.Minute
	// EventEnd is after how much silence the next drop of the same kind is a new Event.
	EventEnd = 6 * time.Minute
	// PodBurst Events a pod may have at once, then one each PodInterval.
	PodBurst    = 5
	PodInterval = 30 * time.Second
	// NodeBurst Events a node's agent may write at once, then one each NodeInterval.
	NodeBurst    = 20
	NodeInterval = time.Second
	// EventKinds is how many different kinds of drops a Reporter counts at a time; those beyond are passed
	// over until others ended.
	EventKinds = 1000
	// NotReadyAfter is how long an endpoint may be without its policy in force before an Event says so.
	NotReadyAfter = 30 * time.Second
)

// Reasons of Events.
const (
	ReasonPolicyDenied     = "PolicyDenied"
	ReasonEndpointNotReady = "EndpointNotReady"
)

// Reporter writes Events on the node's pods: for packets that policy dropped, and for endpoints that can't be
// brought into force. Events of the same pod, peer identity, port and direction are one Event that counts.
type Reporter struct {
	store     *Store
	inspector ports.Inspector
	log       *slog.Logger
	now       func() time.Time

	waiting map[cluster.Name]time.Time // endpoints that aren't ready, since when; Run's alone
	wake    chan struct{}

	mu     sync.Mutex
	counts map[subject]*count
	node   *rate.Limiter
	pods   map[cluster.Name]*rate.Limiter
}

// subject is what one Event is about.
type subject struct {
	pod       cluster.Name
	reason    string
	direction datapath.Direction
	peer      identity.ID
	port      uint16
	proto     uint8
}

// count is what there is to say of a subject.
type count struct {
	subject
	note        string
	first, last time.Time
	seen        int       // since the Event began
	written     int       // of these the Event tells
	at          time.Time // of the last write
	name        string    // of the Event; empty: not made yet
}

// NewReporter makes a Reporter of what an agent sees. It does nothing before Run.
func NewReporter(s *Store, in ports.Inspector) *Reporter {
	return &Reporter{
		store: s, inspector: in, log: s.opts.Log, now: time.Now, counts: map[subject]*count{},
		node: rate.NewLimiter(rate.Every(NodeInterval), NodeBurst), pods: map[cluster.Name]*rate.Limiter{},
		waiting: map[cluster.Name]time.Time{}, wake: make(chan struct{}, 1),
	}
}

// Run reports until the context ends. An Event that can't be written is tried again with the next one of its
// kind; there is no error worth ending for.
func (r *Reporter) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { r.follow(ctx) })
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-tick.C:
			r.endpoints(ctx)
		}
		r.write(ctx)
	}
}

// follow takes in the drops.
func (r *Reporter) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.inspector.Observe(ctx, flow.Query{Follow: true, Allow: []flow.Filter{{Verdict: []string{"POLICY_DENIED"}}}},
			func(e flow.Entry) error {
				if e.Flow != nil {
					r.drop(e.Flow)
				}
				return ctx.Err()
			})
		if err != nil && ctx.Err() == nil {
			r.log.Warn("follow the drops for Events", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// drop counts a packet that policy dropped. Of the two ends it is the one whose policy decided that matters.
func (r *Reporter) drop(f *flow.Flow) {
	e := f.Event
	pod, peer, verdict, peerAddr := f.Dest, f.Source, f.Ingress, e.Src
	if e.Direction == datapath.Egress {
		pod, peer, verdict, peerAddr = f.Source, f.Dest, f.Egress, e.Dst
	}
	if pod.Pod == "" || pod.ID == 0 {
		return
	}
	k := subject{
		pod: cluster.Name{Namespace: pod.Namespace, Name: pod.Pod}, reason: ReasonPolicyDenied,
		direction: e.Direction, peer: peer.Identity, port: e.Dst.Port(), proto: e.Proto,
	}
	from := "from"
	if e.Direction == datapath.Egress {
		from = "to"
	}
	name := peerAddr.Addr().String()
	switch {
	case peer.Pod != "":
		name = fmt.Sprintf("pod %s/%s (%s)", peer.Namespace, peer.Pod, name)
	case peer.Identity.IsReserved():
		name = fmt.Sprintf("%s (%s)", peer.Identity, name)
	}
	to := datapath.ProtoName(e.Proto)
	if e.Dst.Port() != 0 {
		to = fmt.Sprintf("port %d/%s", e.Dst.Port(), to)
	}
	r.count(k, fmt.Sprintf("%s %s %s, %s: denied by %s", strings.ToLower(flow.DirectionName(e.Direction)), from, name, to, decider(verdict)), e.Time)
}

func decider(v *policy.Verdict) string {
	if v == nil {
		return "policy"
	}
	return v.String()
}

// count notes that something happened.
func (r *Reporter) count(k subject, note string, at time.Time) {
	if at.IsZero() {
		at = r.now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.counts[k]
	if !ok {
		if len(r.counts) >= EventKinds {
			return
		}
		c = &count{subject: k, first: at}
		r.counts[k] = c
	}
	c.note, c.last = note, at
	c.seen++
	if !ok {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// endpoints looks for endpoints that don't become ready.
func (r *Reporter) endpoints(ctx context.Context) {
	all, err := r.inspector.Endpoints(ctx)
	if err != nil {
		return
	}
	now := r.now()
	late := r.late(all, now)
	if len(late) == 0 {
		return
	}
	why := ""
	if status, err := r.inspector.Status(ctx); err == nil && len(status.Problems) > 0 {
		why = "; the agent says: " + strings.Join(status.Problems[:min(3, len(status.Problems))], "; ")
	}
	for _, e := range late {
		r.count(subject{pod: e.Pod, reason: ReasonEndpointNotReady},
			fmt.Sprintf("the policy of this pod's network is not in force on node %s (state %s)%s", r.store.opts.Node, e.State, why), now)
	}
}

// late picks the endpoints that have not been ready for too long.
func (r *Reporter) late(all []ports.EndpointInfo, now time.Time) []ports.EndpointInfo {
	still := map[cluster.Name]time.Time{}
	var out []ports.EndpointInfo
	for _, e := range all {
		if e.State == "ready" || e.State == "creating" { // the latter waits for the plugin, not for us
			continue
		}
		since, ok := r.waiting[e.Pod]
		if !ok {
			since = now
		}
		still[e.Pod] = since
		if now.Sub(since) >= NotReadyAfter {
			out = append(out, e)
		}
	}
	r.waiting = still
	return out
}

// due picks what may be written now, and forgets what ended.
func (r *Reporter) due() []count {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []count
	podsWithCounts := map[cluster.Name]bool{}
	for k, c := range r.counts {
		switch quiet := now.Sub(c.last); {
		case quiet > EventEnd && c.seen == c.written, quiet > 2*EventEnd:
			delete(r.counts, k)
			continue
		case c.seen == c.written:
		case c.name != "" && now.Sub(c.at) < EventInterval:
		case !r.allowed(c, now):
		default:
			c.at = now // also if the write fails
			out = append(out, *c)
		}
		podsWithCounts[k.pod] = true
	}
	for pod := range r.pods {
		if !podsWithCounts[pod] {
			delete(r.pods, pod)
		}
	}
	return out
}

// allowed takes a token of the pod's and one of the node's, or none.
func (r *Reporter) allowed(c *count, now time.Time) bool {
	pod := r.pods[c.pod]
	if pod == nil {
		pod = rate.NewLimiter(rate.Every(PodInterval), PodBurst)
		r.pods[c.pod] = pod
	}
	if pod.TokensAt(now) < 1 || r.node.TokensAt(now) < 1 {
		return false
	}
	return pod.AllowN(now, 1) && r.node.AllowN(now, 1)
}

// write makes or counts on the Events that are due.
func (r *Reporter) write(ctx context.Context) {
	for _, c := range r.due() {
		name, err := r.store.writeEvent(ctx, c)
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("write Event", "pod", c.pod, "reason", c.reason, "err", err)
			}
			continue
		}
		r.mu.Lock()
		if now := r.counts[c.subject]; now != nil {
			now.name, now.written = name, c.seen
		}
		r.mu.Unlock()
	}
}

// podUID returns the UID of a pod of this node; empty if it isn't known.
func (s *Store) podUID(name cluster.Name) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, _ := s.assembler.Get(manifest.Key{Kind: manifest.KindPod, Namespace: name.Namespace, Name: name.Name})
	for _, e := range o.Upserts() {
		if up, ok := e.(cluster.PodUpsert); ok {
			return up.Pod.UID
		}
	}
	return ""
}
