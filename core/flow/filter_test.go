package flow_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
)

func at(seconds int) time.Time { return time.Date(2024, 5, 1, 12, 0, seconds, 0, time.UTC) }

// sample is a TCP connection from shop/frontend-1 to shop/backend-2, port 8080, forwarded.
func sample(change ...func(*flow.Flow)) *flow.Flow {
	f := &flow.Flow{
		Time: at(1), UUID: "u", Node: "n1", Verdict: flow.VerdictForwarded,
		Source:  flow.Endpoint{ID: 11, Identity: 300, Namespace: "shop", Pod: "frontend-1", Labels: []string{"k8s:app=frontend", "k8s:io.kubernetes.pod.namespace=shop"}},
		Dest:    flow.Endpoint{ID: 12, Identity: 301, Namespace: "shop", Pod: "backend-2", Labels: []string{"k8s:app=backend", "k8s:tier=b"}},
		DestSvc: &flow.Service{Namespace: "shop", Name: "backend"},
		Event: datapath.Event{
			Type: datapath.EventNew, Point: datapath.PointToEndpoint, Direction: datapath.Ingress, Proto: datapath.ProtoTCP,
			TCPFlags: datapath.TCPSyn, Src: netip.MustParseAddrPort("10.0.1.5:40000"), Dst: netip.MustParseAddrPort("10.0.2.7:8080"),
			SrcIdentity: 300, DstIdentity: 301, SrcEndpoint: 11, DstEndpoint: 12,
		},
	}
	for _, c := range change {
		c(f)
	}
	return f
}

func dropped(r datapath.Reason) func(*flow.Flow) {
	return func(f *flow.Flow) {
		f.Verdict, f.Event.Type, f.Event.Reason = flow.VerdictDropped, datapath.EventDrop, r
	}
}

func proto(p uint8) func(*flow.Flow) { return func(f *flow.Flow) { f.Event.Proto = p } }

