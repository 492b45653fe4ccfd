package ebpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"runtime"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
)

// testRun runs a program n times over a frame inside the kernel and returns its average time in nanoseconds.
// Unlike ebpf.Program.Benchmark it takes the context along, which says through which interface a packet came.
func testRun(t testing.TB, p *ebpf.Program, n int, frame []byte, ifindex uint32, tunnel ...uint32) (code uint32, ns float64) {
	t.Helper()
	ctx := skb{Ifindex: ifindex}
	copy(ctx.Cb[:], tunnel)
	in := append([]byte(nil), frame...)
	attr := struct {
		fd, retval, sizeIn, sizeOut uint32
		in, out                     uint64
		repeat, duration            uint32
		ctxSizeIn, ctxSizeOut       uint32
		ctxIn, ctxOut               uint64
		flags, cpu, batch, pad      uint32
	}{
		fd: uint32(p.FD()), sizeIn: uint32(len(in)), in: uint64(uintptr(unsafe.Pointer(&in[0]))), repeat: uint32(n),
		ctxSizeIn: uint32(unsafe.Sizeof(ctx)), ctxIn: uint64(uintptr(unsafe.Pointer(&ctx))),
	}
	const testRunCommand = 10
	errno := unix.EINTR // the scheduler's signals end long runs early
	for errno == unix.EINTR {
		_, _, errno = unix.Syscall(unix.SYS_BPF, testRunCommand, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	}
	runtime.KeepAlive(in)
	runtime.KeepAlive(&ctx)
	require.Zero(t, errno)
	return attr.retval, float64(attr.duration)
}

// shortRuns is how many runs a measurement is cut into: others' work on the machine spoils some of them only.
const shortRuns = 50

// report measures so many times, and reports the mean and the least, which does not depend on what else the machine
// does.
func report(b *testing.B, rounds int, measure func() float64) {
	b.Helper()
	total, least := 0.0, math.Inf(1)
	for range rounds {
		ns := measure()
		total, least = total+ns, min(least, ns)
	}
	b.ReportMetric(total/float64(rounds), "ns/packet")
	b.ReportMetric(least, "min-ns/packet")
	b.ReportMetric(0, "ns/op")
}

// path is one way of a packet through a program.
type path struct {
	name, prog string
	frame      []byte
	ifindex    uint32
	tunnel     []uint32
	code       uint32
	prepare    func() // before each measurement, or before each packet if once is set
	once       bool   // the path changes the tables: each packet is run alone
}

// paths lists what a packet may meet. Pods A and B have a flow of TCP and one of UDP, A and R one of each, too.
func (r *rig) paths(b testing.TB, x family) []path {
	flows := func() {
		_, err := r.d.FlushFlows()
		require.NoError(b, err)
		r.fromA(b, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn))
		r.fromB(b, tcpFrame(x.b, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck))
		r.fromA(b, udpFrame(x.a, x.world, 4000, 53))
		r.fromA(b, tcpFrame(x.a, x.remote, 4000, 80, datapath.TCPSyn))
		r.fromOverlay(b, tcpFrame(x.remote, x.a, 80, 4000, datapath.TCPSyn|datapath.TCPAck))
		r.run(b, progToPod, r.b.ifindex, udpFrame(x.remote, x.b, 4000, 53))
		r.fromA(b, tcpFrame(x.a, neighbour(x), 4000, 80, datapath.TCPSyn))
		r.toB(b, tcpFrame(neighbour(x), x.b, 4000, 80, datapath.TCPSyn))
	}
	flush := func() {
		_, err := r.d.FlushFlows()
		require.NoError(b, err)
	}
	from := func(name string, p pod, frame []byte, code uint32) path {
		return path{name: name, prog: progFromPod, frame: frame, ifindex: p.ifindex, code: code, prepare: flows}
	}
	over := func(name string, frame []byte, code uint32) path {
		return path{name: name, prog: progFromOverlay, frame: frame, ifindex: r.overlay, tunnel: tunnelTo[:], code: code, prepare: flows}
	}
	first := func(p path) path { p.prepare, p.once = flush, true; return p }
	network := func(name string, frame []byte) path {
		return path{name: name, prog: progFromNetwork, frame: frame, ifindex: r.network, code: tcRedirect, prepare: flows}
	}
	ack := uint8(datapath.TCPAck)
	return []path{
		from("established", r.a, tcpFrame(x.a, x.b, 4000, 80, ack), tcRedirect),
		from("reply", r.b, tcpFrame(x.b, x.a, 80, 4000, ack), tcRedirect),
		from("udp to the stack", r.a, udpFrame(x.a, x.world, 4000, 53), tcOK),
		from("into the tunnel", r.a, tcpFrame(x.a, x.remote, 4000, 80, ack), tcRedirect),
		first(from("first packet", r.a, tcpFrame(x.a, x.b, 4000, 80, datapath.TCPSyn), tcRedirect)),
		from("drop", r.a, tcpFrame(x.a, x.b, 4000, 81, datapath.TCPSyn), tcShot),
		over("established", tcpFrame(x.remote, x.a, 80, 4000, ack), tcRedirect),
		first(over("first packet", tcpFrame(x.remote, x.b, 4000, 80, datapath.TCPSyn), tcRedirect)),
		over("drop", tcpFrame(x.remote, x.b, 4000, 81, datapath.TCPSyn), tcShot),
		{name: "established", prog: progToPod, frame: udpFrame(x.remote, x.b, 4000, 53), ifindex: r.b.ifindex, code: tcOK, prepare: flows},
		first(path{name: "first packet", prog: progToPod, frame: tcpFrame(x.remote, x.b, 4000, 80, datapath.TCPSyn), ifindex: r.b.ifindex, code: tcOK}),
		from("to a neighbour", r.a, tcpFrame(x.a, neighbour(x), 4000, 80, ack), tcRedirect),
		first(from("first packet to a neighbour", r.a, tcpFrame(x.a, neighbour(x), 4000, 80, datapath.TCPSyn), tcRedirect)),
		network("established", tcpFrame(neighbour(x), x.b, 4000, 80, ack)),
		first(network("first packet", tcpFrame(neighbour(x), x.b, 4000, 80, datapath.TCPSyn))),
		{name: "for the node", prog: progFromNetwork, frame: tcpFrame(x.world, x.host, 4000, 80, ack), ifindex: r.network, code: tcUnspec, prepare: flows},
		{name: "node to pod elsewhere", prog: progFromHost, frame: udpFrame(x.host, x.remote, 4000, 53), ifindex: r.overlay, code: tcRedirect},
	}
}

