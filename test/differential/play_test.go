package differential_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

var native = binary.NativeEndian

// difference is where the two datapaths part.
type difference struct {
	at   int // index of the op
	what string
}

func (d *difference) String() string { return fmt.Sprintf("after op %d: %s", d.at, d.what) }

// tally counts what sequences consisted of, so that a test can tell whether it tested anything.
type tally struct {
	packets  int
	calls    int             // of sockets
	distinct map[uint64]bool // packets, see look.print
	counts   map[string]int  // by class: verdicts, events, shapes
}

func newTally() *tally { return &tally{distinct: map[uint64]bool{}, counts: map[string]int{}} }

func (x *tally) add(y *tally) {
	x.packets += y.packets
	x.calls += y.calls
	maps.Copy(x.distinct, y.distinct)
	for k, n := range y.counts {
		x.counts[k] += n
	}
}

// met notes a packet that both datapaths were given.
func (x *tally) met(i *injection) {
	look := lookAt(i)
	x.distinct[look.print(i)] = true
	for _, shape := range look.shapes {
		x.counts[shape]++
	}
}

// Real time goes on while the fake clock stands still: a sequence that took longer than this may differ for
// that alone, because times are whole seconds.
const patience = 700 * time.Millisecond

// play lets the ops happen to the kernel's datapath and to a fresh fake, and compares after each.
func (r *rig) play(ops []op, seen *tally) (*difference, error) {
	for try := 0; ; try++ {
		start := time.Now()
		count := newTally()
		d, err := r.playOnce(ops, count)
		if took := time.Since(start); err == nil && d != nil && took > patience {
			if try < 20 {
				continue
			}
			d.what += fmt.Sprintf("\n(the sequence took %v: the difference may be due to that alone)", took)
		}
		if seen != nil {
			seen.add(count)
		}
		return d, err
	}
}

func (r *rig) playOnce(ops []op, seen *tally) (*difference, error) {
	if err := r.reset(); err != nil {
		return nil, err
	}
	if err := r.catchUp(); err != nil {
		return nil, err
	}
	start, c := time.Now(), clock.New(clock.Epoch)
	k := kernel.New(kernel.Options{Clock: c, Overlay: r.ifindex[slotOverlay], Direct: r.ifindex[slotNetwork], Netns: nodeNetns, Choose: r.choose, Outside: r.outside()})
	var waiting []outcome
	// settle compares the outcomes whose events have come, until at most so many wait.
	settle := func(most int) (*difference, error) {
		for len(waiting) > most {
			events, err := r.eventsOfOne()
			if err != nil {
				return nil, fmt.Errorf("op %d: %s: %w", waiting[0].at, ops[waiting[0].at], err)
			}
			x := waiting[0]
			waiting = waiting[1:]
			x.real.Events = events
			if what := x.compare(seen); what != "" {
				return &difference{x.at, what}, nil
			}
		}
		return nil, nil
	}
	for i, o := range ops {
		if o.Call != nil {
			what, err := r.call(o.Call, k, seen)
			if err != nil {
				return nil, fmt.Errorf("op %d: %s: %w", i, o, err)
			}
			if what != "" {
				return &difference{i, what}, nil
			}
			continue
		}
		if o.Packet == nil {
			err := r.apply(o, k, c)
			if m := (*miscount)(nil); errors.As(err, &m) {
				return &difference{i, m.Error()}, nil
			}
			if err != nil {
				return nil, fmt.Errorf("op %d: %s: %w", i, o, err)
			}
			continue
		}
		x, err := r.inject(o.Packet, k)
		if errors.Is(err, errNotRun) {
			seen.counts["not run: too short for this kernel"]++
			continue
		}
		if err == nil {
			seen.met(o.Packet)
			seen.rewritten(o.Packet, x.real.Frame)
			x.at = i
			waiting = append(waiting, x)
			x.flows, err = r.compareFlows(k, start)
		}
		if err == nil && x.flows == "" {
			x.flows, err = r.compareNAT(k, start, seen)
		}
		if err != nil {
			return nil, fmt.Errorf("op %d: %s: %w", i, o, err)
		}
		most := maxWaiting
		if x.flows != "" || x.real.Action != x.fake.Action {
			most = 0
		}
		if d, err := settle(most); err != nil || d != nil {
			return d, err
		}
		if x.flows != "" {
			return &difference{i, x.flows}, nil
		}
	}
	if d, err := settle(0); err != nil || d != nil {
		return d, err
	}
	what, err := r.compareCounters(k)
	if err != nil || what == "" {
		return nil, err
	}
	return &difference{len(ops) - 1, what}, nil
}

