package differential_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A test run says that a packet was redirected, but neither where to nor with which tunnel key. So the
// programs under test get their calls of these helpers replaced by calls of small functions that note the
// arguments in a map before they call the helper. Nothing else changes.

// spied is what the helpers were called with.
type spied struct {
	redirect uint32 // redirectNone, redirectOut, redirectPeer, redirectNeigh
	ifindex  uint32
	tunnel   bool // a tunnel key was set
	vni      uint32
	remote   netip.Addr // of the tunnel key, or the neighbour
	retyped  bool       // the packet was made PACKET_HOST
}

const (
	redirectNone  = 0
	redirectOut   = 1
	redirectPeer  = 2
	redirectNeigh = 3
)

// Where the notes lie.
const (
	noteRedirect = 0
	noteIfindex  = 4
	noteVNI      = 8
	noteTunnel   = 12
	noteRemote   = 16 // 16 bytes
	noteFlags    = 32 // 8 bytes
	noteRetyped  = 40
	noteType     = 44
	noteArmed    = 48 // from here on: see wire_test.go
	noteRan      = 52
	noteCode     = 56
	noteCb       = 60 // 20 bytes
	noteFamily   = 80 // of the neighbour
	notesLen     = 88
)

const tunnelIPv6 = 1 // BPF_F_TUNINFO_IPV6

func newNotes(t *testing.T) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "notes", Type: ebpf.Array, KeySize: 4, ValueSize: notesLen, MaxEntries: 1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func readNotes(b []byte) spied {
	word := binary.NativeEndian.Uint32
	s := spied{
		redirect: word(b[noteRedirect:]), ifindex: word(b[noteIfindex:]), vni: word(b[noteVNI:]),
		tunnel: word(b[noteTunnel:]) != 0, retyped: word(b[noteRetyped:]) != 0 && word(b[noteType:]) == 0,
	}
	switch {
	case s.redirect == redirectNeigh && word(b[noteFamily:]) == unix.AF_INET:
		s.remote = netip.AddrFrom4([4]byte(b[noteRemote : noteRemote+4]))
	case s.redirect == redirectNeigh && word(b[noteFamily:]) == 0: // nobody was named
	case s.redirect == redirectNeigh:
		s.remote = netip.AddrFrom16([16]byte(b[noteRemote : noteRemote+16]))
	case !s.tunnel:
	case binary.NativeEndian.Uint64(b[noteFlags:])&tunnelIPv6 != 0:
		s.remote = netip.AddrFrom16([16]byte(b[noteRemote : noteRemote+16]))
	default:
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], word(b[noteRemote:]))
		s.remote = netip.AddrFrom4(a)
	}
	return s
}

// spyOn makes a program note its calls.
func spyOn(prog *ebpf.ProgramSpec, notes *ebpf.Map) {
	names := map[asm.BuiltinFunc]string{
		asm.FnRedirect: "spy_redirect", asm.FnRedirectPeer: "spy_redirect_peer",
		asm.FnSkbSetTunnelKey: "spy_tunnel_key", asm.FnSkbChangeType: "spy_change_type",
		asm.FnRedirectNeigh: "spy_redirect_neigh",
	}
	used := map[asm.BuiltinFunc]bool{}
	for i := range prog.Instructions {
		ins := &prog.Instructions[i]
		if !ins.IsBuiltinCall() {
			continue
		}
		fn := asm.BuiltinFunc(ins.Constant)
		if name := names[fn]; name != "" {
			used[fn] = true
			call := asm.Instruction{OpCode: ins.OpCode, Src: asm.PseudoCall, Constant: -1, Metadata: ins.Metadata}
			*ins = call.WithReference(name)
		}
	}
	source := prog.Instructions[0].Source()
	for fn, name := range names {
		if !used[fn] {
			continue
		}
		note := noteArguments[fn]
		body := asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1), asm.Mov.Reg(asm.R7, asm.R2), asm.Mov.Reg(asm.R8, asm.R3), asm.Mov.Reg(asm.R9, asm.R4),
		}
		four := fn == asm.FnSkbSetTunnelKey || fn == asm.FnRedirectNeigh
		if !four { // two arguments only: the others were never set
			body = body[:2]
		}
		body = append(body,
			asm.StoreImm(asm.R10, -4, 0, asm.Word),
			asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, notes.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, name+"_call"),
		)
		body = append(body, note...)
		body = append(body, asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(name+"_call"), asm.Mov.Reg(asm.R2, asm.R7))
		if four {
			body = append(body, asm.Mov.Reg(asm.R3, asm.R8), asm.Mov.Reg(asm.R4, asm.R9))
		}
		body = append(body, fn.Call(), asm.Return())
		number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
		body[0] = btf.WithFuncMetadata(body[0].WithSymbol(name).WithSource(source), &btf.Func{
			Name: name, Linkage: btf.StaticFunc, Type: &btf.FuncProto{Return: number},
		})
		prog.Instructions = append(prog.Instructions, body...)
	}
}

// noteArguments write into the notes at R0; the arguments are in R6 to R9.
var noteArguments = map[asm.BuiltinFunc]asm.Instructions{
	asm.FnRedirect: {
		asm.StoreImm(asm.R0, noteRedirect, redirectOut, asm.Word),
		asm.StoreMem(asm.R0, noteIfindex, asm.R6, asm.Word),
	},
	asm.FnRedirectPeer: {
		asm.StoreImm(asm.R0, noteRedirect, redirectPeer, asm.Word),
		asm.StoreMem(asm.R0, noteIfindex, asm.R6, asm.Word),
	},
	asm.FnRedirectNeigh: {
		asm.StoreImm(asm.R0, noteRedirect, redirectNeigh, asm.Word),
		asm.StoreMem(asm.R0, noteIfindex, asm.R6, asm.Word),
		asm.JEq.Imm(asm.R7, 0, "spy_redirect_neigh_call"), // whoever routes name
		asm.LoadMem(asm.R1, asm.R7, 0, asm.Word), asm.StoreMem(asm.R0, noteFamily, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 4, asm.Word), asm.StoreMem(asm.R0, noteRemote, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 8, asm.Word), asm.StoreMem(asm.R0, noteRemote+4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 12, asm.Word), asm.StoreMem(asm.R0, noteRemote+8, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 16, asm.Word), asm.StoreMem(asm.R0, noteRemote+12, asm.R1, asm.Word),
	},
	asm.FnSkbSetTunnelKey: {
		asm.StoreImm(asm.R0, noteTunnel, 1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 0, asm.Word), asm.StoreMem(asm.R0, noteVNI, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 4, asm.Word), asm.StoreMem(asm.R0, noteRemote, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 8, asm.Word), asm.StoreMem(asm.R0, noteRemote+4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 12, asm.Word), asm.StoreMem(asm.R0, noteRemote+8, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 16, asm.Word), asm.StoreMem(asm.R0, noteRemote+12, asm.R1, asm.Word),
		asm.StoreMem(asm.R0, noteFlags, asm.R9, asm.DWord),
	},
	asm.FnSkbChangeType: {
		asm.StoreImm(asm.R0, noteRetyped, 1, asm.Word),
		asm.StoreMem(asm.R0, noteType, asm.R7, asm.Word),
	},
}
