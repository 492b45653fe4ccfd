package runtime_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes"
	objects "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/ports"
)

// The cluster takes nothing when the agent starts: the node is published when it does again.
func TestNodeIsPublishedWhenTheClusterIsBack(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	n := c.Node("node1")
	require.NoError(t, c.KillAgent("node1"))
	was := len(n.Source.Published())
	n.Source.Fail(faultOf(objects.OpPublishNode, 3))
	require.NoError(t, c.StartAgent("node1"))
	eventually(t, "the node is published", func() bool { return len(n.Source.Published()) > was })
}

// Programs that can't be attached when the agent starts are those of before: the pods keep their rows and their
// connections.
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