func TestFilters(t *testing.T) {
	world := func(f *flow.Flow) {
		f.Source = flow.Endpoint{Identity: identity.WorldIPv4, Labels: []string{"reserved:world", "reserved:world-ipv4"}}
		f.Event.Src = netip.MustParseAddrPort("203.0.113.9:1000")
	}
	v6 := func(f *flow.Flow) {
		f.Event.Src, f.Event.Dst = netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:8080")
	}
	for _, c := range []struct {
		name   string
		filter flow.Filter
		flow   *flow.Flow
		want   bool
	}{
		{"empty", flow.Filter{}, sample(), true},

		{"pod prefix", flow.Filter{SourcePod: []string{"shop/front"}}, sample(), true},
		{"pod of the other end", flow.Filter{DestPod: []string{"shop/front"}}, sample(), false},
		{"pod, other namespace", flow.Filter{SourcePod: []string{"default/front"}}, sample(), false},
		{"pod, no namespace is default", flow.Filter{SourcePod: []string{"front"}}, sample(), false},
		{"pod, no namespace is default, and it is", flow.Filter{SourcePod: []string{"front"}}, sample(func(f *flow.Flow) { f.Source.Namespace = "default" }), true},
		{"all pods of a namespace", flow.Filter{SourcePod: []string{"shop/"}}, sample(), true},
		{"one of two pods", flow.Filter{SourcePod: []string{"a/b", "shop/frontend-1"}}, sample(), true},
		{"fields are joined by and", flow.Filter{SourcePod: []string{"shop/front"}, DestPort: []string{"1"}}, sample(), false},
		{"no pod there", flow.Filter{SourcePod: []string{"shop/"}}, sample(world), false},

		{"namespace", flow.Filter{DestNamespace: []string{"shop"}}, sample(), true},
		{"namespace is no prefix", flow.Filter{DestNamespace: []string{"sho"}}, sample(), false},

		{"service", flow.Filter{DestService: []string{"shop/back"}}, sample(), true},
		{"no service", flow.Filter{SourceService: []string{"shop/"}}, sample(), false},

		{"label", flow.Filter{SourceLabel: []string{"app=frontend"}}, sample(), true},
		{"label with source", flow.Filter{SourceLabel: []string{"k8s:app==frontend"}}, sample(), true},
		{"label with wrong source", flow.Filter{SourceLabel: []string{"cidr:app=frontend"}}, sample(), false},
		{"label list", flow.Filter{DestLabel: []string{"app in (x, backend),tier,!debug"}}, sample(), true},
		{"label, one requirement fails", flow.Filter{DestLabel: []string{"app=backend,tier=c"}}, sample(), false},
		{"label unequal", flow.Filter{DestLabel: []string{"app!=backend"}}, sample(), false},
		{"label notin", flow.Filter{DestLabel: []string{"app notin (a,b)"}}, sample(), true},
		{"reserved label", flow.Filter{SourceLabel: []string{"reserved:world"}}, sample(world), true},

		{"ip", flow.Filter{SourceIP: []string{"10.0.1.5"}}, sample(), true},
		{"ip, other", flow.Filter{SourceIP: []string{"10.0.1.6"}}, sample(), false},
		{"prefix", flow.Filter{DestIP: []string{"10.0.2.9/24"}}, sample(), true},
		{"mapped address", flow.Filter{DestIP: []string{"::ffff:10.0.2.7"}}, sample(), true},
		{"prefix of the other family", flow.Filter{SourceIP: []string{"10.0.0.0/8"}}, sample(v6), false},

		{"port", flow.Filter{DestPort: []string{"8080"}}, sample(), true},
		{"source port", flow.Filter{SourcePort: []string{"40000"}}, sample(), true},
		{"a message type is no port", flow.Filter{DestPort: []string{"8080"}}, sample(proto(datapath.ProtoICMP)), false},

		{"identity", flow.Filter{SourceIdentity: []uint32{1, 300}}, sample(), true},
		{"other identity", flow.Filter{DestIdentity: []uint32{300}}, sample(), false},

		{"tcp", flow.Filter{Protocol: []string{"tcp"}}, sample(), true},
		{"udp", flow.Filter{Protocol: []string{"udp"}}, sample(), false},
		{"icmp has two families", flow.Filter{Protocol: []string{"icmp"}}, sample(proto(datapath.ProtoICMPv6)), true},
		{"icmpv4 is one", flow.Filter{Protocol: []string{"icmpv4"}}, sample(proto(datapath.ProtoICMPv6)), false},
		{"sctp", flow.Filter{Protocol: []string{"udp", "sctp"}}, sample(proto(datapath.ProtoSCTP)), true},

		{"verdict", flow.Filter{Verdict: []string{"FORWARDED"}}, sample(), true},
		{"other verdict", flow.Filter{Verdict: []string{"DROPPED"}}, sample(), false},
		{"policy denied: by default", flow.Filter{Verdict: []string{"POLICY_DENIED"}}, sample(dropped(133)), true},
		{"policy denied: by a deny rule", flow.Filter{Verdict: []string{"POLICY_DENIED"}}, sample(dropped(181)), true},
		{"policy denied: for another reason", flow.Filter{Verdict: []string{"POLICY_DENIED"}}, sample(dropped(132)), false},

		{"reason", flow.Filter{DropReason: []string{"INVALID_SOURCE_IP"}}, sample(dropped(132)), true},
		{"other reason", flow.Filter{DropReason: []string{"POLICY_DENY"}}, sample(dropped(132)), false},
		{"no reason", flow.Filter{DropReason: []string{"DROP_REASON_UNKNOWN"}}, sample(), false},

		{"direction", flow.Filter{Direction: []string{"ingress"}}, sample(), true},
		{"other direction", flow.Filter{Direction: []string{"egress"}}, sample(), false},
		{"version 4", flow.Filter{IPVersion: []int{4}}, sample(), true},
		{"version 6", flow.Filter{IPVersion: []int{6}}, sample(v6), true},
		{"not version 6", flow.Filter{IPVersion: []int{6}}, sample(), false},

		{"node", flow.Filter{Node: []string{"n1"}}, sample(), true},
		{"node pattern", flow.Filter{Node: []string{"n*"}}, sample(), true},
		{"node is no prefix", flow.Filter{Node: []string{"n"}}, sample(), false},
		{"node of the default cluster", flow.Filter{Node: []string{"default/n1"}}, sample(), true},
		{"node of another cluster", flow.Filter{Node: []string{"east/n1"}}, sample(), false},
		{"every node of a cluster", flow.Filter{Node: []string{"east/"}}, sample(func(f *flow.Flow) { f.Node = "east/n7" }), true},
		{"star in the middle", flow.Filter{Node: []string{"ea*st/w*r*7"}}, sample(func(f *flow.Flow) { f.Node = "east/worker-17" }), true},
		{"overlapping star", flow.Filter{Node: []string{"ab*ba"}}, sample(func(f *flow.Flow) { f.Node = "aba" }), false},

		{"reply", flow.Filter{Reply: []bool{true}}, sample(), false},
		{"no reply", flow.Filter{Reply: []bool{false}}, sample(), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			match, err := flow.Compile(c.filter)
			require.NoError(t, err)
			require.Equal(t, c.want, match(c.flow))
		})
	}
}

