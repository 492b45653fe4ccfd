package rtnetlink

import (
	"errors"
	"fmt"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Remove takes everything of ours off the node: pod links, the overlay's devices, and the routes on
// devices of others. What is absent is no error; devices that are not of our kind are left alone.
func (n *Network) Remove() error {
	err := n.node(func(c *conn) error {
		var errs []error
		all, err := c.links("")
		if err != nil {
			return err
		}
		for i := range all {
			l := &all[i]
			switch {
			case l.kind == kindVeth && (l.name == DeviceHost || datapath.IsHostDeviceName(l.name)),
				l.kind == kindVXLAN && l.name == DeviceVXLAN:
				err = c.deleteLink(l)
			case l.name == DeviceNet:
				continue // goes with its other end
			default:
				err = c.removeRoutes(l)
			}
			if !errors.Is(err, ports.ErrNotFound) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("remove the network: %w", err)
	}
	return nil
}

// removeRoutes removes our routes on a device that stays.
func (c *conn) removeRoutes(l *link) error {
	have, err := c.routes(l)
	if err != nil || len(have) == 0 {
		return err
	}
	return c.setRoutes(l, nil)
}
