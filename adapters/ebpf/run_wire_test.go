package ebpf

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

const outerLen = 50

var thisNode = netip.MustParseAddr("192.0.2.1")

// newWireRig is a node that writes the tunnel's outer headers itself: the device net leads to the other node, with
// an MTU of 1,500.
func newWireRig(t *testing.T) *rig {
	t.Helper()
	r := newRigWith(t, func(r *rig, c *Config) {
		c.Tunnel = ports.Tunnel{Device: r.network, Address: thisNode, Port: 8472}
		require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	})
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "set", "netp", "up"}, {"link", "set", "net", "up"},
		{"addr", "add", "192.0.2.1/24", "dev", "net"},
		{"neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "net"},
	} {
		mustIP(t, args...)
	}
	return r
}

func eachWireFamily(t *testing.T, f func(t *testing.T, r *rig, x family)) {
	for _, x := range families {
		t.Run(x.name, func(t *testing.T) { f(t, newWireRig(t), x) })
	}
}

// established opens a flow of pod A with the remote pod, and returns a packet of either side.
func (r *rig) established(t *testing.T, x family) (there, back packet) {
	t.Helper()
	r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToOverlay)
	r.fromOverlay(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck)).silent(t, tcRedirect)
	data := make([]byte, 100)
	return packet{src: x.a, dst: x.remote, proto: datapath.ProtoTCP, l4: append(tcp(4000, 80, datapath.TCPAck), data...)},
		packet{src: x.remote, dst: x.a, proto: datapath.ProtoTCP, l4: append(tcp(80, 4000, datapath.TCPAck), data...)}
}

