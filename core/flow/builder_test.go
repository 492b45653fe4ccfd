package flow_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// directory is a Lookup over maps.
type directory struct {
	addrs  map[string]flow.AddressInfo
	ids    map[identity.ID][]string
	rules  map[datapath.Cookie]policy.Verdict
	fronts map[string]flow.Service
}

func (d directory) Address(a netip.Addr) (flow.AddressInfo, bool) {
	i, ok := d.addrs[a.String()]
	return i, ok
}
func (d directory) Identity(id identity.ID) ([]string, bool) { l, ok := d.ids[id]; return l, ok }
func (d directory) Rule(c datapath.Cookie) (policy.Verdict, bool) {
	v, ok := d.rules[c]
	return v, ok
}
func (d directory) Frontend(a netip.AddrPort, _ uint8) (flow.Service, bool) {
	s, ok := d.fronts[a.String()]
	return s, ok
}

var (
	ingressPolicy = policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "backend-ingress"}
	egressRule    = policy.RuleRef{Policy: policy.Ref{Kind: "CiliumNetworkPolicy", Namespace: "shop", Name: "frontend"}, Direction: datapath.Egress, Path: "egress[1]"}
	shop          = directory{
		addrs: map[string]flow.AddressInfo{
			"10.0.1.5": {Identity: 300, Namespace: "shop", Pod: "frontend-1"},
			"10.0.2.7": {Identity: 301, Namespace: "shop", Pod: "backend-2", Labels: []string{"k8s:app=backend"}},
		},
		ids: map[identity.ID][]string{300: {"k8s:app=frontend"}, 9: {"reserved:world", "reserved:world-ipv4"}},
		rules: map[datapath.Cookie]policy.Verdict{
			5: {Allowed: true, Rule: egressRule},
			6: {Allowed: false, Isolating: []policy.Ref{ingressPolicy}},
		},
		fronts: map[string]flow.Service{"10.96.0.9:80": {Namespace: "shop", Name: "backend"}},
	}
)

func event() datapath.Event {
	return datapath.Event{
		Type: datapath.EventDrop, Reason: datapath.ReasonPolicyDenied, Point: datapath.PointFromEndpoint, Direction: datapath.Ingress,
		Time: at(1), Src: netip.MustParseAddrPort("10.0.1.5:40000"), Dst: netip.MustParseAddrPort("10.0.2.7:8080"),
		Proto: datapath.ProtoTCP, TCPFlags: datapath.TCPSyn, SrcIdentity: 300, DstIdentity: 301, SrcEndpoint: 11, DstEndpoint: 12,
		EgressCookie: 5, IngressCookie: 6, EgressJudged: true, IngressJudged: true, Ifindex: 7, Length: 60,
	}
}

func TestBuildADrop(t *testing.T) {
	f := flow.NewBuilder("n1", 1, shop).Build(event())
	require.Equal(t, flow.VerdictDropped, f.Verdict)
	require.Equal(t, flow.Endpoint{ID: 11, Identity: 300, Namespace: "shop", Pod: "frontend-1", Labels: []string{"k8s:app=frontend"}}, f.Source)
	require.Equal(t, flow.Endpoint{ID: 12, Identity: 301, Namespace: "shop", Pod: "backend-2", Labels: []string{"k8s:app=backend"}}, f.Dest)
	require.Equal(t, &policy.Verdict{Allowed: true, Rule: egressRule}, f.Egress)
	require.Equal(t, &policy.Verdict{Isolating: []policy.Ref{ingressPolicy}}, f.Ingress)
	require.Equal(t, at(1), f.Time)
	require.Equal(t, "n1", f.Node)
}

// An API server outside the cluster has a number of this node's; flows show the one that people know.
func TestBuildShowsAPIServersByTheirReservedNumber(t *testing.T) {
	d := shop
	d.ids = map[identity.ID][]string{
		identity.MinLocal:     {"cidr:192.0.2.7/32", "reserved:kube-apiserver", "reserved:world", "reserved:world-ipv4"},
		identity.MinLocal + 1: {"cidr:192.0.2.0/24", "reserved:world", "reserved:world-ipv4"},
		identity.Host:         {"reserved:host", "reserved:kube-apiserver"},
		300:                   {"k8s:app=x", "reserved:kube-apiserver"},
	}
	for id, want := range map[identity.ID]identity.ID{
		identity.MinLocal: identity.KubeAPIServer, identity.MinLocal + 1: identity.MinLocal + 1, identity.Host: identity.Host, 300: 300,
	} {
		e := event()
		e.Dst, e.DstIdentity, e.SrcIdentity = netip.MustParseAddrPort("192.0.2.7:6443"), id, id
		f := flow.NewBuilder("n1", 1, d).Build(e)
		require.Equal(t, want, f.Dest.Identity)
		require.Equal(t, want, f.Source.Identity)
		require.Equal(t, d.ids[id], f.Dest.Labels, "they say all that it is")
	}
}

func TestBuildSaysWhoRefused(t *testing.T) {
	e := event()
	e.Direction, e.EgressCookie, e.IngressJudged = datapath.Egress, 6, false
	f := flow.NewBuilder("n1", 1, shop).Build(e)
	require.False(t, f.Egress.Allowed)
	require.Nil(t, f.Ingress, "ingress was not judged")

	e = event()
	e.Reason = datapath.ReasonInvalidSource // no policy had a part in it
	e.EgressJudged, e.IngressJudged = false, false
	f = flow.NewBuilder("n1", 1, shop).Build(e)
	require.Equal(t, flow.VerdictDropped, f.Verdict)
	require.Nil(t, f.Egress)
	require.Nil(t, f.Ingress)
}

func TestBuildWithoutPolicy(t *testing.T) {
	e := event()
	e.Type, e.Reason, e.EgressCookie, e.IngressCookie = datapath.EventNew, 0, 0, 99
	f := flow.NewBuilder("n1", 1, shop).Build(e)
	require.Equal(t, flow.VerdictForwarded, f.Verdict)
	require.Equal(t, &policy.Verdict{Allowed: true}, f.Egress)
	require.Equal(t, "no policy", f.Egress.String())
	require.Nil(t, f.Ingress, "the rule is no longer known, so nothing is claimed")
}

func TestBuildKnowsServicesAndTheOutside(t *testing.T) {
	e := event()
	e.Src, e.SrcIdentity, e.SrcEndpoint = netip.MustParseAddrPort("203.0.113.1:5"), identity.WorldIPv4, 0
	e.Dst = netip.MustParseAddrPort("10.96.0.9:80")
	f := flow.NewBuilder("n1", 1, shop).Build(e)
	require.Equal(t, []string{"reserved:world", "reserved:world-ipv4"}, f.Source.Labels)
	require.Empty(t, f.Source.Pod)
	require.Equal(t, &flow.Service{Namespace: "shop", Name: "backend"}, f.DestSvc)
	require.Nil(t, f.SourceSvc)
}

func TestTheEventsIdentityCounts(t *testing.T) {
	e := event()
	e.DstIdentity = 999 // the address was another pod's when the packet was judged
	f := flow.NewBuilder("n1", 1, shop).Build(e)
	require.Equal(t, identity.ID(999), f.Dest.Identity)
	require.Empty(t, f.Dest.Labels, "labels of another identity would mislead")
}

func TestUUIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range []*flow.Builder{flow.NewBuilder("n1", 1, shop), flow.NewBuilder("n1", 2, shop), flow.NewBuilder("n2", 1, shop)} {
		for range 3 {
			id := b.Build(event()).UUID
			require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
			require.False(t, seen[id], id)
			seen[id] = true
		}
	}
}
