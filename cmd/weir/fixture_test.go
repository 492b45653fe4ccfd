package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // times are printed in the reader's zone
	version = "v0.0.0-test"
	os.Exit(m.Run())
}

// result is what a command line came to.
type result struct {
	out, err string
	code     int
}

// weir runs a command line against an agent.
func weir(in ports.Inspector, stdin string, args ...string) result {
	var out, errs bytes.Buffer
	g := newGlobals(strings.NewReader(stdin), &out, &errs)
	g.now = func() time.Time { return at(3600) }
	g.getenv = func(string) string { return "" }
	if in != nil {
		g.connect = func(string) ports.Inspector { return in }
	}
	code := run(context.Background(), g, args)
	return result{out.String(), errs.String(), code}
}

func at(seconds int) time.Time {
	return time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

var (
	backendIngress = policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "backend-ingress"}
	allowFrontend  = policy.Verdict{Allowed: true, Rule: policy.RuleRef{Policy: backendIngress, Path: "ingress[0]"}}
	defaultDeny    = policy.Verdict{Isolating: []policy.Ref{backendIngress}}
	denyWorld      = policy.Verdict{Rule: policy.RuleRef{Direction: datapath.Egress, Path: "egressDeny[0]",
		Policy: policy.Ref{Kind: "CiliumNetworkPolicy", Namespace: "shop", Name: "frontend-egress"}}}
)