// outerHeaders are those of a packet from the other node to this one: IPv4, UDP, VXLAN.
func outerHeaders(inner []byte, vni uint32) []byte {
	h := make([]byte, 36, 36+len(inner))
	h[0], h[8], h[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(h[2:], uint16(36+len(inner)))
	copy(h[12:], otherNode.AsSlice())
	copy(h[16:], thisNode.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^fold(h[:20]))
	binary.BigEndian.PutUint16(h[20:], 50000)
	binary.BigEndian.PutUint16(h[22:], 8472)
	binary.BigEndian.PutUint16(h[24:], uint16(16+len(inner)))
	h[28] = 8
	binary.BigEndian.PutUint32(h[32:], vni<<8)
	return append(h, inner...)
}

// fold is the ones' complement sum of 16-bit words.
func fold(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func TestOuterHeadersAreWritten(t *testing.T) {
	eachWireFamily(t, func(t *testing.T, r *rig, x family) {
		there, _ := r.established(t, x)
		out := r.fromA(t, there.frame())
		out.silent(t, tcRedirect)
		require.Len(t, out.frame, len(there.frame())+outerLen)
		ip, udp, vxlan, inner := out.frame[14:34], out.frame[34:42], out.frame[42:50], out.frame[50:]
		require.EqualValues(t, 0xffff, fold(ip), "the header's checksum")
		require.Equal(t, []byte{0x45, 0}, ip[:2])
		require.EqualValues(t, len(out.frame)-14, binary.BigEndian.Uint16(ip[2:]))
		require.Equal(t, []byte{0, 0, 64, 17}, ip[6:10], "may be fragmented, 64 hops, UDP")
		require.Equal(t, thisNode.AsSlice(), ip[12:16])
		require.Equal(t, otherNode.AsSlice(), ip[16:20])
		require.GreaterOrEqual(t, binary.BigEndian.Uint16(udp), uint16(0xc000))
		require.EqualValues(t, 8472, binary.BigEndian.Uint16(udp[2:]))
		require.EqualValues(t, len(out.frame)-34, binary.BigEndian.Uint16(udp[4:]))
		require.Zero(t, binary.BigEndian.Uint16(udp[6:]), "no checksum")
		require.Equal(t, []byte{8, 0, 0, 0}, vxlan[:4])
		require.EqualValues(t, r.a.identity<<8, binary.BigEndian.Uint32(vxlan[4:]))
		require.Equal(t, datapath.OverlayMAC[:], inner[:6])
		require.Equal(t, []byte{2, 'w', 'e', 'i', 'r', 2}, inner[6:12])
		require.Equal(t, there.frame()[12:], inner[12:], "the packet is what it was")

		other := there
		other.l4 = append(tcp(4001, 80, datapath.TCPSyn), make([]byte, 9)...)
		r.fromA(t, other.frame())
		other.l4 = append(tcp(4001, 80, datapath.TCPAck), make([]byte, 9)...)
		require.NotEqual(t, udp[:2], r.fromA(t, other.frame()).frame[34:36], "another flow may take another way")

		sent := r.flows(t)
		require.EqualValues(t, 2, sent[4000].Packets[0], "counted as always")
		require.EqualValues(t, len(tcpFrame(x.a, x.remote, 1, 1, 0))+len(there.frame()), sent[4000].Bytes[0], "by its own length")
	})
}

// flows gives the entries by the port of their opener.
func (r *rig) flows(t *testing.T) map[uint16]datapath.Flow {
	t.Helper()
	flows, err := r.d.Flows()
	require.NoError(t, err)
	out := map[uint16]datapath.Flow{}
	for _, f := range flows {
		out[f.Src.Port()] = f
	}
	return out
}

// What the program does not write goes to the overlay device as ever.
func TestOuterHeadersAreLeftToTheDevice(t *testing.T) {
	eachWireFamily(t, func(t *testing.T, r *rig, x family) {
		there, _ := r.established(t, x)
		written := func() bool {
			out := r.fromA(t, there.frame())
			require.EqualValues(t, tcRedirect, out.code)
			if len(out.frame) == len(there.frame()) {
				out.tunnelled(t)
				return false
			}
			return true
		}
		require.True(t, written())
		there.ecn = 1
		require.False(t, written(), "a congestion mark")
		there.ecn = 0

		needed := len(there.ip()) + outerLen
		mustIP(t, "link", "set", "net", "mtu", strconv.Itoa(needed-1))
		require.False(t, written(), "does not fit with the outer headers")
		mustIP(t, "link", "set", "net", "mtu", strconv.Itoa(needed))
		require.True(t, written())
		mustIP(t, "link", "set", "net", "mtu", "1500")

		mustIP(t, "neigh", "del", "192.0.2.2", "dev", "net")
		require.False(t, written(), "the neighbour is not resolved")
		mustIP(t, "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:03", "dev", "net")
		require.True(t, written())

		mustIP(t, "link", "set", "over", "up")
		mustIP(t, "link", "set", "overp", "up")
		mustIP(t, "route", "add", "192.0.2.2/32", "dev", "over")
		mustIP(t, "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:03", "dev", "over")
		require.False(t, written(), "the way leads elsewhere")
		mustIP(t, "route", "del", "192.0.2.2/32", "dev", "over")
		require.True(t, written())

		mustIP(t, "link", "del", "net")
		require.False(t, written(), "the device is gone")
	})
}

func TestOuterHeadersAreTakenOff(t *testing.T) {
	eachWireFamily(t, func(t *testing.T, r *rig, x family) {
		_, back := r.established(t, x)
		arrive := func(vni uint32, change func(outer []byte)) result {
			b := outerHeaders(back.frame(), vni)
			if change != nil {
				change(b)
			}
			return r.fromNetwork(t, ethernet(0x0800, b))
		}
		in := arrive(remoteIdentity, nil)
		if !x.a.Is4() && kernelOlderThan(t, 6, 3) {
			in.silent(t, tcUnspec)
			t.Skip("this kernel cannot take IPv4 from around IPv6 (6.3 and later can): the overlay device does")
		}
		in.silent(t, tcRedirect)
		in.delivered(t, r.a)
		require.Equal(t, back.frame()[14:], in.frame[14:], "the inner packet")
		f := r.flow(t)
		require.EqualValues(t, 2, f.Packets[1])
		require.EqualValues(t, len(tcpFrame(x.a, x.remote, 1, 1, 0))+len(back.frame()), f.Bytes[1], "by its own length")

		for name, change := range map[string]func(o []byte){
			"another address":     func(o []byte) { o[19] = 9 },
			"another sender":      func(o []byte) { o[15] = 9 },
			"another port":        func(o []byte) { o[23]++ },
			"another protocol":    func(o []byte) { o[9] = 6 },
			"IPv4 options":        func(o []byte) { o[0] = 0x46 },
			"a fragment":          func(o []byte) { o[7] = 1 },
			"more fragments":      func(o []byte) { o[6] = 0x20 },
			"congestion":          func(o []byte) { o[1] = 3 },
			"a checksum":          func(o []byte) { o[27] = 1 },
			"no VNI":              func(o []byte) { o[28] = 0 },
			"a flag unknown here": func(o []byte) { o[28] = 0x0c },
			"another ethertype":   func(o []byte) { o[48], o[49] = 8, 6 },
			"an inner option":     func(o []byte) { o[50] |= 0xf },
		} {
			if name == "an inner option" && !x.a.Is4() {
				continue
			}
			out := arrive(remoteIdentity, change)
			out.silent(t, tcUnspec, name)
		}
		arrive(remoteIdentity+1, nil).silent(t, tcUnspec, "another identity is to be judged")
		require.NoError(t, r.d.BumpAddr(x.remote))
		arrive(remoteIdentity, nil).silent(t, tcUnspec, "a stale entry serves nobody")
		r.fromOverlay(t, back.frame()).silent(t, tcRedirect)
		arrive(remoteIdentity, nil).silent(t, tcRedirect)

		moved := r.a
		moved.mac, moved.nodeMAC = datapath.MAC{2, 0, 0, 0, 2, 1}, datapath.MAC{2, 0, 0, 0, 2, 2}
		r.putPod(t, x.a, moved)
		r.setPolicy(t, r.a.id)
		arrive(remoteIdentity, nil).silent(t, tcUnspec, "the pod's device is another")
		r.fromOverlay(t, back.frame()).silent(t, tcRedirect)
		arrive(remoteIdentity, nil).delivered(t, moved)
	})
}

// What stands for several segments is in one piece between nodes of one machine, and its length in the outer header.
func TestOuterHeadersHoldTheLength(t *testing.T) {
	eachWireFamily(t, func(t *testing.T, r *rig, x family) {
		there, _ := r.established(t, x)
		quiet := "/proc/sys/net/ipv6/conf/%s/disable_ipv6" // or the devices would ask for neighbours, and be counted
		for _, dev := range []string{"net", "netp", "over", "overp"} {
			require.NoError(t, os.WriteFile(fmt.Sprintf(quiet, dev), []byte("1"), 0))
		}
		for _, args := range [][]string{
			{"link", "set", "lxca", "mtu", "65535", "up"}, {"link", "set", "lxcap", "mtu", "65535", "up"},
			{"link", "set", "over", "mtu", "65535", "up"}, {"link", "set", "overp", "mtu", "65535", "up"},
		} {
			mustIP(t, args...)
		}
		require.NoError(t, r.d.AttachPod(r.a.ifindex))
		head := len(there.frame()) - len(there.l4)
		send := func(total int) (written, left int) {
			there.l4 = append(tcp(4000, 80, datapath.TCPAck), make([]byte, total-(head-ethernetLen)-20)...)
			before := [2]int{received(t, "netp"), received(t, "overp")}
			sendSegments(t, "lxcap", there.frame(), head)
			for until := time.Now().Add(5 * time.Second); written+left == 0; {
				require.True(t, time.Now().Before(until), "the packet came out nowhere")
				written, left = received(t, "netp")-before[0], received(t, "overp")-before[1]
			}
			return written, left
		}
		written, left := send(65535 - outerLen)
		require.NotZero(t, written, "the longest that fits")
		require.Zero(t, left)
		written, left = send(65535 - outerLen + 1)
		require.Zero(t, written, "a byte more is the overlay device's")
		require.NotZero(t, left)
	})
}

// received counts the packets that came in by an interface.
func received(t *testing.T, name string) int {
	t.Helper()
	out, err := exec.Command("ip", "-s", "-j", "link", "show", "dev", name).Output()
	require.NoError(t, err)
	var links []struct {
		Stats struct {
			RX struct{ Packets int } `json:"rx"`
		} `json:"stats64"`
	}
	require.NoError(t, json.Unmarshal(out, &links))
	require.Len(t, links, 1)
	return links[0].Stats.RX.Packets
}

// sendSegments sends a TCP frame that stands for segments of 1,000 bytes; its IP header has this many bytes with the
// Ethernet header.
func sendSegments(t *testing.T, name string, frame []byte, head int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20))
	const needsChecksum, tcp4, tcp6 = 1, 1, 4 // as struct virtio_net_hdr has them
	kind := byte(tcp4)
	if frame[12] == 0x86 {
		kind = tcp6
	}
	b := []byte{needsChecksum, kind}
	for _, v := range []int{head + 20, 1000, head, 16} { // headers, segment, where the checksum counts from and belongs
		b = binary.NativeEndian.AppendUint16(b, uint16(v))
	}
	to := &unix.SockaddrLinklayer{Ifindex: int(ifindexOf(t, name))}
	require.NoError(t, unix.Sendto(fd, append(b, frame...), 0, to))
}

func TestTunnelThatCannotBe(t *testing.T) {
	needBPF(t)
	for _, bad := range []ports.Tunnel{
		{Device: 1, Address: netip.MustParseAddr("2001:db8::1"), Port: 8472}, {Device: 1, Address: thisNode},
	} {
		_, err := Open(Config{BPFFS: newBPFFS(t), Sizes: smallSizes, OverlayIfindex: 1, Tunnel: bad})
		require.ErrorContains(t, err, "an IPv4 address and a port are needed")
	}
}
