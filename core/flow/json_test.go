package flow_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

func TestDropInHubblesJSON(t *testing.T) {
	e := event()
	e.Time = time.Date(2024, 5, 1, 14, 0, 0, 123456789, time.FixedZone("", 7200))
	f := flow.NewBuilder("n1", 1, shop).Build(e)
	f.UUID = "u-1"
	got, err := json.MarshalIndent(flow.Entry{Flow: f}, "", "  ")
	require.NoError(t, err)
	require.JSONEq(t, `{
  "flow": {
    "time": "2024-05-01T12:00:00.123456789Z",
    "uuid": "u-1",
    "verdict": "DROPPED",
    "drop_reason": 133,
    "IP": {"source": "10.0.1.5", "destination": "10.0.2.7", "ipVersion": "IPv4"},
    "l4": {"TCP": {"source_port": 40000, "destination_port": 8080, "flags": {"SYN": true}}},
    "source": {"ID": 11, "identity": 300, "namespace": "shop", "labels": ["k8s:app=frontend"], "pod_name": "frontend-1"},
    "destination": {"ID": 12, "identity": 301, "namespace": "shop", "labels": ["k8s:app=backend"], "pod_name": "backend-2"},
    "Type": "L3_L4",
    "node_name": "n1",
    "event_type": {"type": 1, "sub_type": 133},
    "traffic_direction": "INGRESS",
    "trace_observation_point": "FROM_ENDPOINT",
    "drop_reason_desc": "POLICY_DENIED",
    "interface": {"index": 7},
    "egress_allowed_by": [{"name": "frontend", "namespace": "shop", "kind": "CiliumNetworkPolicy", "labels": ["weir:rule=egress[1]"]}],
    "ingress_denied_by": [{"name": "backend-ingress", "namespace": "shop", "kind": "NetworkPolicy"}],
    "Summary": "TCP Flags: SYN"
  },
  "node_name": "n1",
  "time": "2024-05-01T12:00:00.123456789Z"
}`, string(got))
}

func TestForwardedInHubblesJSON(t *testing.T) {
	e := event()
	e.Type, e.Reason, e.Point, e.Reply = datapath.EventNew, 0, datapath.PointToEndpoint, false
	e.Time = time.Date(2024, 5, 1, 14, 0, 0, 120_000_000, time.UTC)
	got, err := json.Marshal(flow.Entry{Flow: flow.NewBuilder("n1", 1, shop).Build(e)})
	require.NoError(t, err)
	var m struct {
		Flow map[string]any
		Time string
	}
	require.NoError(t, json.Unmarshal(got, &m))
	require.Equal(t, "2024-05-01T14:00:00.120Z", m.Time)
	require.Equal(t, false, m.Flow["is_reply"], "known, and false: the wrapper is there")
	require.Equal(t, map[string]any{"type": 4.0, "sub_type": 101.0}, m.Flow["event_type"])
	require.Equal(t, "NEW", m.Flow["trace_reason"])
	require.NotContains(t, m.Flow, "drop_reason")
	require.NotContains(t, m.Flow, "drop_reason_desc")
}

func TestLostInHubblesJSON(t *testing.T) {
	e := flow.Entry{Lost: &flow.Lost{Source: flow.LostRing, Count: 1 << 60, First: at(1), Last: at(2)}}
	got, err := json.Marshal(e)
	require.NoError(t, err)
	require.JSONEq(t, `{"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "1152921504606846976",
		"first": "2024-05-01T12:00:01Z", "last": "2024-05-01T12:00:02Z"}, "time": "2024-05-01T12:00:02Z"}`, string(got))
	var back flow.Entry
	require.NoError(t, json.Unmarshal(got, &back))
	require.Equal(t, e, back)
}

func TestWhatHubbleWroteCanBeRead(t *testing.T) {
	var e flow.Entry
	require.NoError(t, json.Unmarshal([]byte(`{"flow":{"time":"2024-05-01T12:00:00Z","verdict":"FORWARDED",
		"ethernet":{"source":"aa:bb:cc:dd:ee:ff"},"IP":{"source":"fd00::1","destination":"fd00::2","ipVersion":"IPv6"},
		"l4":{"UDP":{"source_port":5353,"destination_port":53}},"source":{"identity":1,"workloads":[{"name":"x"}]},
		"destination":{"namespace":"kube-system","pod_name":"dns"},"Type":"L3_L4","is_reply":true,
		"event_type":{"type":4,"sub_type":3},"trace_observation_point":"TO_STACK","traffic_direction":"EGRESS",
		"ingress_allowed_by":[{"name":"p","namespace":"a","kind":"CiliumNetworkPolicy","revision":"7"}]},
		"node_name":"east/n1"}`), &e))
	require.Equal(t, "east/n1", e.Flow.Node)
	require.Equal(t, identity.Host, e.Flow.Source.Identity)
	require.Equal(t, datapath.PointToStack, e.Flow.Event.Point)
	require.Equal(t, uint16(53), e.Flow.Event.Dst.Port())
	require.True(t, e.Flow.Event.Reply)
	require.Equal(t, "p", e.Flow.Ingress.Rule.Policy.Name)

	require.ErrorIs(t, json.Unmarshal([]byte(`{"flow":{"Type":"L7","IP":{"source":"1.1.1.1"}}}`), &e), flow.ErrNotRecorded)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"node_status":{"state_change":"NODE_CONNECTED"}}`), &e), flow.ErrNotRecorded)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"flow":{"IP":{"source":"x","destination":"1.1.1.1"}}}`), &e), "IP.source")
	require.ErrorContains(t, json.Unmarshal([]byte(`{"flow":{"time":"noon","IP":{}}}`), &e), "time")
	require.ErrorContains(t, json.Unmarshal([]byte(`{"flow":{"verdict":"forwarded","IP":{}}}`), &e), "FORWARDED")
}

