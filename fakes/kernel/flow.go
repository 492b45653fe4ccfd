package kernel

import (
	"net/netip"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

type tcpState uint8

const (
	stateOther tcpState = iota
	stateSyn
	stateEstablished
	stateClosing
)

// entry is a row of the flow table. Side 0 opened the flow.
type entry struct {
	proto      uint8
	policyPort uint16
	initiatorB bool // the initiator is side B of the key
	side       [2]side
	allEpoch   datapath.Epoch
	outcome    outcome
	translated bool // the initiator knows the other side as a service
	denied     bool
	state      tcpState
	seenNonSYN bool
	expires    time.Time
}

func (e *entry) expired(now time.Time) bool { return !now.Before(e.expires) }

// senderOf says which side sent a packet whose source became side B of the key, or not.
func (e *entry) senderOf(fromB bool) int {
	if fromB == e.initiatorB {
		return 0
	}
	return 1
}

// epochOf is the current word that makes decisions about this side stale.
func (k *Kernel) epochOf(s *side) datapath.Epoch {
	if s.way == wayPod {
		return k.epPolicy.rows[s.endpoint].Epoch
	}
	return k.addrEpoch[datapath.AddrBucket(s.addr)]
}

func (k *Kernel) stamp(e *entry) {
	e.allEpoch = k.allEpoch
	for i := range e.side {
		e.side[i].epoch = k.epochOf(&e.side[i])
	}
}

// current says whether nothing has changed since the entry's decision was recorded.
func (k *Kernel) current(e *entry) bool {
	return e.allEpoch == k.allEpoch && e.side[0].epoch == k.epochOf(&e.side[0]) && e.side[1].epoch == k.epochOf(&e.side[1])
}

// note accounts for a packet that is let through; true if it ended the flow.
func (e *entry) note(from int, p *reading, length int, now time.Time) (closed bool) {
	s := &e.side[from]
	s.packets++
	s.bytes += uint64(length)
	s.flags |= p.flags
	if e.proto == datapath.ProtoTCP {
		if from == 1 && e.state == stateSyn {
			e.state = stateEstablished
		}
		bothFin := e.side[0].flags&e.side[1].flags&datapath.TCPFin != 0
		if (bothFin || p.flags&datapath.TCPRst != 0) && e.state != stateClosing {
			e.state, closed = stateClosing, true
		}
	}
	e.expires = now.Add(e.lifetime())
	return closed
}

func (e *entry) lifetime() time.Duration {
	seconds := datapath.LifetimeOther
	switch e.state {
	case stateSyn:
		seconds = datapath.LifetimeTCPSyn
	case stateEstablished:
		seconds = datapath.LifetimeTCPEstablished
	case stateClosing:
		seconds = datapath.LifetimeTCPClosing
	}
	return time.Duration(seconds) * time.Second
}

func (e *entry) row(now time.Time) datapath.Flow {
	f := datapath.Flow{
		Src: netip.AddrPortFrom(e.side[0].addr, e.side[0].port), Dst: netip.AddrPortFrom(e.side[1].addr, e.side[1].port),
		Proto:       e.proto,
		SrcIdentity: e.side[0].identity, DstIdentity: e.side[1].identity,
		SrcEndpoint: e.side[0].endpoint, DstEndpoint: e.side[1].endpoint,
		EgressCookie: e.outcome.egressCookie, IngressCookie: e.outcome.ingressCookie,
		Denied: e.denied, Closing: e.state == stateClosing, SeenNonSYN: e.seenNonSYN,
		Expires: e.expires.Sub(now),
	}
	for i, s := range e.side {
		f.TCPFlags[i], f.Packets[i], f.Bytes[i] = s.flags, s.packets, s.bytes
	}
	return f
}

// Flows lists the flow table, most recently used first, expired rows included.
func (k *Kernel) Flows() ([]datapath.Flow, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure("list", "flows", nil); err != nil {
		return nil, err
	}
	now := k.clock.Now()
	out := make([]datapath.Flow, 0, k.flows.len())
	k.flows.each(func(_ datapath.FlowKey, e *entry) { out = append(out, e.row(now)) })
	return out, nil
}

// CollectFlows removes expired rows, those of the nat table too, which are not counted.
func (k *Kernel) CollectFlows() (int, error) {
	now := k.clock.Now()
	n, err := k.removeFlows("collect", func(e *entry) bool { return e.expired(now) })
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.collectNAT(now)
	}
	return n, err
}

// FlushFlows removes all rows.
func (k *Kernel) FlushFlows() (int, error) {
	return k.removeFlows("flush", func(*entry) bool { return true })
}

func (k *Kernel) removeFlows(op string, which func(*entry) bool) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.failure(op, "flows", nil); err != nil {
		return 0, err
	}
	n := 0
	k.flows.each(func(key datapath.FlowKey, e *entry) {
		if which(e) {
			k.flows.delete(key)
			n++
		}
	})
	return n, nil
}

// insertFlow puts an entry in place of whatever has its key; false: the table refused.
func (k *Kernel) insertFlow(key datapath.FlowKey, e *entry) bool {
	if k.failure("insert", "flows", key) != nil {
		return false
	}
	k.flows.put(key, e)
	return true
}
