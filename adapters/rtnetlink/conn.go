package rtnetlink

import (
	"encoding"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// conn is a netlink socket in the namespace where it was opened. One goroutine at a time.
type conn struct {
	nl *netlink.Conn
}

func dial() (*conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: open socket: %w", err)
	}
	// Both make the kernel more precise and are absent before Linux 4.20: errors then lack their text,
	// and dumps hold more than was asked for, which their readers expect.
	for _, o := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.GetStrictCheck} {
		if err := nl.SetOption(o, true); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			nl.Close()
			return nil, fmt.Errorf("rtnetlink: set socket option %d: %w", o, err)
		}
	}
	return &conn{nl}, nil
}

func (c *conn) close() { c.nl.Close() }

// message is what github.com/jsimonetti/rtnetlink encodes, and our link messages.
type message = encoding.BinaryMarshaler

// do sends a request that changes something and waits for the acknowledgement.
func (c *conn) do(kind uint16, flags netlink.HeaderFlags, m message) error {
	_, err := c.send(kind, flags|netlink.Acknowledge, m)
	return err
}

// get asks for one object.
func (c *conn) get(kind uint16, m message) ([]netlink.Message, error) {
	return c.send(kind, 0, m)
}

// dumpAttempts bounds how often a dump is repeated because the kernel's tables changed under it. With 250 devices, and
// a hundred that come or go in a second, every second dump is spoilt.
const dumpAttempts = 50

// dump asks for all objects that fit m. It is repeated when the kernel says that it may be
// incomplete.
func (c *conn) dump(kind uint16, m message) ([]netlink.Message, error) {
	for range dumpAttempts {
		msgs, err := c.send(kind, netlink.Dump, m)
		if err != nil {
			return nil, err
		}
		whole := true
		for _, m := range msgs {
			whole = whole && m.Header.Flags&netlink.DumpInterrupted == 0
		}
		if whole {
			return msgs, nil
		}
	}
	return nil, fmt.Errorf("kernel tables changed during each of %d dumps", dumpAttempts)
}

func (c *conn) send(kind uint16, flags netlink.HeaderFlags, m message) ([]netlink.Message, error) {
	b, err := m.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return c.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
		Data:   b,
	})
}
