package ebpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
)

func BenchmarkTmpParts(b *testing.B) {
	r := newRig(b)
	flows := r.d.maps[mapFlows]
	pre := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}
	for off := int16(-256); off < 0; off += 8 {
		pre = append(pre, asm.StoreMem(asm.RFP, off, asm.R1, asm.DWord))
	}
	run := func(name string, ins ...asm.Instruction) {
		all := append(append(asm.Instructions{}, pre...), ins...)
		all = append(all, asm.Mov.Imm(asm.R0, 0), asm.Return())
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: all, License: "GPL"})
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			report(b, shortRuns, func() float64 {
				_, ns := testRun(b, p, max(b.N/shortRuns, 10), udpFrame(families[0].a, families[0].b, 1, 1), 1)
				return ns
			})
		})
		p.Close()
	}
	run("empty")
	run("update any", asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -250), asm.Add.Imm(asm.R3, 2), asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call())
	run("update+delete", asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -250), asm.Add.Imm(asm.R3, 2), asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(),
		asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40), asm.FnMapDeleteElem.Call())
	run("lookup miss", asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -41), asm.Add.Imm(asm.R2, 0), asm.FnMapLookupElem.Call())
	run("endpoints miss", asm.LoadMapPtr(asm.R1, r.d.maps[mapEndpoints].FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40), asm.FnMapLookupElem.Call())
	a := families[0].a.As16()
	_ = a
	run("ipcache lpm", asm.StoreImm(asm.RFP, -40, 128, asm.Word), asm.StoreImm(asm.RFP, -28, 0xffff0000-1<<32, asm.Word), asm.StoreImm(asm.RFP, -24, 0x0100020a, asm.Word), asm.LoadMapPtr(asm.R1, r.d.maps[mapIPCache].FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40), asm.FnMapLookupElem.Call())
	run("policy lpm", asm.StoreImm(asm.RFP, -40, 96, asm.Word), asm.StoreImm(asm.RFP, -36, 0x1, asm.Word), asm.LoadMapPtr(asm.R1, r.d.maps[mapPolicy].FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -40), asm.FnMapLookupElem.Call())
	run("coarse", asm.FnKtimeGetCoarseNs.Call())
	run("coarse x5", asm.FnKtimeGetCoarseNs.Call(), asm.FnKtimeGetCoarseNs.Call(), asm.FnKtimeGetCoarseNs.Call(), asm.FnKtimeGetCoarseNs.Call(), asm.FnKtimeGetCoarseNs.Call())
	run("boot ns", asm.FnKtimeGetBootNs.Call())
	run("ringbuf discard", asm.LoadMapPtr(asm.R1, r.d.maps[mapEvents].FD()), asm.Mov.Imm(asm.R2, 168), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"), asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Imm(asm.R2, 0), asm.FnRingbufDiscard.Call(), asm.Mov.Imm(asm.R0, 0).WithSymbol("out"))
	run("atomics x4", asm.AddAtomic.Mem(asm.RFP, asm.R1, asm.DWord, -8), asm.AddAtomic.Mem(asm.RFP, asm.R1, asm.DWord, -16), asm.AddAtomic.Mem(asm.RFP, asm.R1, asm.DWord, -24), asm.AddAtomic.Mem(asm.RFP, asm.R1, asm.DWord, -32))
	run("redirect", asm.Mov.Imm(asm.R1, 1), asm.Mov.Imm(asm.R2, 0), asm.FnRedirectPeer.Call())
}