// write changes a table of both sides.
func write[K comparable, V any](r *rig, c *change[K, V], real, fake ports.Table[K, V], value V) error {
	if c.Value == nil {
		if err := real.Delete(c.Key); err != nil {
			return err
		}
		return fake.Delete(c.Key)
	}
	r.undo[fmt.Sprint(real.Name(), c.Key)] = func() error { return real.Delete(c.Key) }
	if err := real.Put(c.Key, value); err != nil {
		return err
	}
	return fake.Put(c.Key, value)
}

func valueOf[K comparable, V any](c *change[K, V]) (v V) {
	if c.Value != nil {
		v = *c.Value
	}
	return v
}

func (r *rig) apply(o op, k *kernel.Kernel, c *clock.Clock) error {
	fake := k.Tables()
	switch {
	case o.Endpoint != nil:
		ep := valueOf(o.Endpoint)
		if !ep.Host && ep.Ifindex < slots {
			ep.Ifindex = r.ifindex[ep.Ifindex]
		}
		return write(r, o.Endpoint, r.tables.Endpoints, fake.Endpoints, ep)
	case o.Word != nil:
		return write(r, o.Word, r.tables.EndpointPolicy, fake.EndpointPolicy, valueOf(o.Word))
	case o.IPCache != nil:
		return write(r, o.IPCache, r.tables.IPCache, fake.IPCache, valueOf(o.IPCache))
	case o.Class != nil:
		return write(r, o.Class, r.tables.Classes, fake.Classes, valueOf(o.Class))
	case o.Policy != nil:
		return write(r, o.Policy, r.tables.Policy, fake.Policy, valueOf(o.Policy))
	case o.Node != nil:
		return write(r, o.Node, r.tables.Nodes, fake.Nodes, valueOf(o.Node))
	case o.Service != nil:
		return write(r, o.Service, r.tables.Services, fake.Services, valueOf(o.Service))
	case o.SlotRow != nil:
		return write(r, o.SlotRow, r.tables.Slots, fake.Slots, valueOf(o.SlotRow))
	case o.Backend != nil:
		return write(r, o.Backend, r.tables.Backends, fake.Backends, valueOf(o.Backend))
	case o.BumpAddr != nil:
		return both(r.real.BumpAddr(*o.BumpAddr), k.BumpAddr(*o.BumpAddr))
	case o.BumpAll:
		return both(r.real.BumpAll(), k.BumpAll())
	case o.Flush:
		return sameCount(r.real.FlushFlows, k.FlushFlows)
	case o.Collect:
		return sameCount(r.real.CollectFlows, k.CollectFlows)
	case o.Advance != 0:
		d := secondsOf(o.Advance)
		c.Advance(d)
		return errors.Join(r.age(d), r.ageNAT(d), r.ageAffinity(d))
	}
	return nil
}

func secondsOf(n int) time.Duration { return time.Duration(n) * time.Second }

