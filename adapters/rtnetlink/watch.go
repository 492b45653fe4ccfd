package rtnetlink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/devices"
)

// watchBuffer is how many bytes of news may wait. More are lost, which the kernel tells.
const watchBuffer = 1 << 20

var watchGroups = []uint32{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// WatchLinks implements ports.Network.
func (n *Network) WatchLinks(ctx context.Context, changed func()) error {
	if err := n.watchLinks(ctx, changed, watchBuffer); err != nil {
		return fmt.Errorf("watch the node's devices: %w", err)
	}
	return nil
}

func (n *Network) watchLinks(ctx context.Context, changed func(), buffer int) error {
	var c *conn
	err := enter(n.netns, func() (err error) {
		c, err = dial()
		return err
	})
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.nl.SetReadBuffer(buffer); err != nil {
		return fmt.Errorf("set buffer of %d bytes: %w", buffer, err)
	}
	for _, g := range watchGroups {
		if err := c.nl.JoinGroup(g); err != nil {
			return fmt.Errorf("join group %d: %w", g, err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.nl.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	w := watcher{}
	for fresh := true; ctx.Err() == nil; {
		if fresh {
			if err := n.node(w.list); err != nil {
				return err
			}
			changed()
			fresh = false
		}
		msgs, err := c.nl.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			fresh = true // whatever was lost, the list has it
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case w.news(msgs):
			changed()
		}
	}
	return nil
}

// watcher tells news from what happens to pods' links. It knows the indexes of all other devices.
type watcher map[uint32]bool

// list begins anew with the devices there are.
func (w watcher) list(c *conn) error {
	links, err := c.links("")
	if err != nil {
		return err
	}
	clear(w)
	for _, l := range links {
		if !devices.IsPods(l.name) {
			w[l.index] = true
		}
	}
	return nil
}

// news says whether one of the messages may be about a device that is not of pods. All of them are taken in.
func (w watcher) news(msgs []netlink.Message) bool {
	out := false
	for _, m := range msgs {
		out = w.isNews(m) || out
	}
	return out
}

func (w watcher) isNews(m netlink.Message) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		var l link
		if l.decode(m.Data) != nil {
			return true // it can't be said
		}
		was := w[l.index]
		if m.Data[0] == unix.AF_BRIDGE {
			return was // it came to a bridge or left it, and stays
		}
		if m.Header.Type == unix.RTM_NEWLINK && !devices.IsPods(l.name) {
			w[l.index] = true
			return true
		}
		delete(w, l.index)
		return was
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		var am rtnetlink.AddressMessage
		return am.UnmarshalBinary(m.Data) != nil || w[am.Index]
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		var rm rtnetlink.RouteMessage
		return rm.UnmarshalBinary(m.Data) != nil || rm.DstLength == 0 && rm.Table == unix.RT_TABLE_MAIN
	}
	return false
}
