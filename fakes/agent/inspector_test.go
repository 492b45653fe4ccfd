package agent_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestInspector(t *testing.T) {
	porttest.Inspector(t, func(*testing.T) porttest.InspectorHarness {
		fake := agent.NewInspector(agent.State{
			Status:    ports.Status{Node: "n1", Healthy: true, Endpoints: 1},
			Endpoints: []ports.EndpointInfo{{Attachment: ports.Attachment{ID: 1}}},
			Nodes:     []cluster.Node{{Name: "n1"}},
			Rules:     map[datapath.Cookie]policy.Verdict{0: {Allowed: true}},
			Flows:     make([]datapath.Flow, 2),
			Translations: []datapath.Translation{{
				From: datapath.Tuple{Src: netip.MustParseAddrPort("192.0.2.1:5"), Dst: netip.MustParseAddrPort("10.0.0.1:30080"), Proto: datapath.ProtoTCP},
				To:   datapath.Tuple{Src: netip.MustParseAddrPort("192.0.2.1:5"), Dst: netip.MustParseAddrPort("10.244.0.1:80"), Proto: datapath.ProtoTCP},
			}},
		}, 0)
		return porttest.InspectorHarness{Inspector: fake, Rule: 0, NoRule: 1, FlowRows: 2, Translations: 1,
			Record: func(f *flow.Flow) { fake.Record(flow.Entry{Flow: f}) }}
	})
}

func TestFailuresCanBeAskedFor(t *testing.T) {
	fake := agent.NewInspector(agent.State{}, 0)
	broken := errors.New("broken")
	fake.Fail(broken)
	_, err := fake.Flows(context.Background())
	require.ErrorIs(t, err, broken)
	fake.Fail(nil)
	_, err = fake.Flows(context.Background())
	require.NoError(t, err)
}

func TestAReaderThatIsOvertakenLearnsIt(t *testing.T) {
	fake := agent.NewInspector(agent.State{}, 4)
	fake.Record(flow.Entry{Flow: porttest.SampleFlow(1)})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var lost uint64
	var ports []uint16
	err := fake.Observe(ctx, flow.Query{Last: 1, Follow: true}, func(e flow.Entry) error {
		if e.Lost != nil {
			lost += e.Lost.Count
			return nil
		}
		ports = append(ports, e.Flow.Event.Dst.Port())
		switch len(ports) {
		case 1: // while the reader holds the first, ten more come
			for i := 2; i <= 11; i++ {
				fake.Record(flow.Entry{Flow: porttest.SampleFlow(i)})
			}
		case 5:
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []uint16{1, 8, 9, 10, 11}, ports)
	require.Equal(t, uint64(6), lost)
}
