package ebpf

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

// Packets that look to a hurried reader as if they belonged to A's connection to port 80 of B.

func setLength(frame []byte, v4 bool, payload int) []byte {
	frame = slices.Clone(frame)
	if v4 {
		binary.BigEndian.PutUint16(frame[ethernetLen+2:], uint16(20+payload))
	} else {
		binary.BigEndian.PutUint16(frame[ethernetLen+4:], uint16(payload))
	}
	return frame
}

func TestFastPathReadsLengths(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		data := tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)
		r.fromA(t, data).silent(t, tcRedirect)
		r.fromA(t, setLength(data, x.a.Is4(), 21)).dropped(t, datapath.ReasonInvalidPacket)
		r.fromA(t, setLength(data, x.a.Is4(), 19)).dropped(t, datapath.ReasonTruncatedL4)
		r.fromA(t, append(slices.Clone(data), 0, 0, 0, 0)).silent(t, tcRedirect, "padding")
		require.EqualValues(t, 3, r.flow(t).Packets[0])
	})
}

func TestFastPathTakesNothingElseForPorts(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
		later := packet{src: x.a, dst: x.b, proto: datapath.ProtoTCP, l4: tcp(4000, 80, datapath.TCPAck), fragment: 20, id: 7}
		r.fromA(t, later.frame()).dropped(t, datapath.ReasonFragmentNotFound)
		first := later
		first.fragment, first.more = 0, true
		r.fromA(t, first.frame()).silent(t, tcRedirect)
		r.fromA(t, later.frame()).silent(t, tcRedirect, "its first was seen")

		if x.a.Is4() {
			options := tcpFrame(x.a, x.b, 5000, 81, datapath.TCPAck)
			at := ethernetLen + 20
			options = slices.Insert(options, at, tcp(4000, 80, datapath.TCPAck)...)
			options[ethernetLen] = 0x45 + 5
			options = setLength(options, true, 40)
			r.fromA(t, options).dropped(t, datapath.ReasonPolicyDenied)
		}
	})
}

func TestFastPathKnowsFamilies(t *testing.T) {
	r, x := newRig(t), families[0]
	r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn)).opened(t, tcRedirect, datapath.PointToEndpoint)
	mapped := func(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
	f := tcpFrame(mapped(x.a), mapped(x.b), 4000, 80, datapath.TCPAck)
	require.Equal(t, byte(0x60), f[ethernetLen]&0xf0)
	r.fromA(t, f).dropped(t, datapath.ReasonInvalidSource)
}

func TestFastPathKeepsTheBooks(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		forwarded := func() (n [2]uint64) {
			rows, err := r.d.Counters()
			require.NoError(t, err)
			for _, c := range rows {
				if c.Reason == 0 {
					n[c.Direction] = c.Packets
				}
			}
			return n
		}
		r.direct(t, x)
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn))
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn))
		before := forwarded()
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)).delivered(t, r.b)
		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPAck)).delivered(t, r.a)
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPAck)).silent(t, tcRedirect)
		r.fromNetwork(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPAck)).delivered(t, r.a)
		now := forwarded()
		require.EqualValues(t, 3, now[datapath.Ingress]-before[datapath.Ingress])
		require.EqualValues(t, 1, now[datapath.Egress]-before[datapath.Egress])

		end := r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPRst))
		end.delivered(t, r.a)
		require.Len(t, end.events, 1)
		require.Equal(t, datapath.EventClose, end.events[0].Type)
		require.Equal(t, [2]uint64{2, 2}, end.events[0].Packets)
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)).silent(t, tcRedirect, "what comes late opens no other flow")
	})
}

// aTick is longer than a tick of any kernel's clock.
const aTick = 50 * time.Millisecond

// Within a tick the clock is not asked again; what it says later counts.
func TestFastPathKnowsTheTime(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		data := tcpFrame(x.a, x.b, 4000, 80, datapath.TCPAck)
		r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn))
		r.fromB(t, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck))
		r.editFlows(t, func(f *rawFlow) { f.ExpiresNs -= 1000 * uint64(time.Second) })
		time.Sleep(aTick)
		r.fromA(t, data).silent(t, tcRedirect)
		lives(t, r.flow(t), datapath.LifetimeTCPEstablished)

		r.editFlows(t, func(f *rawFlow) { f.ExpiresNs = 1 })
		time.Sleep(aTick)
		r.fromA(t, data).opened(t, tcRedirect, datapath.PointToEndpoint)
		lives(t, r.flow(t), datapath.LifetimeTCPSyn)

		for range 20 { // most of them within a tick
			_, err := r.d.FlushFlows()
			require.NoError(t, err)
			r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn))
			r.fromA(t, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPRst))
			lives(t, r.flow(t), datapath.LifetimeTCPClosing)
		}
	})
}

func TestFastPathAsksWhichNodeSent(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		f := udpFrame(x.remote, x.b, 5000, 53)
		r.fromOverlay(t, f).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.fromOverlay(t, f).silent(t, tcRedirect)
		stranger := []uint32{remoteIdentity, 0xc0000209}
		r.run(t, progFromOverlay, r.overlay, f, stranger...).dropped(t, datapath.ReasonUnknownSender)
		r.run(t, progFromOverlay, r.overlay, f).dropped(t, datapath.ReasonTunnelKey)
	})
}

func TestNodesAreNotAskedForTwice(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		syn := tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPSyn)
		r.fromOverlay(t, syn).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.fromOverlay(t, tcpFrame(x.remote, x.b, 5000, 80, datapath.TCPRst))
		require.NoError(t, r.Nodes.Delete(otherNode))
		r.fromOverlay(t, syn).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.expireFlows(t)
		r.fromOverlay(t, syn).dropped(t, datapath.ReasonUnknownSender)
	})
}

func TestWhatCameThroughTheOverlayIsAnsweredThere(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		f, answer := udpFrame(x.remote, x.b, 5000, 53), udpFrame(x.b, x.remote, 53, 5000)
		r.fromOverlay(t, f).opened(t, tcRedirect, datapath.PointToEndpoint)
		r.fromB(t, answer).tunnelled(t)
		r.direct(t, x)
		r.fromB(t, answer).tunnelled(t)
		r.fromOverlay(t, f).silent(t, tcRedirect)
		r.fromNetwork(t, f).silent(t, tcUnspec, "not the way of this flow")
	})
}

func TestHostSendsToNeighboursAsItIs(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		f := udpFrame(x.host, x.remote, 4000, 53)
		r.run(t, progFromHost, r.overlay, f).tunnelled(t)
		r.direct(t, x)
		out := r.run(t, progFromHost, r.overlay, f)
		out.silent(t, tcOK)
		require.Equal(t, f, out.frame)
	})
}

func TestFromNetworkLeavesWhatIsForOthers(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, x family) {
		r.direct(t, x)
		r.fromA(t, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn))
		for _, to := range []datapath.MAC{{2, 1, 1, 1, 1, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}} {
			f := tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPAck)
			copy(f, to[:])
			r.fromNetwork(t, f).silent(t, tcUnspec, "a frame to %s", to)
		}
		r.fromNetwork(t, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPAck)).delivered(t, r.a)
	})
}
