package datapath

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ethernet addresses and directions that can be read are written as they were, and what cannot is named.
func FuzzText(f *testing.F) {
	for _, s := range []string{"02:00:00:00:00:01", "FF:ff:00:aA:00:01", "2:0:0:0:0:1", "02:00:00:00:00", "ingress", "Egress", ":::::", "02:00:00:00:00:0g"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var m MAC
		if err := m.UnmarshalText([]byte(s)); err != nil {
			require.ErrorContains(t, err, "is not an Ethernet address")
			require.Zero(t, m)
		} else {
			require.Equal(t, strings.ToLower(s), m.String())
		}
		var d Direction
		if d.UnmarshalText([]byte(s)) == nil {
			require.Equal(t, s, d.String())
		}
	})
}

// Both directions of a flow have one key, whose sides are in order; a port of one is not taken for the other's.
func FuzzFlowKey(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, uint16(1), uint16(2), uint8(6))
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 1}, uint16(2), uint16(1), uint8(17))
	f.Add(make([]byte, 16), append(make([]byte, 15), 1), uint16(0), uint16(0), uint8(58))
	f.Fuzz(func(t *testing.T, a, b []byte, aport, bport uint16, proto uint8) {
		src, ok1 := netip.AddrFromSlice(a)
		dst, ok2 := netip.AddrFromSlice(b)
		if !ok1 || !ok2 {
			return
		}
		there, fromB := NewFlowKey(src, dst, aport, bport, proto)
		back, backFromB := NewFlowKey(dst, src, bport, aport, proto)
		if src.As16() != dst.As16() || aport != bport {
			require.NotEqual(t, fromB, backFromB)
		}
		if src.Is4() == dst.Is4() {
			require.Equal(t, there, back)
		}
		x, y := netip.AddrPortFrom(there.A, there.APort), netip.AddrPortFrom(there.B, there.BPort)
		if fromB {
			x, y = y, x
		}
		require.Equal(t, [2]netip.AddrPort{netip.AddrPortFrom(src, aport), netip.AddrPortFrom(dst, bport)}, [2]netip.AddrPort{x, y})
	})
}
