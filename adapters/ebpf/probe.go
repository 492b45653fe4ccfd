package ebpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"

	"github.com/weirnet/weir/ports"
)

// probe is one feature: how to ask for it, and what its absence means.
type probe struct {
	name     string
	required bool
	missing  string // what is lost, or used instead
	check    func() error
}

var probes = []probe{
	{"bpf", true, "nothing can be loaded", func() error { return features.HaveProgramType(ebpf.SchedCLS) }},
	{"btf", false, "the programs run without; tools show less", func() error {
		_, err := btf.LoadKernelSpec()
		return err
	}},
	{"tcx", false, "clsact and cls_bpf are used", probeTCX},
	{"cgroup sock_addr", false, "services cannot be reached through sockets", func() error {
		return errors.Join(
			features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnGetNetnsCookie),
			features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnGetSocketCookie))
	}},
	{"redirect_peer", true, "pods of one node cannot be connected", func() error {
		return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectPeer)
	}},
	{"tunnel key", true, "pods of different nodes cannot be connected", func() error {
		return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnSkbSetTunnelKey)
	}},
	{"coarse clock", true, "flows cannot be timed", func() error {
		return features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs)
	}},
	{"ringbuf", true, "events cannot be reported", func() error { return features.HaveMapType(ebpf.RingBuf) }},
	{"lpm", true, "policies and addresses cannot be matched", func() error {
		return features.HaveMapType(ebpf.LPMTrie)
	}},
	{"lru hash", true, "flows cannot be remembered", func() error { return features.HaveMapType(ebpf.LRUHash) }},
	{"atomics", true, "flow states cannot be changed safely", func() error { return features.HaveV3ISA() }},
}

// Probe asks the running kernel for everything the datapath uses. A feature is supported, or it is not
// and the detail says what that means, or it could not be determined and the detail says why.
func Probe() []ports.Feature {
	out := make([]ports.Feature, 0, len(probes))
	for _, p := range probes {
		f := ports.Feature{Name: p.name, Required: p.required}
		switch err := p.check(); {
		case err == nil:
			f.Supported = true
		case errors.Is(err, ebpf.ErrNotSupported):
			f.Detail = p.missing
		case errors.Is(err, os.ErrPermission):
			f.Detail = fmt.Sprintf("not permitted (root or CAP_BPF and CAP_NET_ADMIN needed): %v", err)
		default:
			f.Detail = fmt.Sprintf("could not be determined: %v", err)
		}
		out = append(out, f)
	}
	return out
}

func probeTCX() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	if !haveTCX(prog) {
		return fmt.Errorf("tcx: %w", ebpf.ErrNotSupported)
	}
	return nil
}
