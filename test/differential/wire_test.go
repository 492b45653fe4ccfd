package differential_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/florianl/go-tc"
	"github.com/florianl/go-tc/core"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/fakes/kernel"
)

// Test runs take frames of less than a page, in one piece, and untagged or with the tag in the frame. Everything else goes
// over a wire: the frame is sent into the peer of the slot's interface, and at the interface a small program waits that
// calls the program under test, notes what it returned, and sends what it let pass to another interface, where
// the frame is caught as it has become.

// Interfaces for frames on their way out of a program.
const (
	catchName = "catch"
	wireMTU   = 65535
)

// maxRun is the largest frame for test runs on every kernel; in theory a page less what the kernel needs itself.
const maxRun = 3500

// maxInOnePiece is the largest frame that is sent in one piece if nothing else is said.
const maxInOnePiece = 16384

// onWire says that a frame cannot or shall not be given to a test run.
func (i *injection) onWire() bool { return i.Wire || len(i.Frame) > maxRun }

// tagged says that the frame carries a VLAN tag, which the device takes off on its way in.
func (i *injection) tagged() bool {
	if len(i.Frame) < 18 {
		return false
	}
	t := binary.BigEndian.Uint16(i.Frame[12:])
	return t == 0x8100 || t == 0x88a8
}

// stray says that from_network must not touch the frame: it is for others.
func (i *injection) stray() bool { return i.Hook == kernel.FromNetwork && !i.forThisMachine() }

// split says that the headers do not lie in the first piece, which from_network's shortcut needs.
func (i *injection) split() bool {
	if i.Hook != kernel.FromNetwork {
		return false
	}
	x := lookAt(i)
	return i.onWire() && i.Linear != 0 && i.Linear < len(x.head)
}

// asSeen is the frame and the tag as the program meets them.
func (i *injection) asSeen() (frame []byte, vlan bool) {
	if !i.onWire() || !i.tagged() {
		return i.Frame, false
	}
	return append(append([]byte{}, i.Frame[:12]...), i.Frame[16:]...), true
}

// wire is what sends and catches.
type wire struct {
	send, catch int
	peers       [slots]int // ifindex of the other end
	progs       map[kernel.Hook]*ebpf.Program
	attached    map[wireEnd]bool
	links       []link.Link
	catchIndex  uint32
}

type wireEnd struct {
	slot int
	hook kernel.Hook
}

// newWire makes the interfaces; they must not say anything of their own accord.
func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{progs: map[kernel.Hook]*ebpf.Program{}, attached: map[wireEnd]bool{}}
	for _, of := range []string{"all", "default"} { // or they would ask who else has their addresses
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+of+"/disable_ipv6", []byte("1"), 0)
		require.True(t, err == nil || errors.Is(err, os.ErrNotExist), "%v", err)
	}
	out, err := exec.Command("ip", "link", "add", catchName, "type", "veth", "peer", "name", catchName+"p").CombinedOutput()
	require.NoError(t, err, "%s", out)
	names := []string{catchName, catchName + "p"}
	for i := range slots {
		names = append(names, fmt.Sprintf("slot%d", i), fmt.Sprintf("slot%dp", i))
	}
	for _, name := range names {
		out, err := exec.Command("ip", "link", "set", name, "mtu", fmt.Sprint(wireMTU), "up").CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
	}
	index := func(name string) int {
		dev, err := net.InterfaceByName(name)
		require.NoError(t, err)
		return dev.Index
	}
	for i := range slots {
		w.peers[i] = index(fmt.Sprintf("slot%dp", i))
	}
	t.Cleanup(func() {
		for _, l := range w.links {
			_ = l.Close()
		}
	})
	w.catchIndex = uint32(index(catchName))
	w.send, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(w.send) })
	require.NoError(t, unix.SetsockoptInt(w.send, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	require.NoError(t, unix.SetsockoptInt(w.send, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20))
	all := unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	w.catch, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(w.catch) })
	require.NoError(t, unix.Bind(w.catch, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index(catchName + "p")}))
	return w
}

// wrap puts the program for the wire before the one under test, which becomes a function.
func (w *wire) wrap(prog *ebpf.ProgramSpec, notes *ebpf.Map) {
	tested := prog.Instructions[0]
	const scratch, cbOffset, cbWords = -4, 48, 5
	name := "wire_" + prog.Name
	body := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.R10, scratch, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, scratch),
		asm.LoadMapPtr(asm.R1, notes.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, name+"_drop"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.LoadMem(asm.R1, asm.R7, noteArmed, asm.Word),
		asm.JNE.Imm(asm.R1, armedFor(hookNamed(prog.Name)), name+"_others"),
		asm.StoreImm(asm.R7, noteArmed, armedNot, asm.Word),
	}
	for i := range int16(cbWords) {
		body = append(body, asm.LoadMem(asm.R1, asm.R7, noteCb+4*i, asm.Word), asm.StoreMem(asm.R6, cbOffset+4*i, asm.R1, asm.Word))
	}
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}
	body = append(body,
		asm.Mov.Reg(asm.R1, asm.R6), call.WithReference(tested.Symbol()),
		asm.StoreMem(asm.R7, noteCode, asm.R0, asm.Word),
		asm.StoreImm(asm.R7, noteRan, 1, asm.Word),
		asm.JEq.Imm(asm.R0, tcShot, name+"_drop"),
		asm.Mov.Imm(asm.R1, int32(w.catchIndex)), asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(), asm.Return(),
		asm.Mov.Imm(asm.R0, tcShot).WithSymbol(name+"_drop"), asm.Return(),
		asm.Mov.Imm(asm.R0, tcNext).WithSymbol(name+"_others"), asm.Return(),
	)
	fn := btf.FuncMetadata(&tested)
	as := *fn
	as.Name = name
	body[0] = btf.WithFuncMetadata(body[0].WithSymbol(name).WithSource(tested.Source()), &as)
	inner := *fn
	inner.Linkage = btf.StaticFunc
	prog.Instructions[0] = btf.WithFuncMetadata(tested, &inner)
	prog.Instructions = append(body, prog.Instructions...)
}