func TestFilterErrorsNameFieldAndChoice(t *testing.T) {
	for _, c := range []struct {
		filter       flow.Filter
		field, value string
		allowed      string
	}{
		{flow.Filter{Verdict: []string{"dropped"}}, "verdict", "dropped", "DROPPED"},
		{flow.Filter{Verdict: []string{"VERDICT_UNKNOWN"}}, "verdict", "VERDICT_UNKNOWN", "POLICY_DENIED"},
		{flow.Filter{Protocol: []string{"http"}}, "protocol", "http", "sctp"},
		{flow.Filter{SourcePort: []string{"65536"}}, "port", "65536", "65535"},
		{flow.Filter{DestPort: []string{"http"}}, "port", "http", "65535"},
		{flow.Filter{DestIP: []string{"10.0.0"}}, "ip", "10.0.0", "address"},
		{flow.Filter{SourceIP: []string{"10.0.0.0/33"}}, "ip", "10.0.0.0/33", "prefix"},
		{flow.Filter{SourcePod: []string{"a/b/c"}}, "pod", "a/b/c", "NAMESPACE/PREFIX"},
		{flow.Filter{SourcePod: []string{""}}, "pod", "", "PREFIX"},
		{flow.Filter{DestNamespace: []string{"a/"}}, "namespace", "a/", "name"},
		{flow.Filter{DestService: []string{"/x"}}, "service", "/x", "NAMESPACE/"},
		{flow.Filter{SourceLabel: []string{"a in b"}}, "label", "a in b", "key in (a,b)"},
		{flow.Filter{SourceLabel: []string{"a in ()x"}}, "label", "a in ()x", "key=value"},
		{flow.Filter{SourceLabel: []string{"a,,b"}}, "label", "a,,b", "commas"},
		{flow.Filter{SourceLabel: []string{"a~b c"}}, "label", "a~b c", "key"},
		{flow.Filter{Direction: []string{"both"}}, "traffic-direction", "both", "ingress"},
		{flow.Filter{DropReason: []string{"Policy denied"}}, "drop-reason-desc", "Policy denied", "POLICY_DENIED"},
		{flow.Filter{IPVersion: []int{5}}, "ip-version", "5", "4"},
		{flow.Filter{Node: []string{"a/b/c"}}, "node-name", "a/b/c", "CLUSTER/NODE"},
	} {
		_, err := flow.Compile(c.filter)
		var bad *flow.ValueError
		require.ErrorAs(t, err, &bad, "%+v", c.filter)
		require.Equal(t, c.field, bad.Field)
		require.Equal(t, c.value, bad.Value)
		require.ErrorContains(t, err, c.allowed)
	}
}

