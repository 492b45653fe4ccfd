package runtime

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// devicesPause is the least time between two looks at the devices: what happens meanwhile is one change.
const devicesPause = 100 * time.Millisecond

// nodeDevices follows the node's devices. It is the loop's.
type nodeDevices struct {
	home   devices.Home
	node   []netip.Addr   // the node's addresses, as the cluster says
	choice devices.Choice // in force
	moved  []string       // what can't be followed

	stale  bool // something may have changed
	looked time.Time
	stall  stall
}

// lookAtDevices lists the node's devices and chooses those on which services are served to the network.
func (a *agent) lookAtDevices() ([]devices.Link, devices.Choice, error) {
	links, err := a.deps.Network.Links()
	if err != nil || !a.servesNetwork() {
		return links, devices.Choice{}, err
	}
	return links, devices.Choose(links, devices.Wanted{Names: a.cfg.NodePorts.Devices, Node: a.devices.node}), nil
}

// openDevices takes the devices that there are when the datapath is opened.
func (a *agent) openDevices(links *ports.OverlayLinks) error {
	d := &a.devices
	d.node, d.stale = a.self.Addresses, true
	all, choice, err := a.lookAtDevices()
	if err != nil {
		return err
	}
	d.home, d.choice = devices.Settle(d.node, all), choice
	if a.servesNetwork() {
		links.Outside = ports.Outside{Devices: choice.Indexes(), Addresses: d.home.Addresses}
	}
	return nil
}

// keepDevices follows what has changed and says when to call again; the zero time: when something has.
func (a *agent) keepDevices(now time.Time) time.Time {
	d := &a.devices
	if !d.stale {
		return time.Time{}
	}
	if next := later(d.looked.Add(devicesPause), d.stall.next); now.Before(next) {
		return next
	}
	d.looked, d.stale = now, false
	if err := a.followDevices(); err != nil {
		if d.stall.err == nil || d.stall.err.Error() != err.Error() {
			a.deps.Log.Error("devices of the node", "err", err)
		}
		d.stale = true
		d.stall.fail(now, err)
		return d.stall.next
	}
	d.stall.clear()
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// followDevices brings programs and addresses to where the devices are.
func (a *agent) followDevices() error {
	d := &a.devices
	links, choice, err := a.lookAtDevices()
	if err != nil {
		return err
	}
	a.noteMoved(d.home.Moved(d.node, links))
	if !a.servesNetwork() {
		return nil
	}
	was := d.choice
	d.choice = choice
	if text := choice.String(); text != was.String() {
		a.deps.Log.Info("services are served to other devices", "devices", text, "before", was.String())
	}
	// Programs first: at an address without any, nothing is served. Each time, as a device may have gone and come back with its
	// index.
	err = a.dp.AttachNetwork(choice.Indexes())
	a.tellAddresses()
	return err
}

// tellAddresses lets the addresses of the devices in force be the node's own.
func (a *agent) tellAddresses() {
	if a.servesNetwork() {
		a.apply(engine.DeviceAddresses{Addresses: a.devices.choice.Addresses()})
	}
}

// noteMoved logs what can't be followed, once.
func (a *agent) noteMoved(moved []string) {
	for _, m := range moved {
		if !slices.Contains(a.devices.moved, m) {
			a.deps.Log.Error("the node's main address moved", "what", m)
		}
	}
	a.devices.moved = moved
}

// problems are for `weir status`.
func (d *nodeDevices) problems() []string {
	out := slices.Clone(d.moved)
	if d.stall.err != nil {
		out = append(out, fmt.Sprintf("devices of the node: %v", d.stall.err))
	}
	return out
}
