// Package ebpf is the datapath in the kernel: it loads the programs of bpf/, keeps their maps and links
// pinned in a BPF file system, and implements ports.Datapath over them.
//
// What is pinned outlives the process: packets are forwarded while no agent runs, and the next Open
// adopts maps and links and exchanges the programs without ever detaching any.
//
// All calls that name an interface act in the network namespace of the calling thread.
package ebpf

import (
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/ports"
)

// Config says where the datapath lives and how large its tables are.
type Config struct {
	// BPFFS is a directory inside a BPF file system that belongs to this datapath alone; it is created
	// if absent.
	BPFFS string

	// Cgroup is the cgroup v2 directory whose sockets see services. Empty: no socket programs. The root
	// of the hierarchy is refused unless AllowRootCgroup is set: it takes in every socket of the machine.
	Cgroup          string
	AllowRootCgroup bool

	// OverlayIfindex is the collect-metadata VXLAN device, 0 for none: what belongs into the tunnel is
	// dropped then. HostIfindex is the device through which the node reaches pods of other nodes, 0 for
	// none.
	OverlayIfindex uint32
	HostIfindex    uint32

	// DirectIfindex is the device on which other nodes are neighbours, where packets to their pods go as they
	// are; 0 for none.
	DirectIfindex uint32

	// Tunnel lets packets of known flows bypass the overlay device. The zero value: none do.
	Tunnel ports.Tunnel

	// Outside lets services take packets from the network. The zero value: they take none.
	Outside ports.Outside

	// ClassicTC uses clsact and cls_bpf where the kernel offers tcx, too.
	ClassicTC bool

	// Sizes of the tables in rows. They are fixed by the pinned maps: a change needs Destroy first.
	Sizes Sizes

	// Logger receives what is worth knowing but no error: adopted and removed links. Nil: nothing.
	Logger *slog.Logger
}

// Sizes of tables in rows; 0 takes the default.
type Sizes struct {
	Endpoints uint32 // 4,096
	IPCache   uint32 // 262,144
	Policy    uint32 // 262,144
	Nodes     uint32 // 16,384
	Services  uint32 // 65,536
	Slots     uint32 // 262,144
	Backends  uint32 // 262,144, one for each slot
	Affinity  uint32 // 65,536
	SockRev   uint32 // 65,536
	Flows     uint32 // 131,072; about 300 bytes each, allocated at once
	Frags     uint32 // 8,192
	NAT       uint32 // 131,072; two for each connection that services took from the network
	EventRing uint32 // bytes, a power of two and a multiple of the page size; 4 MiB
}

func (s Sizes) apply(specs map[string]*ebpf.MapSpec) {
	if s.Backends == 0 {
		s.Backends = specs[mapSlots].MaxEntries
	}
	for name, n := range map[string]uint32{
		mapEndpoints: s.Endpoints, mapIPCache: s.IPCache, mapPolicy: s.Policy, mapNodes: s.Nodes,
		mapServices: s.Services, mapSlots: s.Slots, mapBackends: s.Backends, mapAffinity: s.Affinity,
		mapSockRev: s.SockRev, mapFlows: s.Flows, mapFrags: s.Frags, mapNAT: s.NAT, mapEvents: s.EventRing,
	} {
		if n != 0 {
			specs[name].MaxEntries = n
		}
	}
}

// onBPFFS says whether a path lies on a BPF file system.
func onBPFFS(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Type) == unix.BPF_FS_MAGIC, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
