package ebpf

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestPort(t *testing.T) {
	needBPF(t)
	porttest.TestDatapath(t, func(t *testing.T, s porttest.Sizes) (ports.Datapath, []uint32) {
		newNetns(t).enter(t)
		sizes := smallSizes
		for to, n := range map[*uint32]int{
			&sizes.Endpoints: s.Endpoints, &sizes.IPCache: s.IPCache, &sizes.Policy: s.Policy, &sizes.Nodes: s.Nodes,
			&sizes.Services: s.Services, &sizes.Slots: s.Slots, &sizes.Backends: s.Backends,
		} {
			if n != 0 {
				*to = uint32(n)
			}
		}
		d, err := Open(Config{BPFFS: newBPFFS(t), Sizes: sizes})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		mustIP(t, "link", "add", "lxca", "type", "veth", "peer", "name", "lxcb")
		return d, []uint32{ifindexOf(t, "lxca"), ifindexOf(t, "lxcb")}
	})
}