func TestIdentityNames(t *testing.T) {
	for _, f := range flow.Fields() {
		if f.Name != "identity" {
			continue
		}
		var got flow.Filter
		require.NoError(t, f.Add(&got, flow.Dest, "world"))
		require.NoError(t, f.Add(&got, flow.Source, "reserved:host"))
		require.NoError(t, f.Add(&got, flow.Source, "1234"))
		require.Equal(t, flow.Filter{SourceIdentity: []uint32{1, 1234}, DestIdentity: []uint32{2, 9, 10}}, got)
		require.ErrorContains(t, f.Add(&got, flow.Source, "hosts"), "remote-node")
		return
	}
	t.Fatal("no filter named identity")
}

// The table covers the struct: every part of Filter can be filled through a field, on either side of
// the flow, and every field has what a flag needs.
func TestFieldsCoverTheFilter(t *testing.T) {
	values := map[string]string{"identity": "1", "reply": "true", "ip-version": "4"}
	names, shorts := map[string]bool{}, map[string]bool{}
	var all flow.Filter
	for _, f := range flow.Fields() {
		require.NotEmpty(t, f.Help, f.Name)
		require.NotEmpty(t, f.Arg, f.Name)
		require.False(t, names[f.Name], "two filters named %s", f.Name)
		names[f.Name] = true
		if f.Short != "" {
			require.False(t, shorts[f.Short], "two filters for -%s", f.Short)
			shorts[f.Short] = true
		}
		for _, v := range f.Values {
			var one flow.Filter
			require.NoError(t, f.Add(&one, flow.Source, v))
			_, err := flow.Compile(one)
			require.NoError(t, err, "%s allows %s", f.Name, v)
		}
		v, ok := values[f.Name]
		if !ok {
			v = "x"
		}
		before := all
		require.NoError(t, f.Add(&all, flow.Source, v))
		require.NotEqual(t, before, all, "%s fills nothing", f.Name)
		if f.Sided {
			require.NoError(t, f.Add(&all, flow.Dest, v))
		}
	}
	filled := reflect.ValueOf(all)
	for i := range filled.NumField() {
		require.NotZero(t, filled.Field(i).Len(), "no filter fills Filter.%s", filled.Type().Field(i).Name)
	}
}

func TestQueriesThatContradictThemselves(t *testing.T) {
	for _, c := range []struct {
		q    flow.Query
		a, b string
	}{
		{flow.Query{First: 1, Last: 1}, "first", "last"},
		{flow.Query{First: 1, Follow: true}, "first", "follow"},
		{flow.Query{All: true, Last: 1}, "all", "last"},
		{flow.Query{All: true, First: 1}, "all", "first"},
		{flow.Query{All: true, Since: at(1)}, "all", "since"},
		{flow.Query{Since: at(2), Until: at(1)}, "since", "until"},
	} {
		_, err := flow.CompileQuery(c.q)
		require.ErrorContains(t, err, c.a)
		require.ErrorContains(t, err, c.b)
	}
}

func TestEveryReasonOfTheDatapathHasAName(t *testing.T) {
	for _, r := range []datapath.Reason{132, 133, 134, 135, 139, 147, 150, 155, 156, 160, 172, 175, 176, 181, 182, 203} {
		require.NotEqual(t, "DROP_REASON_UNKNOWN", flow.ReasonName(r), "reason %d", r)
		back, err := flow.ParseReason(flow.ReasonName(r))
		require.NoError(t, err)
		require.Equal(t, r, back)
	}
	require.Equal(t, "Policy denied", flow.ReasonText(datapath.ReasonPolicyDenied))
	require.Equal(t, "Policy denied by denylist", flow.ReasonText(datapath.ReasonPolicyDeny))
	require.Equal(t, "Reason 17", flow.ReasonText(17))
	all := flow.DropReasons()
	seen := map[string]bool{}
	for i, d := range all {
		require.False(t, seen[d.Name], d.Name)
		seen[d.Name] = true
		require.True(t, i == 0 || all[i-1].Number < d.Number)
	}
}