func TestCountersOfAClosedFlowSurvive(t *testing.T) {
	f := sample(func(f *flow.Flow) {
		f.Event.Type, f.Event.Packets, f.Event.Bytes = datapath.EventClose, [2]uint64{5, 4}, [2]uint64{500, 4000}
		f.Event.TCPFlags = datapath.TCPAck | datapath.TCPFin
	})
	require.Equal(t, "TCP Flags: ACK, FIN; closed, sent 5 packets 500 bytes, received 4 packets 4000 bytes", flow.Summary(f.Event))
	data, err := json.Marshal(flow.Entry{Flow: f})
	require.NoError(t, err)
	var back flow.Entry
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, f.Event.Type, back.Flow.Event.Type)
	require.Equal(t, f.Event.Packets, back.Flow.Event.Packets)
	require.Equal(t, f.Event.Bytes, back.Flow.Event.Bytes)
}

// What was read and is written again is the same text.
func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFlow(t)
		first, err := json.Marshal(flow.Entry{Flow: f})
		require.NoError(t, err)
		var back flow.Entry
		require.NoError(t, json.Unmarshal(first, &back))
		second, err := json.Marshal(back)
		require.NoError(t, err)
		require.JSONEq(t, string(first), string(second))
		require.Equal(t, f.Verdict, back.Flow.Verdict)
		require.Equal(t, f.ReplyKnown(), back.Flow.ReplyKnown())
		require.Equal(t, flow.Summary(f.Event), flow.Summary(back.Flow.Event))
	})
}

func anyFlow(t *rapid.T) *flow.Flow {
	addr := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "203.0.113.9"})
	if rapid.Bool().Draw(t, "v6") {
		addr = rapid.SampledFrom([]string{"fd00::1", "fd00::2"})
	}
	proto := rapid.SampledFrom([]uint8{datapath.ProtoTCP, datapath.ProtoUDP, datapath.ProtoSCTP, datapath.ProtoICMP, datapath.ProtoICMPv6}).Draw(t, "proto")
	end := func(name string) netip.AddrPort {
		port := uint16(0)
		if datapath.HasPorts(proto) {
			port = rapid.Uint16().Draw(t, name+" port")
		}
		return netip.AddrPortFrom(netip.MustParseAddr(addr.Draw(t, name)), port)
	}
	verdict := func(name string, dir datapath.Direction) *policy.Verdict {
		ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: name}
		return rapid.SampledFrom([]*policy.Verdict{nil, {Allowed: true, Rule: policy.RuleRef{Policy: ref, Direction: dir, Path: "specs[1].ingress[0]"}},
			{Rule: policy.RuleRef{Policy: ref, Direction: dir, Path: "egressDeny[2]"}}, {Isolating: []policy.Ref{ref, {Kind: "CiliumClusterwideNetworkPolicy", Name: "all"}}},
		}).Draw(t, name)
	}
	e := datapath.Event{
		Type:      rapid.SampledFrom([]datapath.EventType{datapath.EventDrop, datapath.EventNew, datapath.EventClose}).Draw(t, "type"),
		Point:     rapid.SampledFrom([]datapath.Point{0, 3, 4, 5, 9, 8, 101}).Draw(t, "point"),
		Direction: rapid.SampledFrom([]datapath.Direction{datapath.Ingress, datapath.Egress}).Draw(t, "direction"),
		Reply:     rapid.Bool().Draw(t, "reply"), Src: end("src"), Dst: end("dst"), Proto: proto, Ifindex: rapid.Uint32().Draw(t, "ifindex"),
	}
	switch proto {
	case datapath.ProtoTCP:
		e.TCPFlags = rapid.Uint8().Draw(t, "flags")
	case datapath.ProtoICMP, datapath.ProtoICMPv6:
		e.ICMPType, e.ICMPCode = rapid.Uint8().Draw(t, "icmp type"), rapid.Uint8().Draw(t, "icmp code")
	}
	f := &flow.Flow{
		Time: time.Unix(0, rapid.Int64Range(1, 1<<60).Draw(t, "time")), UUID: "u", Node: "n1", Verdict: flow.VerdictForwarded,
		Source:  flow.Endpoint{Identity: identity.ID(rapid.Uint32().Draw(t, "identity")), Namespace: "shop", Pod: "a"},
		DestSvc: rapid.SampledFrom([]*flow.Service{nil, {Namespace: "shop", Name: "s"}}).Draw(t, "service"),
		Egress:  verdict("e", datapath.Egress), Ingress: verdict("i", datapath.Ingress),
	}
	switch e.Type {
	case datapath.EventDrop:
		e.Reason = rapid.SampledFrom([]datapath.Reason{132, 133, 181, 203}).Draw(t, "reason")
		f.Verdict = flow.VerdictDropped
	case datapath.EventClose:
		e.Packets = [2]uint64{rapid.Uint64().Draw(t, "sent"), 3}
	}
	f.Event = e
	return f
}
