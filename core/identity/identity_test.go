package identity

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/labels"
)

func TestReserved(t *testing.T) {
	all := Reserved()
	require.Len(t, all, 10)
	for i, id := range all {
		require.Equal(t, ID(i+1), id.ID, "in order of number")
		require.True(t, id.ID.IsReserved())
		require.False(t, id.ID.IsCluster() || id.ID.IsLocal())
		require.True(t, id.Labels.Has(labels.SourceReserved, id.ID.String()))
	}
	require.Equal(t, netip.MustParsePrefix("0.0.0.0/0"), ReservedIdentity(WorldIPv4).Prefix)
	require.Equal(t, netip.MustParsePrefix("::/0"), ReservedIdentity(WorldIPv6).Prefix)
	require.True(t, ReservedIdentity(WorldIPv6).Labels.Has(labels.SourceReserved, "world"))
	require.Equal(t, "unknown", Unknown.String())
	require.Equal(t, "remote-node", RemoteNode.String())
	require.Equal(t, "4711", ID(4711).String())
}

func TestRanges(t *testing.T) {
	for id, want := range map[ID][3]bool{ // reserved, cluster, local
		0: {true, false, false}, 10: {true, false, false}, 11: {}, 255: {}, 256: {false, true, false}, 65535: {false, true, false},
		65536: {}, MinLocal: {false, false, true}, MaxLocal: {false, false, true}, MaxLocal + 1: {},
	} {
		require.Equal(t, want, [3]bool{id.IsReserved(), id.IsCluster(), id.IsLocal()}, "%d", id)
	}
}

func TestForPrefix(t *testing.T) {
	id := ForPrefix(MinLocal, netip.MustParsePrefix("10.0.0.0/8"))
	require.Equal(t, []string{"cidr:10.0.0.0/8", "reserved:world", "reserved:world-ipv4"}, id.Labels.Strings())
	id = ForPrefix(MinLocal, netip.MustParsePrefix("2001:db8::/32"))
	require.Equal(t, []string{"cidr:2001:db8::/32", "reserved:world", "reserved:world-ipv6"}, id.Labels.Strings())
}
