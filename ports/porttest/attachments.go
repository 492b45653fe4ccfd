package porttest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Attachments is the contract suite of ports.Attachments. start makes an empty memory and returns how
// to open it; every call of open is another process that finds what the earlier ones saved.
func Attachments(t *testing.T, start func(t *testing.T) (open func() ports.Attachments)) {
	full := ports.Attachment{
		ContainerID: "c1", Netns: "/run/netns/x", Interface: "eth0", Pod: cluster.Name{Namespace: "shop", Name: "web"}, UID: "u",
		ID: 7, HostDevice: "lxc1", Ifindex: 12, MAC: datapath.MAC{1, 2, 3, 4, 5, 6}, NodeMAC: datapath.MAC{6, 5, 4, 3, 2, 1},
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")},
	}
	load := func(t *testing.T, a ports.Attachments) []ports.Attachment {
		t.Helper()
		all, err := a.Load()
		require.NoError(t, err)
		return all
	}

	t.Run("empty", func(t *testing.T) {
		a := start(t)()
		assert.Empty(t, load(t, a))
		assert.NoError(t, a.Delete("none", "eth0"), "absent is no error")
	})

	t.Run("saved, overwritten, deleted", func(t *testing.T) {
		open := start(t)
		a := open()
		require.NoError(t, a.Save(full))
		assert.Equal(t, []ports.Attachment{full}, load(t, open()))
		changed := full
		changed.Ifindex = 13
		require.NoError(t, a.Save(changed))
		second := full
		second.Interface = "eth1"
		require.NoError(t, a.Save(second))
		assert.ElementsMatch(t, []ports.Attachment{changed, second}, load(t, open()))
		require.NoError(t, open().Delete("c1", "eth0"))
		assert.Equal(t, []ports.Attachment{second}, load(t, a))
	})

	t.Run("names of any form stay apart", func(t *testing.T) {
		open := start(t)
		a := open()
		ids := []string{"a", "a-b", "A", "../../x", "a/b", "a b", strings.Repeat("f", 64), strings.Repeat("f", 300), "ü"}
		for i, id := range ids {
			require.NoError(t, a.Save(ports.Attachment{ContainerID: id, Interface: "eth0", ID: datapath.EndpointID(i + 1)}))
			require.NoError(t, a.Save(ports.Attachment{ContainerID: id, Interface: "b-eth0", ID: datapath.EndpointID(i + 100)}))
		}
		got := map[string]bool{}
		for _, at := range load(t, open()) {
			got[fmt.Sprintf("%s %s %d", at.ContainerID, at.Interface, at.ID)] = true
		}
		assert.Len(t, got, 2*len(ids))
		for i, id := range ids {
			assert.True(t, got[fmt.Sprintf("%s eth0 %d", id, i+1)], id)
			require.NoError(t, a.Delete(id, "eth0"))
		}
		assert.Len(t, load(t, a), len(ids))
	})

	t.Run("nameless", func(t *testing.T) {
		a := start(t)()
		assert.Error(t, a.Save(ports.Attachment{Interface: "eth0"}))
		assert.Error(t, a.Save(ports.Attachment{ContainerID: "c"}))
		assert.Empty(t, load(t, a))
	})
}
