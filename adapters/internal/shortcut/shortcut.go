// Package shortcut takes IPv4 packets past the stacks of nodes by one lookup of their destination: no policy, no flows, no
// events, not even a check of the packet. It is the measure of what programs at weir's hooks could reach that did nothing
// else.
package shortcut

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// Hop is where packets to one address go: to the neighbour Address, of this Family, on the device; or into the pod behind
// the device with the two Ethernet addresses that Address begins with. It begins with the kernel's struct bpf_redir_neigh.
type Hop struct {
	Family  uint32
	Address [16]byte
	Ifindex uint32
}

// Hops are by IPv4 destination, as it lies on the wire.
type Hops map[[4]byte]Hop

const (
	hopAddress = 4
	hopIfindex = 20
	hopLen     = 24
	neighLen   = 20
)

// Shortcut is the programs of any number of nodes. It is for one goroutine.
type Shortcut struct {
	links []link.Link
}

// Close takes the programs off.
func (s *Shortcut) Close() {
	for _, l := range s.links {
		_ = l.Close()
	}
	s.links = nil
}

// Attach attaches the programs to a node, whose namespace the calling thread is in: what comes in by the device out goes
// into the pods, what the pods send to the others' addresses goes there. ports.ErrUnsupported: the kernel is older than 6.6.
func (s *Shortcut) Attach(out uint32, pods, others Hops) error {
	var devices []uint32
	for _, p := range pods {
		devices = append(devices, p.Ifindex)
	}
	if err := s.attach([]uint32{out}, pods, intoPod); err != nil {
		return err
	}
	return s.attach(devices, others, toNeighbour)
}

// attach loads a program over a table of its own, and attaches it to devices.
func (s *Shortcut) attach(devices []uint32, hops Hops, send asm.Instructions) error {
	table, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: hopLen, MaxEntries: 16})
	if err != nil {
		return fmt.Errorf("create table: %w", err)
	}
	defer func() { _ = table.Close() }()
	for dst, h := range hops {
		if err := table.Put(dst, &h); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: append(lookUp(table.FD()), send...)})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer func() { _ = prog.Close() }()
	for _, d := range devices {
		l, err := link.AttachTCX(link.TCXOptions{Interface: int(d), Program: prog, Attach: ebpf.AttachTCXIngress})
		if errors.Is(err, ebpf.ErrNotSupported) {
			return fmt.Errorf("attach: kernel 6.6 or later is needed: %w", ports.ErrUnsupported)
		}
		if err != nil {
			return fmt.Errorf("attach to device %d: %w", d, err)
		}
		s.links = append(s.links, l)
	}
	return nil
}

// Where things are in struct __sk_buff and in a frame.
const (
	skbData, skbDataEnd = 76, 80
	frameType, frameDst = 12, 30
	frameHead           = 34
)

// next lets the device's other programs and the stack have the packet (TC_ACT_UNSPEC).
const next = -1

// lookUp finds the hop of an IPv4 packet's destination: R0, with the frame in R7. Others go on to the stack.
func lookUp(table int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, skbData, asm.Word),
		asm.LoadMem(asm.R2, asm.R1, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Imm(asm.R3, frameHead),
		asm.JGT.Reg(asm.R3, asm.R2, "stack"),
		asm.LoadMem(asm.R3, asm.R7, frameType, asm.Half),
		asm.JNE.Imm(asm.R3, int32(unix.ETH_P_IP>>8|unix.ETH_P_IP&0xff<<8), "stack"),
		asm.LoadMem(asm.R3, asm.R7, frameDst, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R3, asm.Word),
		asm.LoadMapPtr(asm.R1, table),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "send"),
		asm.Mov.Imm(asm.R0, next).WithSymbol("stack"), asm.Return(),
	}
}

// What is done with a packet and its hop.
var (
	intoPod = asm.Instructions{
		asm.LoadMem(asm.R1, asm.R0, hopAddress, asm.Word).WithSymbol("send"), asm.StoreMem(asm.R7, 0, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R0, hopAddress+4, asm.Word), asm.StoreMem(asm.R7, 4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R0, hopAddress+8, asm.Word), asm.StoreMem(asm.R7, 8, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R0, hopIfindex, asm.Word), asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(), asm.Return(),
	}
	toNeighbour = asm.Instructions{
		asm.LoadMem(asm.R1, asm.R0, hopIfindex, asm.Word).WithSymbol("send"),
		asm.Mov.Reg(asm.R2, asm.R0), asm.Mov.Imm(asm.R3, neighLen), asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(), asm.Return(),
	}
)
