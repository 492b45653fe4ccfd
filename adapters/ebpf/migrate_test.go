package ebpf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func TestServicesOfTheFormerLayoutAreKept(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	dir := newBPFFS(t)
	require.NoError(t, os.Mkdir(dir, 0o700))
	former, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, ValueSize: 12, MaxEntries: smallSizes.Services, Flags: 1})
	require.NoError(t, err)
	defer former.Close()
	want := []ports.Row[datapath.ServiceKey, datapath.Service]{
		{Key: datapath.ServiceKey{Addr: addr("10.96.0.1"), Port: 80, Proto: datapath.ProtoTCP}, Value: datapath.Service{ID: 3, Count: 2, AffinityTimeout: 600}},
		{Key: datapath.ServiceKey{Addr: addr("fd00::1"), Port: 53, Proto: datapath.ProtoUDP}, Value: datapath.Service{ID: 4}},
	}
	for _, r := range want {
		k := rawServiceKey{Addr: newAddr(r.Key.Addr), Port: r.Key.Port, Proto: r.Key.Proto}
		require.NoError(t, former.Put(&k, &[3]uint32{r.Value.ID, r.Value.Count, r.Value.AffinityTimeout}))
	}
	pin := filepath.Join(dir, "services_v1")
	require.NoError(t, former.Pin(pin))
	for range 2 {
		d, err := Open(Config{BPFFS: dir, Sizes: smallSizes})
		require.NoError(t, err)
		rows, err := d.Tables().Services.Dump()
		require.NoError(t, err)
		require.ElementsMatch(t, want, rows)
		require.Equal(t, "services", d.Tables().Services.Name())
		require.NoFileExists(t, pin)
		require.NoError(t, d.Close())
	}
}