const (
	cookieAllowFrontend = datapath.Cookie(7)
	cookieDefaultDeny   = datapath.Cookie(8)
	cookieDenyWorld     = datapath.Cookie(9 | 1<<31)
	cookieGone          = datapath.Cookie(10)
)

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix     { return netip.MustParsePrefix(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// fixture is an agent on node n1 with two endpoints of its own and one on n2.
func fixture() *agent.Inspector {
	frontend, _ := labels.NewSelector(labels.Requirement{Source: "k8s", Key: "app", Operator: labels.In, Values: []string{"frontend"}})
	backend, _ := labels.NewSelector(labels.Requirement{Source: "k8s", Key: "app", Operator: labels.In, Values: []string{"backend"}})
	pol := datapath.NewPolicyID(1, 42)
	row := func(class datapath.Class, dir datapath.Direction, v datapath.PolicyRow, k datapath.PolicyKey) ports.Row[datapath.PolicyKey, datapath.PolicyRow] {
		k.Policy, k.Class, k.Direction = pol, class, dir
		return ports.Row[datapath.PolicyKey, datapath.PolicyRow]{Key: k, Value: v}
	}
	state := agent.State{
		Status: ports.Status{
			Node: "n1", Version: "v0.0.0-test", Started: at(0), Healthy: true, Synced: true, Kernel: "6.1.0", Datapath: "ebpf",
			Features: []ports.Feature{{Name: "tcx", Supported: false, Detail: "clsact is used"}, {Name: "ring buffer", Supported: true, Required: true}},
			Tables:   []ports.TableStatus{{Name: "endpoints", Rows: 3, Capacity: 1024}, {Name: "policy", Rows: 5, Capacity: 16384}},
			PodCIDRs: []netip.Prefix{prefix("10.244.1.0/24"), prefix("fd00:1::/64")}, Allocated: []netip.Addr{addr("10.244.1.5"), addr("10.244.1.6"), addr("fd00:1::5")},
			Routing: "Tunnel [vxlan]", Attach: "Legacy TC", Endpoints: 2,
			Services: &ports.ServiceStatus{KubeProxyReplacement: true, Sockets: true, NodePorts: true, NodePortRange: "30000-32767", HostPorts: true,
				Devices: []devices.Device{{Name: "eth0", Index: 2, Addresses: []netip.Addr{addr("172.18.0.2"), addr("fd12::2")}}, {Name: "eth1", Index: 3}}},
			Revision: 3,
			Flows:    ports.FlowStatus{Current: 4, Max: 4095, Seen: 4, PerSec: 0.5, InKernel: 3},
			Counters: []ports.Counter{{Direction: datapath.Ingress, Packets: 10, Bytes: 1000}, {Reason: 133, Direction: datapath.Ingress, Packets: 1, Bytes: 60}},
		},
		Endpoints: []ports.EndpointInfo{
			{Attachment: ports.Attachment{ID: 12, Pod: cluster.Name{Namespace: "shop", Name: "backend"}, ContainerID: "c12", Netns: "/run/netns/b", Interface: "eth0",
				HostDevice: "lxc12", Ifindex: 9, MAC: datapath.MAC{2, 0, 0, 0, 0, 9}, NodeMAC: datapath.MAC{2, 0, 0, 0, 1, 9}, IPs: []netip.Addr{addr("10.244.1.6")}},
				Identity: 301, Labels: []string{"k8s:app=backend"}, State: "ready", Ingress: true, Policy: pol, Epoch: 2,
				Ports: []policy.NamedPort{{Name: "api", Proto: datapath.ProtoTCP, Port: 8080}}},
			{Attachment: ports.Attachment{ID: 11, Pod: cluster.Name{Namespace: "shop", Name: "frontend"}, ContainerID: "c11", Netns: "/run/netns/f", Interface: "eth0",
				HostDevice: "lxc11", Ifindex: 8, IPs: []netip.Addr{addr("10.244.1.5"), addr("fd00:1::5")}},
				Identity: 300, Labels: []string{"k8s:app=frontend", "k8s:io.kubernetes.pod.namespace=shop"}, State: "regenerating", Egress: true},
		},
		Identities: []ports.IdentityInfo{
			{ID: 301, Labels: []string{"k8s:app=backend"}, Class: 2, RefCount: 1},
			{ID: 300, Labels: []string{"k8s:app=frontend", "k8s:io.kubernetes.pod.namespace=shop"}, Class: 1, RefCount: 2},
			{ID: identity.Host, Labels: []string{"reserved:host"}, Class: 3},
		},
		Services: []ports.ServiceInfo{
			{ID: 1, Name: "shop/backend", Frontend: "10.96.0.9:80/TCP", Scope: "internal", Type: "ClusterIP", Backends: []ports.BackendInfo{
				{ID: 4, Address: "10.244.1.6:8080/TCP", State: "active", Node: "n1"}, {ID: 5, Address: "10.244.2.6:8080/TCP", State: "terminating", Node: "n2"}}},
			{ID: 7, Name: "shop/backend", Frontend: "0.0.0.0:30080/TCP", Scope: "internal", Type: "NodePort", Backends: []ports.BackendInfo{
				{ID: 4, Address: "10.244.1.6:8080/TCP", State: "active", Node: "n1"}, {ID: 5, Address: "10.244.2.6:8080/TCP", State: "active", Node: "n2"}}},
			{ID: 8, Name: "shop/backend", Frontend: "0.0.0.0:30080/TCP", Scope: "external", Type: "NodePort", Local: true, Backends: []ports.BackendInfo{
				{ID: 4, Address: "10.244.1.6:8080/TCP", State: "active", Node: "n1"}}},
			{ID: 9, Name: "shop/frontend:host-port", Frontend: "0.0.0.0:8081/UDP", Scope: "external", Type: "HostPort", Backends: []ports.BackendInfo{
				{ID: 6, Address: "10.244.1.5:81/UDP", State: "active", Node: "n1"}}},
			{ID: 2, Name: "shop/none", Frontend: "[fd00:96::9]:53/UDP", Scope: "internal", Type: "ClusterIP", Affinity: time.Hour},
		},
		Nodes: []cluster.Node{
			{Name: "n2", Addresses: []netip.Addr{addr("172.18.0.3")}, PodCIDRs: []netip.Prefix{prefix("10.244.2.0/24")}},
			{Name: "n1", Addresses: []netip.Addr{addr("172.18.0.2"), addr("fd12::2")}, PodCIDRs: []netip.Prefix{prefix("10.244.1.0/24"), prefix("fd00:1::/64")}},
		},
		Policies: ports.PolicyInfo{Revision: 3, Policies: []policy.Policy{{Ref: backendIngress, Specs: []policy.Spec{{
			Subject: backend, IsolateIngress: true, Rules: []policy.Rule{
				{Ref: allowFrontend.Rule, Peers: []policy.Peer{{Selector: &frontend}, {Entity: policy.EntityHost},
					{CIDR: prefix("203.0.113.0/24"), Except: []netip.Prefix{prefix("203.0.113.7/32")}}},
					Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 8080, Last: 8080}, {Proto: datapath.ProtoTCP, Name: "api"},
						{AnyProto: true, First: 1000, Last: 1999}, {Proto: datapath.ProtoUDP, Last: 65535}}, ICMP: []policy.ICMP{{Type: 8}, {IPv6: true, Type: 128}}},
				{Ref: policy.RuleRef{Policy: backendIngress, Path: "ingress[1]"}, Deny: true, AnyPeer: true, AnyPort: true},
			}}}}}},
		Rules: map[datapath.Cookie]policy.Verdict{cookieAllowFrontend: allowFrontend, cookieDefaultDeny: defaultDeny, cookieDenyWorld: denyWorld},
		Tables: ports.TablesDump{
			Endpoints: []ports.Row[netip.Addr, datapath.Endpoint]{
				{Key: addr("10.244.1.6"), Value: datapath.Endpoint{ID: 12, Identity: 301, Ifindex: 9, MAC: datapath.MAC{2, 0, 0, 0, 0, 9}, NodeMAC: datapath.MAC{2, 0, 0, 0, 1, 9}}},
				{Key: addr("10.244.1.1"), Value: datapath.Endpoint{Identity: identity.Host, Host: true}}},
			EndpointPolicy: []ports.Row[datapath.EndpointID, datapath.EndpointPolicy]{{Key: 12, Value: datapath.EndpointPolicy{Policy: pol, Epoch: 2}}},
			IPCache: []ports.Row[netip.Prefix, datapath.IPCache]{
				{Key: prefix("203.0.113.0/24"), Value: datapath.IPCache{Identity: identity.MinLocal + 1}},
				{Key: prefix("10.244.2.6/32"), Value: datapath.IPCache{Identity: 301, Tunnel: addr("172.18.0.3")}},
				{Key: prefix("10.244.2.0/24"), Value: datapath.IPCache{Identity: identity.RemoteNode, Tunnel: addr("172.18.0.3")}},
				{Key: prefix("fd00:2::6/128"), Value: datapath.IPCache{Identity: 301}}},
			Classes: []ports.Row[datapath.ClassKey, datapath.Class]{
				{Key: datapath.ClassKey{Generation: 1, Identity: 300}, Value: 1},
				{Key: datapath.ClassKey{Generation: 1, Identity: 302}, Value: 1},
				{Key: datapath.ClassKey{Generation: 0, Identity: 303}, Value: 1}, // of an older generation: no part of this policy
			},
			Policy: []ports.Row[datapath.PolicyKey, datapath.PolicyRow]{
				row(0, datapath.Egress, datapath.PolicyRow{Allow: true}, datapath.PolicyKey{AnyProto: true}),
				row(0, datapath.Ingress, datapath.PolicyRow{Cookie: cookieDefaultDeny}, datapath.PolicyKey{AnyProto: true}),
				row(1, datapath.Ingress, datapath.PolicyRow{Allow: true, Cookie: cookieAllowFrontend}, datapath.PolicyKey{Proto: datapath.ProtoTCP, Port: 8080, PortBits: 16}),
				row(1, datapath.Ingress, datapath.PolicyRow{Allow: true, Cookie: cookieAllowFrontend}, datapath.PolicyKey{Proto: datapath.ProtoTCP, Port: 1024, PortBits: 6}),
				row(1, datapath.Ingress, datapath.PolicyRow{Cookie: cookieGone}, datapath.PolicyKey{Proto: datapath.ProtoUDP}),
			},
			Services: []ports.Row[datapath.ServiceKey, datapath.Service]{
				{Key: datapath.ServiceKey{Addr: addr("fd00:96::9"), Port: 53, Proto: datapath.ProtoUDP}, Value: datapath.Service{ID: 2, AffinityTimeout: 3600}},
				{Key: datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 30080, Proto: datapath.ProtoTCP, Scope: datapath.External}, Value: datapath.Service{ID: 8, Count: 1}},
				{Key: datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 30080, Proto: datapath.ProtoTCP}, Value: datapath.Service{ID: 7, Count: 2}},
				{Key: datapath.ServiceKey{Addr: addr("0.0.0.0"), Port: 8081, Proto: datapath.ProtoUDP, Scope: datapath.External}, Value: datapath.Service{ID: 9, Local: true}},
				{Key: datapath.ServiceKey{Addr: addr("10.96.0.9"), Port: 80, Proto: datapath.ProtoTCP}, Value: datapath.Service{ID: 1, Count: 3}}},
			Slots: []ports.Row[datapath.SlotKey, uint32]{{Key: datapath.SlotKey{Service: 8, Slot: 1}, Value: 4}, {Key: datapath.SlotKey{Service: 7, Slot: 1}, Value: 4}, {Key: datapath.SlotKey{Service: 7, Slot: 2}, Value: 5}, {Key: datapath.SlotKey{Service: 1, Slot: 1}, Value: 4}, {Key: datapath.SlotKey{Service: 1, Slot: 2}, Value: 99}},
			Backends: []ports.Row[uint32, datapath.Backend]{
				{Key: 5, Value: datapath.Backend{Addr: addr("10.244.2.6"), Port: 8080, Proto: datapath.ProtoTCP}},
				{Key: 4, Value: datapath.Backend{Addr: addr("10.244.1.6"), Port: 8080, Proto: datapath.ProtoTCP}}},
		},
		Translations: []datapath.Translation{
			{From: datapath.Tuple{Src: addrPort("192.0.2.9:40000"), Dst: addrPort("172.18.0.2:30080"), Proto: datapath.ProtoTCP},
				To: datapath.Tuple{Src: addrPort("172.18.0.2:1234"), Dst: addrPort("10.244.2.6:8080"), Proto: datapath.ProtoTCP}, Expires: 59600 * time.Millisecond},
			{From: datapath.Tuple{Src: addrPort("10.244.2.6:8080"), Dst: addrPort("172.18.0.2:1234"), Proto: datapath.ProtoTCP}, Reply: true,
				To: datapath.Tuple{Src: addrPort("172.18.0.2:30080"), Dst: addrPort("192.0.2.9:40000"), Proto: datapath.ProtoTCP}, Expires: -time.Second},
			{From: datapath.Tuple{Src: addrPort("[fd12::9]:40000"), Dst: addrPort("[fd12::2]:8081"), Proto: datapath.ProtoUDP},
				To: datapath.Tuple{Src: addrPort("[fd12::9]:40000"), Dst: addrPort("[fd00:1::5]:81"), Proto: datapath.ProtoUDP}, Here: true},
		},
		Flows: []datapath.Flow{
			{Src: addrPort("10.244.1.5:40000"), Dst: addrPort("10.244.1.6:8080"), Proto: datapath.ProtoTCP, SrcIdentity: 300, DstIdentity: 301, SrcEndpoint: 11, DstEndpoint: 12,
				TCPFlags: [2]uint8{0x1b, 0x1a}, Closing: true, Packets: [2]uint64{5, 4}, Bytes: [2]uint64{500, 400}, Expires: 9500 * time.Millisecond},
			{Src: addrPort("10.244.2.6:1"), Dst: addrPort("10.244.1.5:0"), Proto: datapath.ProtoICMP, SrcIdentity: 301, DstIdentity: 300, DstEndpoint: 11, Denied: true, SeenNonSYN: true, Expires: -time.Second},
			{Src: addrPort("[fd00:1::5]:5353"), Dst: addrPort("[fd00:2::6]:53"), Proto: datapath.ProtoUDP, SrcIdentity: 300, DstIdentity: 301, SrcEndpoint: 11, Packets: [2]uint64{1, 1}, Bytes: [2]uint64{80, 120}, Expires: 60 * time.Second},
		},
	}
	in := agent.NewInspector(state, 0)
	in.Record(recordedFlows()...)
	return in
}

