package runtime_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/ports"
)

// However often pods come and go, their addresses come back: those asked for by name, and all of the range.
func TestReleasedAddressesComeBack(t *testing.T) {
	c := newCluster(t, fakes.Options{})
	a := c.Node("node1").Agent()
	for i := range 300 {
		r := ports.ReserveRequest{ContainerID: fmt.Sprint("c", i), Interface: "eth0", Netns: "/n", Pod: late}
		if i == 0 || i == 299 {
			r.IPs = []netip.Addr{netip.MustParseAddr("10.244.1.77")}
		}
		reserve(t, a, r)
		require.NoError(t, a.Release(t.Context(), r.ContainerID, "eth0"))
	}
}
