package rtnetlink

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// The kernel finishes some work after it has acknowledged a request. Both waits below are over in a
// few milliseconds, unless the kernel is busy.
const (
	awaitTimeout = 5 * time.Second
	awaitPoll    = time.Millisecond
)

// await asks done until it says so, or fails, or the time is over; the error then is late.
func await(done func() (bool, error), late error) error {
	for deadline := time.Now().Add(awaitTimeout); ; time.Sleep(awaitPoll) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w after %s", late, awaitTimeout)
		}
	}
}

// awaitOperational waits until the kernel sends on the pod's side. It notices the carrier that the
// host side's going up brings at its leisure, and drops until then what the pod sends. A pod that has
// just started must not lose its first packet.
func (c *conn) awaitOperational(name string) error {
	return await(func() (bool, error) {
		l, err := c.link(name)
		if err != nil {
			return false, err
		}
		if !l.up() {
			return false, fmt.Errorf("link %s in the pod: is down", name)
		}
		return l.operational(), nil
	}, fmt.Errorf("link %s in the pod: still without carrier", name))
}

// awaitLocal waits until the namespace receives what is sent to its addresses: for IPv6 the kernel
// makes the route that says so in the background.
func (c *conn) awaitLocal(addrs []netip.Addr) error {
	for _, a := range addrs {
		if a.Is4() {
			continue
		}
		err := await(func() (bool, error) { return c.isLocal(a) }, fmt.Errorf("address %s: still not in use", a))
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) isLocal(a netip.Addr) (bool, error) {
	msgs, err := c.get(unix.RTM_GETROUTE, &rtnetlink.RouteMessage{
		Family:     family(a),
		DstLength:  uint8(a.BitLen()),
		Attributes: rtnetlink.RouteAttributes{Dst: netIP(a)},
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("address %s: look up its route: %w", a, err)
	}
	for _, m := range msgs {
		var rm rtnetlink.RouteMessage
		if err := rm.UnmarshalBinary(m.Data); err != nil {
			return false, fmt.Errorf("address %s: look up its route: %w", a, err)
		}
		if rm.Type == unix.RTN_LOCAL {
			return true, nil
		}
	}
	return false, nil
}
