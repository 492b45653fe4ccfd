package rtnetlink

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

const (
	kindVeth  = "veth"
	kindVXLAN = "vxlan"
)

// Numbers of linux/veth.h and linux/rtnetlink.h that golang.org/x/sys/unix does not name.
const (
	vethInfoPeer   = 1
	rtextSkipStats = 1 << 3
	sizeofRtgenmsg = 4 // one byte, padded
	operStateUp    = 6
)

// samePlace stands for the number of the other side's namespace when it is the same as ours.
const samePlace = -2

// link is what we read of a device.
type link struct {
	index     uint32
	flags     uint32
	name      string
	kind      string
	mtu       uint32
	mac       datapath.MAC
	peer      uint32 // index of a veth's other side, in its own namespace
	peerNSID  int32  // the namespace of the other side as numbered by ours
	data      []byte // attributes of the kind
	queueDisc string
	operState uint8 // of RFC 2863
}

func (l *link) up() bool { return l.flags&unix.IFF_UP != 0 }

// operational says whether the kernel sends on the device; it takes a moment after carrier is there.
func (l *link) operational() bool { return l.operState == operStateUp }

func (l *link) decode(b []byte) error {
	if len(b) < unix.SizeofIfInfomsg {
		return fmt.Errorf("link message of %d bytes is too short", len(b))
	}
	l.index = native.Uint32(b[4:8])
	l.flags = native.Uint32(b[8:12])
	l.peerNSID = samePlace
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.name = ad.String()
		case unix.IFLA_MTU:
			l.mtu = ad.Uint32()
		case unix.IFLA_ADDRESS:
			if a := ad.Bytes(); len(a) == len(l.mac) {
				l.mac = datapath.MAC(a)
			}
		case unix.IFLA_LINK:
			l.peer = ad.Uint32()
		case unix.IFLA_LINK_NETNSID:
			l.peerNSID = ad.Int32()
		case unix.IFLA_OPERSTATE:
			l.operState = ad.Uint8()
		case unix.IFLA_QDISC:
			l.queueDisc = ad.String()
		case unix.IFLA_LINKINFO:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch ad.Type() {
					case unix.IFLA_INFO_KIND:
						l.kind = ad.String()
					case unix.IFLA_INFO_DATA:
						l.data = append([]byte(nil), ad.Bytes()...)
					}
				}
				return nil
			})
		}
	}
	return ad.Err()
}

// linkRequest creates or changes a device. Zero fields are not sent.
type linkRequest struct {
	index       uint32
	flags, mask uint32
	name        string
	mtu         uint32
	mac         datapath.MAC
	netnsFD     int // > 0: make it in that namespace
	kind        string
	data        func(*netlink.AttributeEncoder) error
}

func (r linkRequest) MarshalBinary() ([]byte, error) {
	b := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(b[4:8], r.index)
	native.PutUint32(b[8:12], r.flags)
	native.PutUint32(b[12:16], r.mask)
	ae := netlink.NewAttributeEncoder()
	if r.name != "" {
		ae.String(unix.IFLA_IFNAME, r.name)
	}
	if r.mtu != 0 {
		ae.Uint32(unix.IFLA_MTU, r.mtu)
	}
	if r.mac != (datapath.MAC{}) {
		ae.Bytes(unix.IFLA_ADDRESS, r.mac[:])
	}
	if r.netnsFD > 0 {
		ae.Uint32(unix.IFLA_NET_NS_FD, uint32(r.netnsFD))
	}
	if r.kind != "" {
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, r.kind)
			if r.data != nil {
				ae.Nested(unix.IFLA_INFO_DATA, r.data)
			}
			return nil
		})
	}
	a, err := ae.Encode()
	return append(b, a...), err
}

// linkQuery reads devices: one by name, one by index, or all.
type linkQuery struct {
	index uint32
	name  string
	kind  string
}

func (q linkQuery) MarshalBinary() ([]byte, error) {
	b := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(b[4:8], q.index)
	ae := netlink.NewAttributeEncoder()
	if q.name != "" {
		ae.String(unix.IFLA_IFNAME, q.name)
	}
	ae.Uint32(unix.IFLA_EXT_MASK, rtextSkipStats)
	if q.kind != "" {
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, q.kind)
			return nil
		})
	}
	a, err := ae.Encode()
	return append(b, a...), err
}

