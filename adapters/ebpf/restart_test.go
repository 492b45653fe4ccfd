package ebpf

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func TestRestartAdoptsEverything(t *testing.T) {
	for _, classic := range []bool{false, true} {
		t.Run(map[bool]string{false: "default", true: "classic TC"}[classic], func(t *testing.T) {
			needBPF(t)
			n := newLiveNode(t, 1, Config{ClassicTC: classic})
			a, b := n.addPod(t), n.addPod(t)
			gone := n.addPod(t)
			a.admit(t)
			b.admit(t, admitPort80()...)
			b.serve(t)
			c, err := dial(t, a.netns, "tcp", b.v4, 80, patience)
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, exchange(c, "before", patience))
			before, err := n.d.Tables().Policy.Dump()
			require.NoError(t, err)
			cfg := n.d.cfg
			oldProgram, err := n.d.progs[progFromPod].Info()
			require.NoError(t, err)
			oldID, _ := oldProgram.ID()

			n.d.closeQuietly(t)
			require.NoError(t, exchange(c, "while nobody watches", patience))
			n.do(t, func() error { return ip("link", "del", gone.device) })

			// Traffic goes on while the next one opens.
			stop, traffic := make(chan struct{}), make(chan error, 1)
			go func() {
				for {
					select {
					case <-stop:
						traffic <- nil
						return
					default:
					}
					if err := exchange(c, "during", patience); err != nil {
						traffic <- err
						return
					}
				}
			}()
			n.do(t, func() error { n.d, err = Open(cfg); return err })
			close(stop)
			require.NoError(t, <-traffic)

			n.do(t, func() error {
				attached, err := n.d.AttachedPods()
				require.Equal(t, []uint32{a.ifindex, b.ifindex}, attached, "the interface that went is forgotten")
				return err
			})
			after, err := n.d.Tables().Policy.Dump()
			require.NoError(t, err)
			require.ElementsMatch(t, before, after)
			flows, err := n.d.Flows()
			require.NoError(t, err)
			require.NotEmpty(t, flows)
			require.NoError(t, exchange(c, "after", patience))
			newProgram, err := n.d.progs[progFromPod].Info()
			require.NoError(t, err)
			newID, _ := newProgram.ID()
			require.NotEqual(t, oldID, newID)
			b.admit(t)
			require.Error(t, exchange(c, "cut", refusal), "the new one is in charge")
			if n.d.tcx {
				l, err := link.LoadPinnedLink(n.d.pin(linksDir, progFromPod, a.ifindex), nil)
				require.NoError(t, err)
				defer l.Close()
				info, err := l.Info()
				require.NoError(t, err)
				require.Equal(t, newID, info.Program)
			}
		})
	}
}

// closeQuietly closes a live node's datapath before its time; the reader of events ends with it.
func (d *Datapath) closeQuietly(t *testing.T) {
	t.Helper()
	require.NoError(t, d.Close())
	require.ErrorIs(t, d.BumpAll(), ports.ErrClosed)
	_, err := d.Flows()
	require.ErrorIs(t, err, ports.ErrClosed)
	require.ErrorIs(t, d.Tables().Nodes.Put(otherNode, datapath.Node{}), ports.ErrClosed)
	require.NoError(t, d.Close(), "closing twice is fine")
}

func TestOtherSizesAreRefusedByName(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	dir := newBPFFS(t)
	d, err := Open(Config{BPFFS: dir, Sizes: smallSizes})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	sizes := smallSizes
	sizes.Flows, sizes.Backends = 4096, 64
	_, err = Open(Config{BPFFS: dir, Sizes: sizes})
	require.ErrorContains(t, err, "map flows_v1: MaxEntries: 1024 changed to 4096")
	require.ErrorContains(t, err, "map backends_v1: MaxEntries: 256 changed to 64")
	require.NoError(t, Destroy(dir))
	d, err = Open(Config{BPFFS: dir, Sizes: sizes})
	require.NoError(t, err)
	require.Equal(t, 64, d.Tables().Backends.Capacity())
	require.NoError(t, d.Close())
}

