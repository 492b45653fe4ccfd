package kubernetes

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

// inspector shows flows and endpoints that a test makes up.
type inspector struct {
	ports.Inspector // nil: what isn't asked for
	flows           chan *flow.Flow
	query           chan flow.Query

	mu        sync.Mutex
	endpoints []ports.EndpointInfo
}

func newInspector() *inspector {
	return &inspector{flows: make(chan *flow.Flow, 100), query: make(chan flow.Query, 10)}
}

func (i *inspector) Observe(ctx context.Context, q flow.Query, deliver func(flow.Entry) error) error {
	i.query <- q
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-i.flows:
			if err := deliver(flow.Entry{Flow: f}); err != nil {
				return err
			}
		}
	}
}

func (i *inspector) Endpoints(context.Context) ([]ports.EndpointInfo, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.endpoints, nil
}

func (i *inspector) Status(context.Context) (ports.Status, error) {
	return ports.Status{Problems: []string{"table policy: no space"}}, nil
}

// dropped is a packet to the pod shop/web that policy dropped.
func dropped(peer identity.ID, port uint16) *flow.Flow {
	return &flow.Flow{
		Time: time.Now(), Verdict: flow.VerdictDropped,
		Event: datapath.Event{Type: datapath.EventDrop, Reason: datapath.ReasonPolicyDenied, Direction: datapath.Ingress, Proto: 6,
			Src: netip.MustParseAddrPort("10.0.1.9:40000"), Dst: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.5"), port)},
		Source:  flow.Endpoint{Identity: peer, Namespace: "shop", Pod: "front"},
		Dest:    flow.Endpoint{ID: 7, Identity: 300, Namespace: "shop", Pod: "web"},
		Ingress: &policy.Verdict{Isolating: []policy.Ref{{Kind: "NetworkPolicy", Namespace: "shop", Name: "q"}}},
	}
}

func (a *api) events() (out []eventsv1.Event) {
	a.t.Helper()
	var list eventsv1.EventList
	require.NoError(a.t, json.Unmarshal(a.do("GET", pathOf("Event", "shop", ""), "", nil), &list))
	return list.Items
}

func TestDropsBecomeEvents(t *testing.T) {
	a := server(t)
	a.apply(podWeb)
	s := a.open(Options{Node: "n1"})
	w := porttest.WatchSource(t, s)
	w.Eventually(t, "Synced", synced)
	in := newInspector()
	r := NewReporter(s, in)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	q := <-in.query
	assert.True(t, q.Follow)
	match, err := flow.CompileQuery(q)
	require.NoError(t, err)
	assert.True(t, match(dropped(301, 80)))
	assert.False(t, match(&flow.Flow{Verdict: flow.VerdictForwarded}))
	in.flows <- dropped(301, 80)
	eventually(t, "an Event", func() bool { return len(a.events()) == 1 })
	e := a.events()[0]
	assert.Equal(t, ReasonPolicyDenied, e.Reason)
	assert.Equal(t, "Warning", e.Type)
	assert.Equal(t, "web", e.Regarding.Name)
	assert.NotEmpty(t, e.Regarding.UID)
	assert.Equal(t, "n1", e.ReportingInstance)
	assert.Equal(t, "ingress from pod shop/front (10.0.1.9), port 80/TCP: denied by default deny (NetworkPolicy shop/q)", e.Note)
	assert.Nil(t, e.Series)
	for range 50 {
		in.flows <- dropped(301, 80)
	}
	foreign := dropped(301, 81)
	foreign.Dest.ID = 0 // of another node's pod
	in.flows <- foreign
	in.flows <- dropped(302, 80)
	eventually(t, "an Event of another peer", func() bool { return len(a.events()) == 2 })
	cancel()
	<-done
	assert.Len(t, a.events(), 2)
}

// A thousand drops of one kind are one Event that counts, a thousand kinds are few Events.
func TestEventsAreFew(t *testing.T) {
	a := server(t)
	a.apply(podWeb)
	s := a.open(Options{Node: "n1"})
	porttest.WatchSource(t, s).Eventually(t, "Synced", synced)
	r := NewReporter(s, newInspector())
	now := time.Now()
	r.now = func() time.Time { return now }
	step := func(d time.Duration, fs ...*flow.Flow) {
		now = now.Add(d)
		for _, f := range fs {
			f.Time = now
			r.drop(f)
		}
		r.write(t.Context())
	}
	for range 100 {
		step(time.Second, dropped(301, 80))
	}
	list := a.events()
	require.Len(t, list, 1)
	require.NotNil(t, list[0].Series)
	assert.Equal(t, int32(61), list[0].Series.Count, "counted on after a minute")

	for p := range uint16(1000) {
		step(time.Millisecond, dropped(301, 1000+p))
	}
	assert.Len(t, a.events(), PodBurst+1, "the pod's share")
	assert.Len(t, r.counts, EventKinds)
	step(3 * EventEnd)
	assert.Empty(t, r.counts, "kinds end")
	assert.Empty(t, r.pods)
	before := len(a.events())
	step(time.Second, dropped(301, 80))
	assert.Len(t, a.events(), before+1, "then it is a new Event")
}

func TestEventGoneIsMadeAnew(t *testing.T) {
	a := server(t)
	a.apply(podWeb)
	s := a.open(Options{Node: "n1"})
	porttest.WatchSource(t, s).Eventually(t, "Synced", synced)
	r := NewReporter(s, newInspector())
	now := time.Now()
	r.now = func() time.Time { return now }
	r.drop(dropped(301, 80))
	r.write(t.Context())
	require.Len(t, a.events(), 1)
	a.remove("Event", "shop", a.events()[0].Name)
	r.drop(dropped(301, 80))
	now = now.Add(2 * EventInterval)
	r.write(t.Context())
	require.Len(t, a.events(), 1)
	assert.Equal(t, int32(2), a.events()[0].Series.Count)
}

func TestEndpointThatIsNotReady(t *testing.T) {
	a := server(t)
	a.apply(podWeb)
	s := a.open(Options{Node: "n1"})
	porttest.WatchSource(t, s).Eventually(t, "Synced", synced)
	in := newInspector()
	r := NewReporter(s, in)
	now := time.Now()
	r.now = func() time.Time { return now }
	web := ports.EndpointInfo{Attachment: ports.Attachment{Pod: cluster.Name{Namespace: "shop", Name: "web"}}, State: "not-ready"}
	in.endpoints = []ports.EndpointInfo{web}
	look := func() int {
		r.endpoints(t.Context())
		r.write(t.Context())
		return len(a.events())
	}
	assert.Zero(t, look())
	now = now.Add(NotReadyAfter - time.Second)
	assert.Zero(t, look())
	in.endpoints[0].State = "ready"
	assert.Zero(t, look())
	in.endpoints[0].State = "not-ready"
	assert.Zero(t, look())
	now = now.Add(NotReadyAfter)
	require.Equal(t, 1, look())
	e := a.events()[0]
	assert.Equal(t, ReasonEndpointNotReady, e.Reason)
	assert.Contains(t, e.Note, "table policy: no space")
}

func TestEgressNote(t *testing.T) {
	r := NewReporter(&Store{opts: Options{Node: "n1"}}, nil)
	f := dropped(301, 443)
	f.Source, f.Dest = flow.Endpoint{ID: 7, Namespace: "shop", Pod: "web"}, flow.Endpoint{Identity: identity.World}
	f.Event.Direction, f.Event.Dst = datapath.Egress, netip.MustParseAddrPort("192.0.2.1:443")
	r.drop(f)
	require.Len(t, r.counts, 1)
	for k, c := range r.counts {
		assert.Equal(t, "egress to world (192.0.2.1), port 443/TCP: denied by policy", c.note)
		assert.Equal(t, cluster.Name{Namespace: "shop", Name: "web"}, k.pod)
	}
}

func TestEventNames(t *testing.T) {
	long := ""
	for len(long) < 253 {
		long += "a."
	}
	name := eventName(count{subject: subject{pod: cluster.Name{Name: long[:253]}}})
	assert.LessOrEqual(t, len(name), 253)
	assert.NotContains(t, name, "..")
	assert.Equal(t, "é…", clip("ééé", 5))
	assert.Equal(t, "abc", clip("abc", 3))
}