func both(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// miscount is a difference between the datapaths, not an error of either: like others it may be due to time.
type miscount struct{ real, fake int }

func (m *miscount) Error() string {
	return fmt.Sprintf("%d flows removed from the kernel, %d from the fake", m.real, m.fake)
}

func sameCount(real, fake func() (int, error)) error {
	a, err := real()
	if err != nil {
		return err
	}
	b, err := fake()
	if err == nil && a != b {
		err = &miscount{a, b}
	}
	return err
}

// outcome is what became of one packet; its events come a little later.
type outcome struct {
	at         int
	hook       kernel.Hook
	real, fake kernel.Result
	flows      string // how the flow tables differ
}

// maxWaiting is how many packets may run before the events of the first are read. Waiting for each would
// take most of the time. The ring holds more.
const maxWaiting = 50

// inject sends a packet through both.
func (r *rig) inject(i *injection, k *kernel.Kernel) (outcome, error) {
	real, err := r.run(i)
	if err != nil {
		return outcome{}, err
	}
	before := bytes.Clone(i.Frame)
	frame, vlan := i.asSeen()
	fake := k.Inject(i.Hook, r.ifindex[i.Slot], frame, kernel.Meta{
		VNI: i.VNI, Remote: i.Remote, VLAN: vlan, Stray: i.stray(), Split: i.split(), Socket: true,
	})
	if !bytes.Equal(before, i.Frame) {
		return outcome{}, errors.New("the fake changed the frame that it was given")
	}
	k.Inject(mark.Hook, r.ifindex[mark.Slot], mark.Frame, kernel.Meta{})
	return outcome{hook: i.Hook, real: real, fake: fake}, nil
}

// compare says how the outcomes differ.
func (x *outcome) compare(seen *tally) string {
	what := x.real.Action.String()
	for _, e := range x.real.Events {
		if e.Type == datapath.EventDrop {
			x.real.Reason = e.Reason
		}
		seen.counts[fmt.Sprint(x.hook, " type ", e.Type, " reply ", e.Reply)]++
	}
	if x.real.Action == kernel.Drop {
		what = fmt.Sprint(what, " ", x.real.Reason)
	}
	seen.packets++
	seen.counts[fmt.Sprint(x.hook, " ", what)]++
	return compareResults(x.real, x.fake)
}

func compareResults(real, fake kernel.Result) string {
	var b strings.Builder
	if real.Action != fake.Action || real.Ifindex != fake.Ifindex || real.VNI != fake.VNI || real.Remote != fake.Remote || real.Reason != fake.Reason {
		fmt.Fprintf(&b, "verdict\n  kernel %s (ifindex %d)\n  fake   %s (ifindex %d)\n", real, real.Ifindex, fake, fake.Ifindex)
	}
	if !bytes.Equal(real.Frame, fake.Frame) {
		fmt.Fprintf(&b, "frame\n  kernel %s\n  fake   %s\n", digits(real.Frame), digits(fake.Frame))
	}
	realEvents, fakeEvents := timeless(real.Events), timeless(fake.Events)
	if !slices.Equal(realEvents, fakeEvents) {
		b.WriteString("events\n")
		for _, e := range realEvents {
			fmt.Fprintf(&b, "  kernel %+v\n", e)
		}
		for _, e := range fakeEvents {
			fmt.Fprintf(&b, "  fake   %+v\n", e)
		}
	}
	return b.String()
}

func timeless(events []datapath.Event) []datapath.Event {
	out := slices.Clone(events)
	for i := range out {
		out[i].Time, out[i].Timestamp = time.Time{}, 0
	}
	return out
}

// flowKey orders flows.
type flowKey struct {
	src, dst netip.AddrPort
	proto    uint8
}

func flowsByKey(rows []datapath.Flow) map[flowKey]datapath.Flow {
	out := map[flowKey]datapath.Flow{}
	for _, f := range rows {
		out[flowKey{f.Src, f.Dst, f.Proto}] = f
	}
	return out
}

// compareFlows is about a sequence that began at start.
func (r *rig) compareFlows(k *kernel.Kernel, start time.Time) (string, error) {
	rows, err := r.real.Flows()
	if err != nil {
		return "", err
	}
	fakes, err := k.Flows()
	if err != nil {
		return "", err
	}
	real, fake := flowsByKey(rows), flowsByKey(fakes)
	var b strings.Builder
	for key, f := range fake {
		g, ok := real[key]
		if !ok {
			fmt.Fprintf(&b, "flow\n  only in the fake %+v\n", f)
			continue
		}
		delete(real, key)
		late := f.Expires - g.Expires // time went on in the kernel
		if f.Expires <= 0 && g.Expires <= 0 {
			late = 0 // a machine may not be up for as long as the entry is old
		}
		f.Expires, g.Expires = 0, 0
		if f != g {
			fmt.Fprintf(&b, "flow\n  kernel %+v\n  fake   %+v\n", g, f)
		}
		if late < -50*time.Millisecond || late > time.Since(start)+50*time.Millisecond {
			fmt.Fprintf(&b, "flow %+v\n  expires in the kernel %v earlier than in the fake\n", f, late)
		}
	}
	for _, f := range real {
		fmt.Fprintf(&b, "flow\n  only in the kernel %+v\n", f)
	}
	return b.String(), nil
}

func (r *rig) compareCounters(k *kernel.Kernel) (string, error) {
	rows, err := k.Counters()
	if err != nil {
		return "", err
	}
	fake := byKey(rows)
	real, err := r.count()
	if err != nil {
		return "", err
	}
	for key, c := range real {
		before := r.counters[key]
		c.Packets, c.Bytes = c.Packets-before.Packets, c.Bytes-before.Bytes
		real[key] = c
		if c.Packets == 0 {
			delete(real, key)
		}
	}
	var b strings.Builder
	for key, c := range fake {
		if real[key] != c {
			fmt.Fprintf(&b, "counter\n  kernel %+v\n  fake   %+v\n", real[key], c)
		}
		delete(real, key)
	}
	for _, c := range real {
		fmt.Fprintf(&b, "counter\n  only in the kernel %+v\n", c)
	}
	return b.String(), nil
}