// bareLookup is a program that looks one flow key up and then does what send says, or nothing: what the fast path cannot
// be faster than.
func bareLookup(b testing.TB, r *rig, send ...asm.Instruction) *ebpf.Program {
	flows := r.d.maps[mapFlows]
	insns := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}
	for off := int16(-40); off < 0; off += 8 {
		insns = append(insns, asm.StoreMem(asm.RFP, off, asm.R1, asm.DWord))
	}
	insns = append(insns,
		asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40),
		asm.FnMapLookupElem.Call(), asm.Mov.Imm(asm.R0, 0),
	)
	insns = append(append(insns, send...), asm.Return())
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: insns, License: "GPL"})
	require.NoError(b, err)
	b.Cleanup(func() { _ = p.Close() })
	var key rawFlowKey
	require.EqualValues(b, 40, binary.Size(key))
	require.NoError(b, flows.Put(&key, &rawFlow{}))
	return p
}

// BenchmarkPacket measures what a packet costs in each program, by test runs inside the kernel: ns/packet is
// the kernel's own figure. "first packet" includes what a single test run costs around the program.
func BenchmarkPacket(b *testing.B) {
	r := newRig(b)
	for _, x := range families {
		x.remote = neighbour(x)
		r.direct(b, x)
	}
	bare := bareLookup(b, r)
	b.Run("lookup", func(b *testing.B) {
		report(b, shortRuns, func() float64 {
			_, ns := testRun(b, bare, max(b.N/shortRuns, 10), udpFrame(families[0].a, families[0].b, 1, 1), 1)
			return ns
		})
	})
	into := asm.Instructions{asm.Mov.Imm(asm.R1, int32(r.b.ifindex)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirectPeer.Call()}
	to := asm.Instructions{ // the neighbour's address is all zeros, like the key
		asm.Mov.Imm(asm.R1, int32(r.network)), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -20),
		asm.StoreImm(asm.RFP, -20, unix.AF_INET, asm.Word), asm.Mov.Imm(asm.R3, 20), asm.Mov.Imm(asm.R4, 0), asm.FnRedirectNeigh.Call(),
	}
	for name, send := range map[string]asm.Instructions{"lookup, into a pod": into, "lookup, to a neighbour": to} {
		p := bareLookup(b, r, send...)
		b.Run(name, func(b *testing.B) {
			report(b, shortRuns, func() float64 {
				code, ns := testRun(b, p, max(b.N/shortRuns, 10), udpFrame(families[0].a, families[0].b, 1, 1), 1)
				require.EqualValues(b, tcRedirect, code)
				return ns
			})
		})
	}
	b.Run("lookup alone", func(b *testing.B) { // what a single test run adds to a first packet
		report(b, min(b.N, 500), func() float64 {
			_, err := r.d.FlushFlows()
			require.NoError(b, err)
			_, ns := testRun(b, bare, 1, udpFrame(families[0].a, families[0].b, 1, 1), 1)
			return ns
		})
	})
	for _, x := range families {
		for _, p := range r.paths(b, x) {
			b.Run(p.prog+"/"+p.name+"/"+x.name, func(b *testing.B) {
				r.enter(b)
				if p.prepare != nil {
					p.prepare()
				}
				if !p.once {
					report(b, shortRuns, func() float64 {
						code, ns := testRun(b, r.d.progs[p.prog], max(b.N/shortRuns, 1), p.frame, p.ifindex, p.tunnel...)
						require.Equal(b, p.code, code)
						return ns
					})
					return
				}
				report(b, min(b.N, 500), func() float64 {
					p.prepare()
					code, ns := testRun(b, r.d.progs[p.prog], 1, p.frame, p.ifindex, p.tunnel...)
					require.Equal(b, p.code, code)
					return ns
				})
			})
		}
	}
}

// neighbour is a second remote pod, whose node needs no tunnel.
func neighbour(x family) netip.Addr { return x.remote.Next() }
