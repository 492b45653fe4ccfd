package ports

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/prefix"
)

// Masquerade gives traffic of pods the node's address where it leaves the cluster, and their answers the
// pod's again.
type Masquerade interface {
	// SyncMasquerade makes the rules exactly these, in one step, and restores them where somebody changed
	// them; without sources there are none. Connections that are translated stay so.
	SyncMasquerade(r MasqueradeRules) error
	// Masqueraded is what is in force now, in the form of MasqueradeRules.Normal. What somebody changed is not
	// in force.
	Masqueraded() (MasqueradeRules, error)
}

// MasqueradeRules say which packets get the node's address: those from Sources to anything but Inside that
// leave by one of Devices.
type MasqueradeRules struct {
	Sources []netip.Prefix `json:"sources,omitempty"` // pods of this node
	Inside  []netip.Prefix `json:"inside,omitempty"`  // what sees their own addresses
	// Devices are names; a + at the end stands for the rest of one. None: all devices that are not weir's.
	Devices []string `json:"devices,omitempty"`
}

// Normal is the one way to write rules among several that mean the same: sorted, each address once, and
// nothing but zeros without sources.
func (r MasqueradeRules) Normal() MasqueradeRules {
	sources := prefix.Aggregate(r.Sources)
	if len(sources) == 0 {
		return MasqueradeRules{}
	}
	devices := slices.Sorted(slices.Values(r.Devices))
	if len(devices) == 0 {
		devices = nil
	}
	return MasqueradeRules{Sources: sources, Inside: prefix.Aggregate(r.Inside), Devices: slices.Compact(devices)}
}

// Equal says whether rules mean the same.
func (r MasqueradeRules) Equal(o MasqueradeRules) bool {
	a, b := r.Normal(), o.Normal()
	return slices.Equal(a.Sources, b.Sources) && slices.Equal(a.Inside, b.Inside) && slices.Equal(a.Devices, b.Devices)
}
