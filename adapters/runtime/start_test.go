package runtime_test

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/ports"
)

// faultyPorts are an agent's, some of whose calls fail.
type faultyPorts struct {
	ports.Publisher
	ports.Attachments
	publish, save, remove atomic.Int32 // calls that are still to fail
	afterwards            atomic.Bool  // a Save that fails has had its effect
	published             atomic.Int32
}

func (p *faultyPorts) PublishNode(ctx context.Context, n cluster.Node) error {
	if p.publish.Add(-1) >= 0 {
		return errAway
	}
	p.published.Add(1)
	return p.Publisher.PublishNode(ctx, n)
}

func (p *faultyPorts) Save(a ports.Attachment) error {
	if p.save.Add(-1) < 0 {
		return p.Attachments.Save(a)
	}
	if p.afterwards.Load() {
		_ = p.Attachments.Save(a)
	}
	return syscall.EIO
}

func (p *faultyPorts) Delete(container, ifname string) error {
	if p.remove.Add(-1) >= 0 {
		return syscall.EIO
	}
	return p.Attachments.Delete(container, ifname)
}

func newFaulty(t *testing.T, p *faultyPorts) *fakes.Cluster {
	t.Helper()
	c, err := fakes.New(func(node string, d fakes.Deps) fakes.Agent {
		if node == "node1" {
			p.Publisher, p.Attachments = d.Publisher, d.Attachments
			d.Publisher, d.Attachments = p, p
		}
		return agent(node, d)
	}, fakes.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// The cluster takes nothing when the agent starts: the node is published when it does again.
func TestNodeIsPublishedWhenTheClusterIsBack(t *testing.T) {
	var p faultyPorts
	p.publish.Store(3)
	newFaulty(t, &p)
	eventually(t, "the node is published", func() bool { return p.published.Load() > 0 })
}

// Where programs can't be attached when the agent starts, those of before stay: the pods keep their rows and
// their connections.
func TestRestartWithoutAttaching(t *testing.T) {
	w := newWatched(t)
	require.NoError(t, w.KillAgent("node1"))
	w.Node("node1").Kernel.Fail(func(op, _ string, _ any) error {
		if op == "attach" {
			return syscall.EINVAL
		}
		return nil
	})
	require.NoError(t, w.StartAgent("node1"))
	require.NoError(t, w.Settle())
	w.require(t, "after the restart")
}

// The record of a reservation was written, and then its directory could not be brought to disk. The next life
// of the agent must not find it.
func TestReserveThatWasRememberedAllTheSame(t *testing.T) {
	for _, removes := range []int32{0, 1} { // the second time it can't be taken back at once
		var p faultyPorts
		c := newFaulty(t, &p)
		a := c.Node("node1").Agent()
		p.afterwards.Store(true)
		p.save.Store(1)
		p.remove.Store(removes)
		_, err := a.Reserve(t.Context(), ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
		require.ErrorIs(t, err, syscall.EIO)
		saved, err := p.Load()
		require.NoError(t, err)
		require.Len(t, saved, int(removes))
		require.NoError(t, a.Release(t.Context(), "x", "eth0"))
		saved, err = p.Load()
		require.NoError(t, err)
		require.Empty(t, saved)
	}
}

// A release that can't be remembered says so, also for a container that nobody knows.
func TestReleaseThatCantBeRemembered(t *testing.T) {
	var p faultyPorts
	c := newFaulty(t, &p)
	p.remove.Store(1)
	require.ErrorIs(t, c.Node("node1").Agent().Release(t.Context(), "x", "eth0"), syscall.EIO)
	require.NoError(t, c.Node("node1").Agent().Release(t.Context(), "x", "eth0"))
}

// The link of an endpoint is remembered by the call that succeeds, not only by the first.
func TestActivateRemembersAtItsSecondTry(t *testing.T) {
	var p faultyPorts
	c := newFaulty(t, &p)
	apply(t, c, lateObject)
	require.NoError(t, c.Settle())
	a := c.Node("node1").Agent()
	r := reserve(t, a, ports.ReserveRequest{ContainerID: "x", Interface: "eth0", Netns: "/n", Pod: late})
	link := ports.PodLinkState{Ifindex: 77}
	p.save.Store(1)
	require.ErrorIs(t, a.Activate(t.Context(), "x", "eth0", link), syscall.EIO)
	require.NoError(t, a.Activate(t.Context(), "x", "eth0", link))
	saved, err := p.Load()
	require.NoError(t, err)
	for _, s := range saved {
		if s.ContainerID == "x" {
			require.Equal(t, r.ID, s.ID)
			require.Equal(t, uint32(77), s.Ifindex)
			return
		}
	}
	t.Fatal("not remembered")
}
