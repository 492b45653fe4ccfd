package differential_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// skb is the head of struct __sk_buff, as far as test runs take it in.
type skb struct {
	Len, PktType, Mark, Queue, Protocol, VlanPresent, VlanTci, VlanProto, Priority uint32
	IngressIfindex, Ifindex, TcIndex                                               uint32
	Cb                                                                             [5]uint32
}

// What TC programs return.
const (
	tcOK       = 0
	tcShot     = 2
	tcRedirect = 7
	tcNext     = -1 // let the next program say
)

// errNotRun is a frame that this kernel makes no test runs of.
var errNotRun = errors.New("not run")

// tooShort says whether a kernel may refuse a test run: some insist on a whole IP header.
func tooShort(b []byte) bool {
	switch {
	case len(b) <= packet.EthernetLen:
		return true
	case b[12] == 8 && b[13] == 0:
		return len(b) < packet.EthernetLen+packet.IPv4Len
	case b[12] == 0x86 && b[13] == 0xdd:
		return len(b) < packet.EthernetLen+packet.IPv6Len
	}
	return false
}

// testRun gives the frame to a test run; it returns what the program returned and what became of the frame.
func (r *rig) testRun(i *injection, cb [5]uint32, notes []byte) (uint32, []byte, error) {
	if err := r.notes.Put(uint32(0), notes); err != nil {
		return 0, nil, fmt.Errorf("clear notes: %w", err)
	}
	ctx := skb{Ifindex: r.ifindex[i.Slot], Cb: cb}
	opts := &ebpf.RunOptions{Data: i.Frame, DataOut: make([]byte, len(i.Frame)+64), Context: ctx}
	code, err := r.progs[i.Hook].Run(opts)
	if errors.Is(err, unix.EINVAL) && tooShort(i.Frame) {
		return 0, nil, errNotRun
	}
	return code, opts.DataOut, err
}

// run sends a frame through a program and translates what came of it.
func (r *rig) run(i *injection) (kernel.Result, error) {
	var res kernel.Result
	var cb [5]uint32
	if i.Hook == kernel.FromOverlay && i.Remote.IsValid() {
		a := i.Remote.As4()
		cb[0], cb[1] = i.VNI, binary.BigEndian.Uint32(a[:])
	}
	notesBefore := make([]byte, notesLen)
	for n, word := range cb {
		native.PutUint32(notesBefore[noteCb+4*n:], word)
	}
	way := r.testRun
	if i.onWire() {
		way = r.transmit
	}
	code, frame, err := way(i, cb, notesBefore)
	if errors.Is(err, errNotRun) {
		return res, err
	}
	if err != nil {
		return res, fmt.Errorf("run %s on %d bytes: %w", i.Hook, len(i.Frame), err)
	}
	var raw []byte
	if raw, err = r.notes.LookupBytes(uint32(0)); err != nil {
		return res, fmt.Errorf("read notes: %w", err)
	}
	notes := readNotes(raw)
	switch {
	case code == tcShot:
		res.Action = kernel.Drop
	case code == tcOK, (i.Hook == kernel.FromNetwork || i.Hook == kernel.ToNetwork) && int32(code) == tcNext:
		res.Action, res.Frame = kernel.Pass, frame
	case code == tcRedirect && notes.redirect == redirectPeer:
		res.Action, res.Ifindex, res.Frame = kernel.RedirectPeer, notes.ifindex, frame
	case code == tcRedirect && notes.redirect == redirectOut && notes.tunnel:
		res.Action, res.Ifindex, res.Frame = kernel.Tunnel, notes.ifindex, frame
		res.VNI, res.Remote = notes.vni, notes.remote
	case code == tcRedirect && notes.redirect == redirectNeigh:
		res.Action, res.Ifindex, res.Remote, res.Frame = kernel.Direct, notes.ifindex, notes.remote, frame
	default:
		return res, fmt.Errorf("%s returned %d after %+v", i.Hook, code, notes)
	}
	// Few frames bear the address of their device: what is for this node must be made so.
	forUs := res.Action == kernel.RedirectPeer || i.Hook == kernel.FromOverlay && res.Action == kernel.Pass
	if forUs && !notes.retyped && !i.forThisMachine() {
		return res, fmt.Errorf("%s delivers a packet of another type than PACKET_HOST", i.Hook)
	}
	return res, r.sendMark()
}

// markLen is the length of the frames that tell where the events of one packet end: their drop is reported last.
const markLen = 1237

var mark = &injection{
	Hook: kernel.FromPod, Slot: slotHost,
	Frame: append(make([]byte, 12), append([]byte{0x81, 0x00}, make([]byte, markLen-14)...)...),
}

func (r *rig) sendMark() error {
	opts := &ebpf.RunOptions{Data: mark.Frame, Context: skb{Ifindex: r.ifindex[mark.Slot]}}
	if _, err := r.progs[mark.Hook].Run(opts); err != nil {
		return fmt.Errorf("run the mark: %w", err)
	}
	r.marks++
	return nil
}

// eventsOfOne returns the events up to the next mark.
func (r *rig) eventsOfOne() ([]datapath.Event, error) {
	var out []datapath.Event
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case e := <-r.events:
			if e.Length == markLen {
				r.marks--
				return out, nil
			}
			out = append(out, e)
		case <-timeout.C:
			return out, errors.New("the events of a packet did not come within 10 seconds")
		}
	}
}

// catchUp reads what a sequence left behind that ended early.
func (r *rig) catchUp() error {
	for r.marks > 0 {
		if _, err := r.eventsOfOne(); err != nil {
			return err
		}
	}
	return nil
}
