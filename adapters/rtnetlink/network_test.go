package rtnetlink

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

// newNode gives a Network in a namespace of its own.
func newNode(t *testing.T) (*Network, string) {
	t.Helper()
	path := netns.Path(netnstest.New(t))
	return New(Config{Netns: path}), path
}

func TestNetworkContract(t *testing.T) {
	netnstest.Require(t)
	porttest.TestNetwork(t, porttest.NetworkSetup{
		New: func(t *testing.T) ports.Network {
			n, _ := newNode(t)
			return n
		},
		NewNetns: func(t *testing.T) string { return netns.Path(netnstest.New(t)) },
		DeleteNetns: func(t *testing.T, path string) {
			require.NoError(t, netns.Delete(filepath.Base(path)))
		},
	})
}
