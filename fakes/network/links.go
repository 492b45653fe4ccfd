package network

import (
	"context"
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/devices"
)

// Links implements ports.Network: the loopback device, what was made here, and what SetLinks gave.
func (n *Network) Links() ([]devices.Link, error) {
	err := n.begin("Links", "")
	defer n.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("links: %w", err)
	}
	out := []devices.Link{{Index: 1, Name: "lo", Loopback: true, Up: true}}
	if o := n.overlay; o != nil {
		out = append(out, devices.Link{Index: o.links.Host, Name: "cilium_host", Ethernet: true, Up: true, Addresses: slices.Clone(o.asked.Routers)})
	}
	for _, l := range n.links {
		l.Addresses = slices.Clone(l.Addresses)
		out = append(out, l)
	}
	return out, nil
}

// SetLinks makes the node's other devices exactly these, and tells who watches.
func (n *Network) SetLinks(links ...devices.Link) {
	n.mu.Lock()
	n.links = slices.Clone(links)
	n.mu.Unlock()
	n.tell()
}

// WatchLinks implements ports.Network.
func (n *Network) WatchLinks(ctx context.Context, changed func()) error {
	err := n.begin("WatchLinks", "")
	if err == nil {
		n.watchers[&changed] = true
	}
	n.mu.Unlock()
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, &changed)
	}()
	changed()
	<-ctx.Done()
	return nil
}

func (n *Network) tell() {
	n.mu.Lock()
	var all []func()
	for f := range n.watchers {
		all = append(all, *f)
	}
	n.mu.Unlock()
	for _, f := range all {
		f()
	}
}
