package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers on a fresh socket until the test ends.
func serve(t *testing.T, in ports.Inspector, eps ports.Endpoints) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "weir.sock")
	l, err := Listen(path)
	require.NoError(t, err)
	s := NewServer(in, eps)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.NoError(t, <-done)
		require.NoFileExists(t, path)
	})
	return NewClient(path)
}

func TestInspectorThroughTheSocket(t *testing.T) {
	porttest.Inspector(t, func(t *testing.T) porttest.InspectorHarness {
		h := newHarness()
		h.Inspector = serve(t, h.Inspector, nil)
		return h
	})
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	for _, sentinel := range []error{ports.ErrNotFound, ports.ErrFull, ports.ErrUnsupported, ports.ErrConflict, ports.ErrClosed, context.DeadlineExceeded} {
		in := &failing{err: fmt.Errorf("status: table %q: %w", "flows", sentinel)}
		c := serve(t, in, nil)
		_, err := c.Status(context.Background())
		require.ErrorIs(t, err, sentinel)
		require.EqualError(t, err, in.err.Error())
		for _, other := range []error{ports.ErrNotFound, ports.ErrFull, ports.ErrUnsupported} {
			if other != sentinel {
				require.NotErrorIs(t, err, other)
			}
		}
	}
	c := serve(t, &failing{err: errors.New("disk on fire")}, nil)
	_, err := c.Status(context.Background())
	require.EqualError(t, err, "disk on fire")
}

func TestPartsThatAreNotServed(t *testing.T) {
	c := serve(t, newHarness().Inspector, nil)
	_, err := c.Reserve(context.Background(), ports.ReserveRequest{})
	require.ErrorIs(t, err, ports.ErrUnsupported)
}

func TestNoAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	_, err := NewClient(path).Status(context.Background())
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "no such file")
}

func TestAgentDiesWhileObserved(t *testing.T) {
	h := newHarness()
	path := filepath.Join(t.TempDir(), "weir.sock")
	l, err := Listen(path)
	require.NoError(t, err)
	s := NewServer(h.Inspector, nil)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	h.Record(porttest.SampleFlow(1))
	err = NewClient(path).Observe(context.Background(), flow.Query{Last: 1, Follow: true}, func(flow.Entry) error {
		return s.http.Close() // connections are cut without a word, as by kill -9
	})
	require.Error(t, err)
	require.ErrorIs(t, err, ErrUnreachable)
	require.NoError(t, <-done)
}

func TestListenReplacesADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	dead, err := net.Listen("unix", path)
	require.NoError(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	require.FileExists(t, path)

	l, err := Listen(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)
}

func TestListenRefusesALiveAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.sock")
	l, err := Listen(path)
	require.NoError(t, err)
	defer l.Close()
	_, err = Listen(path)
	require.ErrorContains(t, err, "another agent is running there")

	// Also one that does not know of the lock.
	foreign := filepath.Join(t.TempDir(), "weir.sock")
	fl, err := net.Listen("unix", foreign)
	require.NoError(t, err)
	defer fl.Close()
	_, err = Listen(foreign)
	require.ErrorContains(t, err, "another agent is running there")
	require.FileExists(t, foreign)
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err := Listen(path)
	require.ErrorContains(t, err, "no socket")
	require.FileExists(t, path)
}

func TestEndpointsThroughTheSocket(t *testing.T) {
	fake := &endpoints{}
	c := serve(t, nil, fake)
	ctx := context.Background()

	req := ports.ReserveRequest{ContainerID: "c1", Interface: "eth0", Netns: "/run/netns/a",
		Pod: cluster.Name{Namespace: "shop", Name: "web"}, IPs: []netip.Addr{netip.MustParseAddr("fd00::7")}}
	res, err := c.Reserve(ctx, req)
	require.NoError(t, err)
	require.Equal(t, req, fake.reserved)
	require.Equal(t, sampleReservation, res)

	link := ports.PodLinkState{Ifindex: 9, MAC: datapath.MAC{2, 0, 0, 0, 0, 1}, NodeMAC: datapath.MAC{2, 0, 0, 0, 0, 2}}
	require.NoError(t, c.Activate(ctx, "c1", "eth0", link))
	require.Equal(t, link, fake.link)

	got, inForce, err := c.Lookup(ctx, "c1", "eth0")
	require.NoError(t, err)
	require.True(t, inForce)
	require.Equal(t, sampleReservation, got)
	_, _, err = c.Lookup(ctx, "c2", "eth0")
	require.ErrorIs(t, err, ports.ErrNotFound)

	gone, err := c.Retain(ctx, []ports.ContainerInterface{{ContainerID: "c1", Interface: "eth0"}})
	require.NoError(t, err)
	require.Equal(t, []string{"lxc1"}, gone)
	_, err = c.Retain(ctx, nil)
	require.NoError(t, err)
	require.NotNil(t, fake.retained, "an empty list stays a list")
	require.Empty(t, fake.retained)

	require.NoError(t, c.Release(ctx, "c1", "eth0"))
	require.ErrorIs(t, c.Ready(ctx), ports.ErrClosed)
}

func TestPoliciesSurviveTheSocket(t *testing.T) {
	sel, err := labels.NewSelector(labels.Requirement{Source: "k8s", Key: "app", Operator: labels.In, Values: []string{"a", "b"}},
		labels.Requirement{Key: "debug", Operator: labels.DoesNotExist})
	require.NoError(t, err)
	want := ports.PolicyInfo{Revision: 3, Policies: []policy.Policy{{
		Ref: policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "p"},
		Specs: []policy.Spec{{Subject: sel, IsolateIngress: true, Rules: []policy.Rule{{
			Ref: policy.RuleRef{Path: "ingress[0]"}, AnyPort: true,
			Peers: []policy.Peer{{Selector: &sel}, {CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
		}}}},
	}}}
	data, err := json.Marshal(want)
	require.NoError(t, err)
	var got ports.PolicyInfo
	require.NoError(t, json.Unmarshal(data, &got))
	require.Equal(t, want, got)
}
