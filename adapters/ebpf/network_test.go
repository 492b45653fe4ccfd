package ebpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// Devices come and go while the datapath is open and while nobody is there; the device to other nodes keeps its program whatever
// becomes of the others.
func TestDevicesToTheNetworkChange(t *testing.T) {
	needBPF(t)
	for _, classic := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "classic TC"}[classic], func(t *testing.T) {
			newNetns(t).enter(t)
			for _, name := range []string{"direct", "wan", "lan"} {
				mustIP(t, "link", "add", name, "type", "veth", "peer", "name", name+"p")
			}
			direct, wan, lan := ifindexOf(t, "direct"), ifindexOf(t, "wan"), ifindexOf(t, "lan")
			cfg := Config{
				BPFFS: newBPFFS(t), Sizes: smallSizes, ClassicTC: classic, DirectIfindex: direct,
				Outside: ports.Outside{Addresses: []netip.Addr{addr("192.0.2.1")}},
			}
			open := func() *Datapath {
				t.Helper()
				d, err := Open(cfg)
				require.NoError(t, err)
				return d
			}
			carry := func(d *Datapath, prog string, want ...uint32) {
				t.Helper()
				got, err := d.carriers(prog)
				require.NoError(t, err)
				require.ElementsMatch(t, want, got, prog)
			}
			d := open()
			carry(d, progFromNetwork, direct)
			carry(d, progToNetwork)
			require.NoError(t, d.AttachNetwork([]uint32{wan, lan, 4711}), "one that is gone again keeps nobody from the others")
			carry(d, progFromNetwork, direct, wan, lan)
			carry(d, progToNetwork, wan, lan)
			require.NoError(t, d.Close())

			mustIP(t, "link", "del", "lan")
			mustIP(t, "link", "add", "dmz", "type", "veth", "peer", "name", "dmzp")
			dmz := ifindexOf(t, "dmz")
			cfg.Outside.Devices = []uint32{dmz, direct, lan}
			d = open()
			carry(d, progFromNetwork, direct, dmz)
			carry(d, progToNetwork, direct, dmz)
			mustIP(t, "link", "del", "dmz")
			attached, err := d.AttachedNetwork()
			require.NoError(t, err)
			require.Equal(t, []uint32{direct}, attached)
			require.NoError(t, d.AttachNetwork(nil))
			carry(d, progFromNetwork, direct)
			carry(d, progToNetwork)
			for _, prog := range []string{progFromNetwork, progToNetwork} {
				pins, err := d.pinned(prog)
				require.NoError(t, err)
				require.NotContains(t, pins, dmz, "%s leaves no pin", prog)
				require.NotContains(t, pins, lan, "%s leaves no pin", prog)
			}

			// The same index, and another device.
			mustIP(t, "link", "add", "dmz", "index", "77", "type", "veth", "peer", "name", "dmzp")
			require.NoError(t, d.AttachNetwork([]uint32{77}))
			mustIP(t, "link", "del", "dmz")
			mustIP(t, "link", "add", "dmz", "index", "77", "type", "veth", "peer", "name", "dmzp")
			carry(d, progToNetwork)
			require.NoError(t, d.AttachNetwork([]uint32{77}))
			carry(d, progToNetwork, 77)
			require.NoError(t, d.Close())
		})
	}
}

// Nobody would attach these later, so that they cannot be passed over.
func TestOwnDevicesMustBeThere(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	for _, classic := range []bool{false, true} {
		for what, cfg := range map[string]Config{
			progFromOverlay: {OverlayIfindex: 4711}, progFromHost: {HostIfindex: 4711},
		} {
			cfg.BPFFS, cfg.Sizes, cfg.ClassicTC = newBPFFS(t), smallSizes, classic
			_, err := Open(cfg)
			require.ErrorIs(t, err, unix.ENODEV, "%s, classic TC %v", what, classic)
			require.ErrorContains(t, err, "attach "+what+" to interface 4711")
		}
	}
}