// link reads a device by name; ports.ErrNotFound if there is none.
func (c *conn) link(name string) (*link, error) { return c.readLink(name, linkQuery{name: name}) }

// linkByIndex reads a device by index; ports.ErrNotFound if there is none.
func (c *conn) linkByIndex(index uint32) (*link, error) {
	return c.readLink(fmt.Sprintf("with index %d", index), linkQuery{index: index})
}

func (c *conn) readLink(what string, q linkQuery) (*link, error) {
	msgs, err := c.get(unix.RTM_GETLINK, q)
	if errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("link %s: %w", what, ports.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: read: %w", what, err)
	}
	if len(msgs) == 0 {
		return nil, fmt.Errorf("link %s: read: the kernel gave no answer", what)
	}
	l := &link{}
	if err := l.decode(msgs[0].Data); err != nil {
		return nil, fmt.Errorf("link %s: read: %w", what, err)
	}
	return l, nil
}

// links lists devices of a kind; "" is all.
func (c *conn) links(kind string) ([]link, error) {
	msgs, err := c.dump(unix.RTM_GETLINK, linkQuery{kind: kind})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var ls []link
	for _, m := range msgs {
		var l link
		if err := l.decode(m.Data); err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		if kind == "" || l.kind == kind {
			ls = append(ls, l)
		}
	}
	return ls, nil
}

func (c *conn) newLink(r linkRequest) error {
	err := c.do(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, r)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link %s: make: %w: %w", r.name, ports.ErrConflict, err)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("link %s: make: the kernel has no %s devices: %w: %w", r.name, r.kind, ports.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("link %s: make: %w", r.name, err)
	}
	return nil
}

// shape is how a device must be. MTU 0 and MAC 0 leave that as it is.
type shape struct {
	mtu   uint32
	mac   datapath.MAC
	noARP bool
}

// setShape changes what differs. The address is changed before the device is up, since neighbour
// entries would otherwise be lost.
func (c *conn) setShape(l *link, s shape) error {
	r := linkRequest{index: l.index}
	if s.mtu != 0 && s.mtu != l.mtu {
		r.mtu = s.mtu
	}
	if s.mac != (datapath.MAC{}) && s.mac != l.mac {
		r.mac = s.mac
	}
	if s.noARP && l.flags&unix.IFF_NOARP == 0 {
		r.flags, r.mask = unix.IFF_NOARP, unix.IFF_NOARP
	}
	if r.mtu == 0 && r.mac == (datapath.MAC{}) && r.mask == 0 {
		return nil
	}
	if err := c.do(unix.RTM_NEWLINK, 0, r); err != nil {
		return fmt.Errorf("link %s: set MTU, address and flags: %w", l.name, err)
	}
	return nil
}

func (c *conn) setUp(l *link) error {
	if l.up() {
		return nil
	}
	if err := c.do(unix.RTM_NEWLINK, 0, linkRequest{index: l.index, flags: unix.IFF_UP, mask: unix.IFF_UP}); err != nil {
		return fmt.Errorf("link %s: take up: %w", l.name, err)
	}
	return nil
}

// deleteLink removes a device; absent is no error.
func (c *conn) deleteLink(l *link) error {
	err := c.do(unix.RTM_DELLINK, 0, linkRequest{index: l.index})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("link %s: delete: %w", l.name, err)
	}
	return nil
}

// nsidQuery asks how the namespace of the socket numbers another one.
type nsidQuery struct{ fd int }

func (q nsidQuery) MarshalBinary() ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(unix.NETNSA_FD, uint32(q.fd))
	a, err := ae.Encode()
	return append(make([]byte, sizeofRtgenmsg), a...), err
}

// nsid gives the number of the namespace that fd refers to, unix.NETNSA_NSID_NOT_ASSIGNED if it has none here.
func (c *conn) nsid(fd int) (int32, error) {
	msgs, err := c.get(unix.RTM_GETNSID, nsidQuery{fd})
	if err != nil {
		return 0, fmt.Errorf("number of the pod's network namespace: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) < sizeofRtgenmsg {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[sizeofRtgenmsg:])
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == unix.NETNSA_NSID {
				return ad.Int32(), nil
			}
		}
	}
	return unix.NETNSA_NSID_NOT_ASSIGNED, nil
}
