package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// monotonic reads the clock that flow entries are stamped with.
func monotonic() (uint64, error) { return readClock(unix.CLOCK_MONOTONIC_COARSE) }

func readClock(clock int32) (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read clock %d: %w", clock, err)
	}
	return uint64(ts.Nano()), nil
}

// Flows lists the flow table, expired rows included.
func (d *Datapath) Flows() ([]datapath.Flow, error) {
	now, err := monotonic()
	if err != nil {
		return nil, err
	}
	rows, err := dump[rawFlowKey, rawFlow](d.maps[mapFlows])
	if err != nil {
		return nil, tableError(mapFlows, "dump", "", err)
	}
	flows := make([]datapath.Flow, len(rows))
	for i, r := range rows {
		flows[i] = newFlow(r.key, r.value, now)
	}
	return flows, nil
}

func newFlow(k rawFlowKey, f rawFlow, now uint64) datapath.Flow {
	a := int(f.Initiator & 1)
	b := 1 - a
	src, dst := f.Side[a], f.Side[b]
	return datapath.Flow{
		Src:         netip.AddrPortFrom(k.Addr[a].any(), k.Port[a]),
		Dst:         netip.AddrPortFrom(k.Addr[b].any(), k.Port[b]),
		Proto:       k.Proto,
		SrcIdentity: identity.ID(src.Identity), DstIdentity: identity.ID(dst.Identity),
		SrcEndpoint: datapath.EndpointID(src.Endpoint), DstEndpoint: datapath.EndpointID(dst.Endpoint),
		EgressCookie: datapath.Cookie(f.EgressCookie), IngressCookie: datapath.Cookie(f.IngressCookie),
		Denied:     f.Flags&flowDenied != 0,
		Closing:    f.State == flowClosing,
		SeenNonSYN: f.Flags&flowSeenNonSYN != 0,
		TCPFlags:   [2]uint8{uint8(src.TCPFlags), uint8(dst.TCPFlags)},
		Packets:    [2]uint64{src.Packets, dst.Packets},
		Bytes:      [2]uint64{src.Bytes, dst.Bytes},
		Expires:    time.Duration(f.ExpiresNs - now),
	}
}

// CountFlows implements ports.FlowCounter.
func (d *Datapath) CountFlows() (int, error) {
	n, err := countRows[rawFlowKey, rawFlow](d.maps[mapFlows])
	return n, tableError(mapFlows, "count", "", err)
}

// CollectFlows removes the expired rows of the flow table and returns how many; those of the nat table go, too, and are not
// counted.
func (d *Datapath) CollectFlows() (int, error) {
	now, err := monotonic()
	if err != nil {
		return 0, err
	}
	if err := d.collectNAT(now); err != nil {
		return 0, err
	}
	m := d.maps[mapFlows]
	return d.removeFlows(
		func(f *rawFlow) bool { return f.ExpiresNs <= now },
		func(k *rawFlowKey) bool {
			// The row may have been renewed since it was listed: look again, just before removing it.
			var f rawFlow
			return m.Lookup(k, &f) == nil && f.ExpiresNs <= now
		})
}

// FlushFlows removes all rows of the flow table and returns how many.
func (d *Datapath) FlushFlows() (int, error) {
	return d.removeFlows(func(*rawFlow) bool { return true }, func(*rawFlowKey) bool { return true })
}

// removeFlows lists the rows that are to go, without keeping the others in memory, and removes those that still are.
func (d *Datapath) removeFlows(goes func(*rawFlow) bool, still func(*rawFlowKey) bool) (removed int, err error) {
	m := d.maps[mapFlows]
	var keys []rawFlowKey
	err = scan(m, func(k *rawFlowKey, f *rawFlow) {
		if goes(f) {
			keys = append(keys, *k)
		}
	})
	if err != nil {
		return 0, tableError(mapFlows, "dump", "", err)
	}
	for i := range keys {
		if !still(&keys[i]) {
			continue
		}
		switch err := m.Delete(&keys[i]); {
		case err == nil:
			removed++
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return removed, tableError(mapFlows, "delete", keys[i], err)
		}
	}
	return removed, nil
}
