package api

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

// newHarness makes a fake agent with two endpoints.
func newHarness() porttest.InspectorHarness {
	rule := policy.Verdict{Allowed: true, Rule: policy.RuleRef{
		Policy: policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "backend"}, Path: "ingress[0]"}}
	fake := agent.NewInspector(agent.State{
		Status:    ports.Status{Node: "n1", Healthy: true, Endpoints: 2},
		Endpoints: []ports.EndpointInfo{{Attachment: ports.Attachment{ID: 1}}, {Attachment: ports.Attachment{ID: 2}}},
		Nodes:     []cluster.Node{{Name: "n1"}, {Name: "n2"}},
		Rules:     map[datapath.Cookie]policy.Verdict{7: rule},
		Flows:     []datapath.Flow{{Proto: datapath.ProtoTCP}, {Proto: datapath.ProtoUDP}, {Proto: datapath.ProtoTCP}},
		Translations: []datapath.Translation{{
			From: datapath.Tuple{Src: netip.MustParseAddrPort("192.0.2.1:5"), Dst: netip.MustParseAddrPort("10.0.0.1:30080"), Proto: datapath.ProtoTCP},
			To:   datapath.Tuple{Src: netip.MustParseAddrPort("192.0.2.1:5"), Dst: netip.MustParseAddrPort("10.244.0.1:80"), Proto: datapath.ProtoTCP},
		}},
	}, 0)
	return porttest.InspectorHarness{
		Inspector: fake, Rule: 7, NoRule: 8, FlowRows: 3, Translations: 1,
		Record: func(f *flow.Flow) { fake.Record(flow.Entry{Flow: f}) },
	}
}

// failing is an Inspector that cannot tell its status.
type failing struct {
	ports.Inspector
	err error
}

func (f *failing) Status(context.Context) (ports.Status, error) { return ports.Status{}, f.err }

var sampleReservation = ports.Reservation{ID: 12, HostDevice: "lxc12", MTU: 1450,
	Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")},
	Gateways:  []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}

// endpoints remembers what it was asked and knows the attachment of c1.
type endpoints struct {
	reserved ports.ReserveRequest
	link     ports.PodLinkState
	retained []ports.ContainerInterface
}

func (e *endpoints) Reserve(_ context.Context, r ports.ReserveRequest) (ports.Reservation, error) {
	e.reserved = r
	return sampleReservation, nil
}

func (e *endpoints) Activate(_ context.Context, _, _ string, link ports.PodLinkState) error {
	e.link = link
	return nil
}

func (e *endpoints) Release(context.Context, string, string) error { return nil }

func (e *endpoints) Lookup(_ context.Context, id, _ string) (ports.Reservation, bool, error) {
	if id != "c1" {
		return ports.Reservation{}, false, fmt.Errorf("attachment %s: %w", id, ports.ErrNotFound)
	}
	return sampleReservation, true, nil
}

func (e *endpoints) Retain(_ context.Context, valid []ports.ContainerInterface) ([]string, error) {
	e.retained = valid
	return []string{"lxc1"}, nil
}

func (e *endpoints) Ready(context.Context) error { return fmt.Errorf("starting: %w", ports.ErrClosed) }
