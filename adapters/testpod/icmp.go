package testpod

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// Types of ICMP messages.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// tryICMP sends echo requests and waits for a reply to any.
func tryICMP(ctx context.Context, to netip.Addr) error {
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	c, err := dialer().DialContext(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	// An identifier of its own, so that no probe continues the flow of an earlier one.
	id := uint16(1 + rand.IntN(65535))
	return exchange(ctx, c, func(n int) []byte {
		m := make([]byte, 24)
		m[0] = request
		binary.BigEndian.PutUint16(m[4:], id)
		binary.BigEndian.PutUint16(m[6:], uint16(n))
		copy(m[8:], "weir connectivity")
		if to.Is4() { // of IPv6 the kernel computes the checksum, which covers the addresses
			binary.BigEndian.PutUint16(m[2:], checksum(m))
		}
		return m
	}, func(b []byte) bool {
		return len(b) >= 8 && b[0] == reply && binary.BigEndian.Uint16(b[4:]) == id
	})
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
