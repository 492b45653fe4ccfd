package ebpf

import (
	"errors"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/core/datapath"
)

func newTuple(t rawTuple) datapath.Tuple {
	return datapath.Tuple{
		Src: netip.AddrPortFrom(t.Src.any(), t.Sport), Dst: netip.AddrPortFrom(t.Dst.any(), t.Dport), Proto: t.Proto,
	}
}

// Translations implements ports.Translator.
func (d *Datapath) Translations() ([]datapath.Translation, error) {
	now, err := monotonic()
	if err != nil {
		return nil, err
	}
	rows, err := dump[rawTuple, rawNAT](d.maps[mapNAT])
	if err != nil {
		return nil, tableError(mapNAT, "dump", "", err)
	}
	out := make([]datapath.Translation, len(rows))
	for i, r := range rows {
		out[i] = datapath.Translation{
			From: newTuple(r.key), To: newTuple(r.value.To), Reply: r.value.Kind == natReply,
			State: datapath.NATState(r.value.State), Here: r.value.Here != 0, Backend: r.value.Backend, Ifindex: r.value.Ifindex,
			Node: r.value.Node.addr(), Expires: time.Duration(r.value.ExpiresNs - now),
		}
	}
	return out, nil
}

// collectNAT removes the expired rows of the nat table.
func (d *Datapath) collectNAT(now uint64) error {
	m := d.maps[mapNAT]
	var keys []rawTuple
	err := scan(m, func(k *rawTuple, n *rawNAT) {
		if n.ExpiresNs <= now {
			keys = append(keys, *k)
		}
	})
	if err != nil {
		return tableError(mapNAT, "dump", "", err)
	}
	for i := range keys {
		var n rawNAT // it may have been renewed since it was listed
		if m.Lookup(&keys[i], &n) != nil || n.ExpiresNs > now {
			continue
		}
		if err := m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return tableError(mapNAT, "delete", keys[i], err)
		}
	}
	return nil
}