// What noteArmed says: which hook's program shall take the next frame.
const armedNot = 0

func armedFor(h kernel.Hook) int32 { return int32(h) + 1 }

func hookNamed(name string) kernel.Hook {
	for _, h := range []kernel.Hook{kernel.FromPod, kernel.ToPod, kernel.FromOverlay, kernel.FromHost, kernel.FromNetwork, kernel.ToNetwork} {
		if h.String() == name {
			return h
		}
	}
	panic("no hook " + name)
}

// attach makes sure that the hook's program waits at the slot. Those of several hooks may wait there; each lets pass
// what is not for it.
func (w *wire) attach(slot int, ifindex uint32, hook kernel.Hook) error {
	if w.attached[wireEnd{slot, hook}] {
		return nil
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: int(ifindex), Program: w.progs[hook], Attach: ebpf.AttachTCXIngress})
	switch {
	case err == nil:
		w.links = append(w.links, l)
	case errors.Is(err, ebpf.ErrNotSupported):
		if err := attachClassic(ifindex, w.progs[hook], hook); err != nil {
			return err
		}
	default:
		return fmt.Errorf("attach %s to slot %d: %w", hook, slot, err)
	}
	w.attached[wireEnd{slot, hook}] = true
	return nil
}

// attachClassic is for kernels without tcx.
func attachClassic(ifindex uint32, prog *ebpf.Program, hook kernel.Hook) error {
	t, err := tc.Open(&tc.Config{})
	if err != nil {
		return fmt.Errorf("open traffic control: %w", err)
	}
	defer func() { _ = t.Close() }()
	clsact := tc.Msg{Ifindex: ifindex, Handle: core.BuildHandle(tc.HandleRoot, 0), Parent: tc.HandleIngress}
	// One that is there already is as good; if there is none, the filter fails.
	_ = t.Qdisc().Add(&tc.Object{Msg: clsact, Attribute: tc.Attribute{Kind: "clsact"}})
	fd, name, flags := uint32(prog.FD()), "wire", uint32(tc.BpfActDirect)
	filter := tc.Msg{
		Ifindex: ifindex, Handle: 1, Parent: core.BuildHandle(tc.HandleRoot, tc.HandleMinIngress),
		Info: uint32(armedFor(hook))<<16 | uint32(unix.ETH_P_ALL<<8|unix.ETH_P_ALL>>8),
	}
	err = t.Filter().Replace(&tc.Object{Msg: filter, Attribute: tc.Attribute{Kind: "bpf", BPF: &tc.Bpf{FD: &fd, Name: &name, Flags: &flags}}})
	if err != nil {
		return fmt.Errorf("attach a filter to interface %d: %w", ifindex, err)
	}
	return nil
}

// transmit sends the frame and returns what the program returned and, if it was not dropped, what left it.
func (r *rig) transmit(i *injection, _ [5]uint32, notes []byte) (code uint32, frame []byte, err error) {
	w := r.wire
	if err := w.attach(i.Slot, r.ifindex[i.Slot], i.Hook); err != nil {
		return 0, nil, err
	}
	w.forget()
	native.PutUint32(notes[noteArmed:], uint32(armedFor(i.Hook)))
	if err := r.notes.Put(uint32(0), notes); err != nil {
		return 0, nil, fmt.Errorf("write notes: %w", err)
	}
	inOnePiece := i.Linear
	switch {
	case inOnePiece == 0 && len(i.Frame) <= maxInOnePiece:
		inOnePiece = len(i.Frame)
	case inOnePiece == 0:
		inOnePiece = 256
	}
	head := make([]byte, 10, 10+len(i.Frame)) // struct virtio_net_hdr
	native.PutUint16(head[2:], uint16(min(inOnePiece, len(i.Frame), 65535)))
	to := &unix.SockaddrLinklayer{Ifindex: w.peers[i.Slot]}
	if err := unix.Sendto(w.send, append(head, i.Frame...), 0, to); err != nil {
		return 0, nil, fmt.Errorf("send %d bytes, %d of them in one piece: %w", len(i.Frame), inOnePiece, err)
	}
	var raw []byte
	for until := time.Now().Add(5 * time.Second); ; {
		if raw, err = r.notes.LookupBytes(uint32(0)); err != nil {
			return 0, nil, fmt.Errorf("read notes: %w", err)
		}
		if native.Uint32(raw[noteRan:]) != 0 {
			break
		}
		if time.Now().After(until) {
			return 0, nil, errors.New("the program did not run within 5 seconds")
		}
	}
	code = native.Uint32(raw[noteCode:])
	if code == tcShot {
		return code, nil, nil
	}
	frame, err = w.caught()
	return code, frame, err
}

// forget throws away what a run left behind that ended early.
func (w *wire) forget() {
	var b [1]byte
	for {
		if _, _, err := unix.Recvfrom(w.catch, b[:], 0); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// caught waits for the frame.
func (w *wire) caught() ([]byte, error) {
	b := make([]byte, 1<<17)
	for {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(w.catch), Events: unix.POLLIN}}, 5000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for the frame: %w", err)
		}
		if ready == 0 {
			return nil, errors.New("what the program let pass did not come within 5 seconds")
		}
		n, _, err := unix.Recvfrom(w.catch, b, 0)
		if err != nil {
			return nil, fmt.Errorf("catch the frame: %w", err)
		}
		return b[:n], nil
	}
}
