package ebpf

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

func TestTranslationsAreListedAndCollected(t *testing.T) {
	needBPF(t)
	newNetns(t).enter(t)
	d, err := Open(Config{BPFFS: newBPFFS(t), Sizes: smallSizes})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	now, err := monotonic()
	require.NoError(t, err)
	raw := func(src, dst string) rawTuple {
		s, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return rawTuple{Src: newAddr(s.Addr()), Dst: newAddr(to.Addr()), Sport: s.Port(), Dport: to.Port(), Proto: datapath.ProtoTCP}
	}
	key, to := raw("198.51.100.7:4000", "192.0.2.1:30080"), raw("192.0.2.1:2000", "10.2.0.1:80")
	live := rawNAT{To: to, Node: newAddr(addr("192.0.2.2")), ExpiresNs: now + uint64(time.Hour), Ifindex: 7, Backend: 12, Kind: natReply, State: 1, Here: 1}
	over := live
	over.ExpiresNs = now - 1
	gone := raw("[2001:db8::7]:1", "[2001:db8::1]:2")
	require.NoError(t, d.maps[mapNAT].Put(&key, &live))
	require.NoError(t, d.maps[mapNAT].Put(&gone, &over))
	rows, err := d.Translations()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	n, err := d.CollectFlows()
	require.NoError(t, err)
	require.Zero(t, n, "flows are counted")
	rows, err = d.Translations()
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.InDelta(t, time.Hour.Seconds(), rows[0].Expires.Seconds(), 5)
	rows[0].Expires = 0
	require.Equal(t, datapath.Translation{
		From:  datapath.Tuple{Src: netip.MustParseAddrPort("198.51.100.7:4000"), Dst: netip.MustParseAddrPort("192.0.2.1:30080"), Proto: datapath.ProtoTCP},
		To:    datapath.Tuple{Src: netip.MustParseAddrPort("192.0.2.1:2000"), Dst: netip.MustParseAddrPort("10.2.0.1:80"), Proto: datapath.ProtoTCP},
		Reply: true, State: datapath.NATAnswered, Here: true, Backend: 12, Ifindex: 7, Node: addr("192.0.2.2"),
	}, rows[0])
}

func TestOutsideIsChecked(t *testing.T) {
	for _, a := range []netip.Addr{{}, netip.IPv4Unspecified(), addr("fe80::1%eth0"), addr("::ffff:192.0.2.1")} {
		err := outsideConstants(ports.Outside{Devices: []uint32{1}, Addresses: []netip.Addr{a}}, map[string]any{})
		require.ErrorContains(t, err, "address of the node", "%q", a)
	}
	constants := map[string]any{}
	require.NoError(t, outsideConstants(ports.Outside{}, constants))
	require.Empty(t, constants, "nothing is translated")
	require.NoError(t, outsideConstants(ports.Outside{Addresses: []netip.Addr{addr("192.0.2.1")}}, constants))
	require.EqualValues(t, 1, constants["translates"], "devices may come later")
}
