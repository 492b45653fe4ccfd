package packet_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/packet"
)

var (
	a4, b4 = netip.MustParseAddrPort("10.0.0.1:1025"), netip.MustParseAddrPort("10.0.0.2:80")
	a6, b6 = netip.MustParseAddrPort("[fd00::1]:1025"), netip.MustParseAddrPort("[fd00::2]:80")
)

// Frames written out by hand, checksums computed elsewhere.
func TestBytes(t *testing.T) {
	for name, c := range map[string]struct {
		p    packet.Packet
		want string
	}{
		"UDP over IPv4": {
			packet.UDP(a4, b4, "hi!").With(func(p *packet.Packet) {
				p.DstMAC, p.SrcMAC, p.Padding = datapath.MAC{1, 2, 3, 4, 5, 6}, datapath.MAC{7, 8, 9, 10, 11, 12}, 2
			}),
			"010203040506 0708090a0b0c 0800" +
				"4500001f 00000000 401166cc 0a000001 0a000002" +
				"04010050 000b5e1b 686921 0000",
		},
		"TCP over IPv6 with a VLAN tag and options": {
			packet.TCP(a6, b6, datapath.TCPSyn).With(func(p *packet.Packet) {
				p.VLANs, p.Ext, p.Seq = []uint16{5}, []packet.Ext{packet.DestOptions(1)}, 1
			}),
			"000000000000 000000000000 81000005 86dd" +
				"60000000 001c3c40 fd000000000000000000000000000001 fd000000000000000000000000000002" +
				"06000104 00000000" +
				"04010050 00000001 00000000 5002ffff b18c0000",
		},
		"a later fragment": {
			packet.UDP(a4, b4, "0123456789abcdef").Fragments(0x1234, 16)[1],
			"000000000000 000000000000 0800" +
				"4500001c 12340002 401154 99 0a000001 0a000002" + "3839616263646566",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, strings.ReplaceAll(c.want, " ", ""), hex.EncodeToString(c.p.Bytes()))
		})
	}
}

func TestReadUndoesBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := packet.Packet{
			TTL: rapid.Uint8Range(1, 255).Draw(t, "ttl"), EtherType: packet.EtherIPv4,
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "payload"), Padding: rapid.IntRange(0, 9).Draw(t, "padding"),
			Proto: rapid.SampledFrom([]uint8{1, 6, 17, 58, 132, 47}).Draw(t, "proto"),
		}
		addr := func(name string, n int) netip.Addr {
			a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name))
			return a
		}
		if rapid.Bool().Draw(t, "v6") {
			p.Src, p.Dst, p.EtherType = addr("src", 16), addr("dst", 16), packet.EtherIPv6
			if rapid.Bool().Draw(t, "ext") {
				p.Ext = []packet.Ext{packet.HopByHop(2), packet.Routing(4, 1), packet.AH()}
			}
		} else {
			p.Src, p.Dst = addr("src", 4), addr("dst", 4)
			if rapid.Bool().Draw(t, "options") {
				p.Options = make([]byte, 8)
			}
		}
		if datapath.HasPorts(p.Proto) {
			p.SPort, p.DPort = rapid.Uint16().Draw(t, "sport"), rapid.Uint16().Draw(t, "dport")
		}
		switch p.Proto {
		case datapath.ProtoTCP:
			p.Seq, p.Ack, p.Flags = rapid.Uint32().Draw(t, "seq"), rapid.Uint32().Draw(t, "ack"), rapid.Uint8().Draw(t, "flags")
		case datapath.ProtoICMP, datapath.ProtoICMPv6:
			p.ICMPType, p.ICMPCode, p.ICMPID = rapid.Uint8().Draw(t, "type"), rapid.Uint8().Draw(t, "code"), rapid.Uint16().Draw(t, "id")
		}
		got, err := packet.Read(p.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Payload) == 0 {
			got.Payload = p.Payload
		}
		require.Equal(t, p, got)

		// Fragments put together again are the datagram.
		pieces := p.Fragments(7, 16)
		var joined []byte
		for i, f := range pieces {
			read, err := packet.Read(f.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if len(pieces) > 1 {
				require.Equal(t, &packet.Frag{ID: 7, Offset: 16 * i, More: i < len(pieces)-1}, read.Frag)
				joined = append(joined, read.L4...)
			}
		}
		if len(pieces) > 1 && !bytes.HasSuffix(joined, p.Payload) {
			t.Fatal("fragments do not add up")
		}
	})
}

func TestReadRefuses(t *testing.T) {
	v4, v6 := packet.TCP(a4, b4, 0).Bytes(), packet.UDP(a6, b6, "x").With(func(p *packet.Packet) { p.Ext = []packet.Ext{packet.HopByHop(1)} }).Bytes()
	for name, c := range map[string]struct {
		frame []byte
		at    int
		value byte
		cut   int
	}{
		"short frame":          {frame: v4, cut: 13},
		"other type":           {frame: v4, at: 12, value: 9},
		"IPv4 version":         {frame: v4, at: 14, value: 0x55},
		"IPv4 cut":             {frame: v4, cut: 40},
		"IPv4 header checksum": {frame: v4, at: 22, value: 1},
		"TCP checksum":         {frame: v4, at: 40, value: 1},
		"TCP data offset":      {frame: v4, at: 46, value: 0x40},
		"IPv6 version":         {frame: v6, at: 14, value: 0x40},
		"IPv6 cut":             {frame: v6, cut: 60},
		"extension too long":   {frame: v6, at: 55, value: 9},
		"UDP checksum":         {frame: v6, at: 70, value: 'y'},
	} {
		t.Run(name, func(t *testing.T) {
			frame := append([]byte(nil), c.frame...)
			if c.cut > 0 {
				frame = frame[:c.cut]
			} else {
				frame[c.at] = c.value
			}
			_, err := packet.Read(frame)
			require.ErrorIs(t, err, packet.ErrMalformed)
		})
	}
	_, err := packet.Read(v4)
	require.NoError(t, err)
	_, err = packet.Read(v6)
	require.NoError(t, err)
}

func TestICMPErrorQuotes(t *testing.T) {
	long := packet.UDP(a4, b4, strings.Repeat("x", 100)).Bytes()
	e := packet.ICMPError(b4.Addr(), a4.Addr(), 3, 3, long, 8)
	require.Equal(t, long[14:14+28], e.Payload)
	require.Equal(t, long[14:], packet.ICMPError(b4.Addr(), a4.Addr(), 3, 3, long, 5000).Payload)
}

func TestARP(t *testing.T) {
	frame := packet.ARP(datapath.MAC{2, 0, 0, 0, 0, 1}, a4.Addr(), b4.Addr())
	require.Equal(t, "ffffffffffff020000000001"+"0806"+"0001080006040001"+"020000000001"+"0a000001"+"000000000000"+"0a000002", hex.EncodeToString(frame))
}

func ExamplePacket() {
	p := packet.TCP(netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80"), datapath.TCPSyn)
	read, err := packet.Read(p.Bytes())
	fmt.Println(read, err)
	fmt.Println(packet.Echo(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 1, false))
	// Output:
	// TCP S 10.0.0.1:40000 > 10.0.0.2:80 <nil>
	// ICMPv6 128/0 fd00::1 > fd00::2
}
