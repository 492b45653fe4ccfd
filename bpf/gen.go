// Package bpf holds the eBPF programs, one <hook>.bpf.c for each place in the kernel, and their compiled
// objects. lib/ has a header for each concern and maps/ one for each table; docs/datapath.md says what
// the programs do. The objects are committed: building and testing Go needs no C compiler.
//
// The C is licensed GPL-2.0 OR BSD-2-Clause.
package bpf

import _ "embed"

// Budget names the programs, one a line, each with the most instructions that the verifier may walk for it.
//
//go:embed budget.txt
var Budget string

// bpf2go maps the paths in the debug information to ".", so that the same compiler gives the same objects
// in every checkout.
//
//go:generate -command compile go tool bpf2go -no-global-types -target bpfel -cflags "-O2 -mcpu=v3 -Wall -Wextra -Werror -Iinclude"
//go:generate compile FromPod from_pod.bpf.c
//go:generate compile ToPod to_pod.bpf.c
//go:generate compile FromOverlay from_overlay.bpf.c
//go:generate compile FromHost from_host.bpf.c
//go:generate compile FromNetwork from_network.bpf.c
//go:generate compile ToNetwork to_network.bpf.c
//go:generate compile Sock sock.bpf.c
