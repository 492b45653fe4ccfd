package testpod

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Types of ICMP messages.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// tryICMP sends echo requests and waits for a reply to any.
//
// With full they are as large as the way to there takes, as far as the kernel knows, and must not be fragmented.
func tryICMP(ctx context.Context, to netip.Addr, full bool) error {
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	c, err := dialer().DialContext(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	size := 24
	if full {
		if size, err = whole(c, to.Is6()); err != nil {
			return err
		}
	}
	// An identifier of its own, so that no probe continues the flow of an earlier one.
	id := uint16(1 + rand.IntN(65535))
	return exchange(ctx, c, func(n int) []byte {
		m := make([]byte, size)
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

// Lengths of IP headers without options.
const (
	ipv4Header = 20
	ipv6Header = 40
)

// whole forbids to fragment what a socket sends, and returns how long an ICMP message can be then.
func whole(c net.Conn, v6 bool) (int, error) {
	raw, err := c.(*net.IPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	level, discover, do, mtu, header := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU, ipv4Header
	if v6 {
		level, discover, do, mtu, header = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU, ipv6Header
	}
	size := 0
	if e := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), level, discover, do); err == nil {
			size, err = unix.GetsockoptInt(int(fd), level, mtu)
		}
	}); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, fmt.Errorf("find out how large a packet can be: %w", err)
	}
	return size - header, nil
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