func TestPinDirectoryMustBeOnBPFFS(t *testing.T) {
	needBPF(t)
	_, err := Open(Config{BPFFS: filepath.Join(t.TempDir(), "weir")})
	require.ErrorContains(t, err, "not on a BPF file system")
	_, err = Open(Config{BPFFS: "relative"})
	require.ErrorContains(t, err, "absolute path")
	require.NoError(t, Destroy(filepath.Join(t.TempDir(), "never")))
	require.Error(t, Destroy(t.TempDir()), "other directories are left alone")
}

func TestChangeOfMechanismLeavesOneProgram(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	mustIP(t, "link", "add", "lxca", "type", "veth", "peer", "name", "lxcb")
	ifindex := ifindexOf(t, "lxca")
	cfg := Config{BPFFS: newBPFFS(t), Sizes: smallSizes}
	for _, classic := range []bool{false, true, false} {
		cfg.ClassicTC = classic
		d, err := Open(cfg)
		require.NoError(t, err)
		require.NoError(t, d.AttachPod(ifindex))
		require.NoError(t, d.AttachPod(ifindex))
		attached, err := d.AttachedPods()
		require.NoError(t, err)
		require.Equal(t, []uint32{ifindex}, attached)
		_, err = os.Stat(d.pin(linksDir, progToPod, ifindex))
		require.Equal(t, !d.tcx, os.IsNotExist(err))
		filter, err := haveFilter(d.pin(filtersDir, progToPod, ifindex), progToPod, ifindex)
		require.NoError(t, err)
		require.Equal(t, !d.tcx, filter)
		require.Equal(t, map[bool]string{true: "TCX", false: "Legacy TC"}[d.tcx], d.AttachMode())
		require.NoError(t, d.Close())
	}
	require.NoError(t, Destroy(cfg.BPFFS))
	_, err := os.Stat(cfg.BPFFS)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAttachToAnInterfaceThatIsGone(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	for _, classic := range []bool{false, true} {
		d, err := Open(Config{BPFFS: newBPFFS(t), Sizes: smallSizes, ClassicTC: classic})
		require.NoError(t, err)
		require.Error(t, d.AttachPod(4711))
		require.NoError(t, d.DetachPod(4711))
		attached, err := d.AttachedPods()
		require.NoError(t, err)
		require.Empty(t, attached)
		require.NoError(t, d.Close())
	}
}

func TestProbe(t *testing.T) {
	needBPF(t)
	for _, f := range Probe() {
		t.Logf("%-18s supported %-5v required %-5v %s", f.Name, f.Supported, f.Required, f.Detail)
		if f.Required {
			require.True(t, f.Supported, "%+v", f)
		}
		require.Equal(t, f.Supported, f.Detail == "", "%+v", f)
	}
}

func TestBootClock(t *testing.T) {
	var c bootClock
	now, err := readClock(7) // CLOCK_BOOTTIME
	require.NoError(t, err)
	at, err := c.at(now)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Second)
	at, err = c.at(now - uint64(time.Hour))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(-time.Hour), at, time.Second)
}

// A process that was killed while it exchanged the mark of a filter leaves the new one beside the old.
func TestMarkThatWasBeingExchanged(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	mustIP(t, "link", "add", "lxca", "type", "veth", "peer", "name", "lxcb")
	ifindex := ifindexOf(t, "lxca")
	cfg := Config{BPFFS: newBPFFS(t), Sizes: smallSizes, ClassicTC: true}
	d, err := Open(cfg)
	require.NoError(t, err)
	require.NoError(t, d.AttachPod(ifindex))
	fresh := d.pin(filtersDir, freshMark+progFromPod, ifindex)
	clone, err := d.progs[progFromPod].Clone()
	require.NoError(t, err)
	require.NoError(t, clone.Pin(fresh))
	require.NoError(t, clone.Close())
	require.NoError(t, d.Close())

	d, err = Open(cfg)
	require.NoError(t, err)
	attached, err := d.AttachedPods()
	require.NoError(t, err)
	require.Equal(t, []uint32{ifindex}, attached)
	require.NoFileExists(t, fresh)
	require.FileExists(t, d.pin(filtersDir, progFromPod, ifindex))
	require.NoError(t, d.DetachPod(ifindex))
	attached, err = d.AttachedPods()
	require.NoError(t, err)
	require.Empty(t, attached)
	require.NoError(t, d.Close())
}
