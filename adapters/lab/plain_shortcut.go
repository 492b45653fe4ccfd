package lab

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/ports"
)

// hop is where a shortcut's table sends a packet: to the neighbour Address on the device, or into the pod behind it with
// the Ethernet addresses that Address begins with. It begins with the kernel's struct bpf_redir_neigh.
type hop struct {
	Family  uint32
	Address [16]byte
	Ifindex uint32
}

const (
	hopAddress = 4
	hopIfindex = 20
	hopLen     = 24
	neighLen   = 20
)

// shortcut is programs that take IPv4 packets past the stacks of the nodes of a plain network by one lookup of their
// destination: no policy, no flows, no events, not even a check of the packet. They go when it is closed.
type shortcut struct {
	links []link.Link
}

func (s *shortcut) close() {
	for _, l := range s.links {
		_ = l.Close()
	}
}

// attach attaches the programs to a node: to the link to the other node, and to those of its pods.
func (s *shortcut) attach(node *netConn, out uint32, pods, others map[uint32]hop) error {
	for _, x := range []struct {
		on   []uint32
		hops map[uint32]hop
		send asm.Instructions
	}{
		{[]uint32{out}, pods, intoPod},
		{indexesOf(pods), others, toNeighbour},
	} {
		err := netns.Do(netns.Path(node.name), func() error { return s.attachOne(x.on, x.hops, x.send) })
		if err != nil {
			return fmt.Errorf("%s: shortcut: %w", node.name, err)
		}
	}
	return nil
}

// indexesOf gives the devices of pods.
func indexesOf(pods map[uint32]hop) (out []uint32) {
	for _, p := range pods {
		out = append(out, p.Ifindex)
	}
	return out
}

// attachOne loads a program over a table of its own, and attaches it to devices of the thread's namespace.
func (s *shortcut) attachOne(devices []uint32, hops map[uint32]hop, send asm.Instructions) error {
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

// takeShortcuts lets all pods of a plain network send and receive past the stacks of its nodes.
func (b *plainBuilder) takeShortcuts(nodes [2]*netConn, links [2]uint32, p *Plain) error {
	s := &shortcut{}
	p.shortcut = s
	var pods, others [2]map[uint32]hop
	for i := range nodes {
		pods[i], others[i] = map[uint32]hop{}, map[uint32]hop{}
	}
	for i, x := range []struct {
		place Place
		node  int
	}{{p.A, 0}, {p.B, 0}, {p.Other, 1}} {
		name := string(rune('a' + i))
		outer, err := nodes[x.node].side("pod" + name)
		if err != nil {
			return err
		}
		inside, err := b.conns["pod-"+name].side(podInterface)
		if err != nil {
			return err
		}
		four := x.place.IP(4).As4()
		key := binary.NativeEndian.Uint32(four[:])
		local := hop{Ifindex: outer.index}
		copy(local.Address[:], inside.mac)
		copy(local.Address[6:], outer.mac)
		pods[x.node][key] = local
		remote := hop{Family: unix.AF_INET, Ifindex: links[1-x.node]}
		copy(remote.Address[:], plainNode[x.node][0].AsSlice())
		others[1-x.node][key] = remote
	}
	for i := range nodes {
		if err := s.attach(nodes[i], links[i], pods[i], others[i]); err != nil {
			s.close()
			return err
		}
	}
	return nil
}