// recordedFlows are what the agent has seen: an allowed connection, its answer, a refused one, one to
// the world, an IPv6 ping, and a loss.
func recordedFlows() []flow.Entry {
	frontend := flow.Endpoint{ID: 11, Identity: 300, Namespace: "shop", Pod: "frontend", Labels: []string{"k8s:app=frontend"}}
	backend := flow.Endpoint{ID: 12, Identity: 301, Namespace: "shop", Pod: "backend", Labels: []string{"k8s:app=backend"}}
	probe := flow.Endpoint{Identity: 310, Namespace: "ops", Pod: "probe"}
	tcp := func(e datapath.Event) datapath.Event {
		e.Proto = datapath.ProtoTCP
		if e.TCPFlags == 0 {
			e.TCPFlags = datapath.TCPSyn
		}
		return e
	}
	flows := []*flow.Flow{
		{Verdict: flow.VerdictForwarded, Source: frontend, Dest: backend, Egress: &policy.Verdict{Allowed: true}, Ingress: &allowFrontend,
			Event: tcp(datapath.Event{Type: datapath.EventNew, Point: datapath.PointToEndpoint, Src: addrPort("10.244.1.5:40000"), Dst: addrPort("10.244.1.6:8080")})},
		{Verdict: flow.VerdictForwarded, Source: backend, Dest: frontend, Event: tcp(datapath.Event{Type: datapath.EventClose, Reply: true, Point: datapath.PointToEndpoint,
			TCPFlags: datapath.TCPAck | datapath.TCPFin, Src: addrPort("10.244.1.6:8080"), Dst: addrPort("10.244.1.5:40000"), Packets: [2]uint64{5, 4}, Bytes: [2]uint64{500, 400}})},
		{Verdict: flow.VerdictDropped, Source: probe, Dest: backend, Ingress: &defaultDeny,
			Event: tcp(datapath.Event{Type: datapath.EventDrop, Reason: datapath.ReasonPolicyDenied, Point: datapath.PointFromOverlay, Src: addrPort("10.244.2.9:41000"), Dst: addrPort("10.244.1.6:8080")})},
		{Verdict: flow.VerdictDropped, Source: frontend, Dest: flow.Endpoint{Identity: identity.WorldIPv4, Labels: []string{"reserved:world", "reserved:world-ipv4"}}, Egress: &denyWorld,
			Event: tcp(datapath.Event{Type: datapath.EventDrop, Reason: datapath.ReasonPolicyDeny, Direction: datapath.Egress, Point: datapath.PointFromEndpoint, Src: addrPort("10.244.1.5:42000"), Dst: addrPort("203.0.113.9:443")})},
		{Verdict: flow.VerdictForwarded, Source: flow.Endpoint{Identity: identity.Host}, Dest: frontend, Ingress: &policy.Verdict{Allowed: true, Note: policy.NoteLocalHost},
			Event: datapath.Event{Type: datapath.EventNew, Point: datapath.PointToEndpoint, Proto: datapath.ProtoICMPv6, ICMPType: 128, Src: addrPort("[fd00:1::1]:7"), Dst: addrPort("[fd00:1::5]:0")}},
		{Verdict: flow.VerdictForwarded, Source: frontend, Dest: flow.Endpoint{}, DestSvc: &flow.Service{Namespace: "kube-system", Name: "dns"},
			Event: datapath.Event{Type: datapath.EventNew, Direction: datapath.Egress, Point: datapath.PointToStack, Proto: datapath.ProtoUDP, Src: addrPort("10.244.1.5:5353"), Dst: addrPort("10.96.0.10:53")}},
	}
	var out []flow.Entry
	for i, f := range flows {
		f.Time, f.Event.Time, f.Node, f.UUID = at(i), at(i), "n1", "00000000-0000-8000-8000-00000000000"+string(rune('0'+i))
		f.Event.SrcIdentity, f.Event.DstIdentity = f.Source.Identity, f.Dest.Identity
		out = append(out, flow.Entry{Flow: f})
	}
	lost := flow.Entry{Lost: &flow.Lost{Source: flow.LostKernel, Count: 17, First: at(2), Last: at(4)}}
	return append(out[:4:4], append([]flow.Entry{lost}, out[4:]...)...)
}
