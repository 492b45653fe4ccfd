package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/ebpf"
	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/adapters/rtnetlink"
	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// options are the command line.
type options struct {
	node, clusterDir, runDir, bpffs, cgroup string
	routing                                 string
	directRoutes                            bool
	mtu                                     int
	flows                                   int
	debug                                   bool
	sizes                                   ebpf.Sizes
}

func (o *options) flags(f *pflag.FlagSet) {
	f.StringVar(&o.node, "node-name", os.Getenv("K8S_NODE_NAME"), "name of this node's object (default $K8S_NODE_NAME)")
	f.StringVar(&o.clusterDir, "cluster-dir", "", "directory of Kubernetes YAML or JSON that describes the cluster")
	f.StringVar(&o.runDir, "run-dir", "/run/weir", "where the socket and the state of endpoints live")
	f.StringVar(&o.bpffs, "bpffs", "/sys/fs/bpf/weir", "directory on a bpf file system for programs and tables")
	f.StringVar(&o.cgroup, "cgroup", "", "cgroup v2 directory whose sockets get service load balancing (empty: none)")
	f.StringVar(&o.routing, "routing-mode", "tunnel", "how packets reach other nodes' pods: tunnel (VXLAN) or native (as they are)")
	f.BoolVar(&o.directRoutes, "auto-direct-node-routes", false, "with native routing: the nodes are neighbours, make the routes to their pods")
	f.IntVar(&o.mtu, "mtu", 0, "MTU of pods in bytes (0: that of the device to other nodes less what a tunnel adds)")
	f.IntVar(&o.flows, "flow-buffer", 4095, "flows kept for weir observe")
	f.Uint32Var(&o.sizes.Flows, "flow-table-size", 0, "rows of the kernel's flow table (0: 131072)")
	f.Uint32Var(&o.sizes.Policy, "policy-table-size", 0, "rows of the kernel's policy table (0: 262144)")
	f.BoolVar(&o.debug, "debug", false, "log more")
}

// check finds what is wrong with the command line before anything is done.
func (o *options) check() error {
	switch {
	case o.node == "":
		return errors.New("--node-name is empty: give the name of this node's object")
	case o.clusterDir == "":
		return errors.New("--cluster-dir is empty: give the directory that describes the cluster")
	case o.routing != "tunnel" && o.routing != "native":
		return fmt.Errorf("--routing-mode %q: allowed are tunnel and native", o.routing)
	case o.directRoutes && o.routing != "native":
		return errors.New("--auto-direct-node-routes: needs --routing-mode native")
	case o.mtu != 0 && (o.mtu < 1280 || o.mtu > 65535):
		return fmt.Errorf("--mtu %d: allowed are 1280 (what IPv6 needs) to 65535, or 0", o.mtu)
	case o.flows < 1 || o.flows > 65535:
		return fmt.Errorf("--flow-buffer %d: allowed are 1 to 65535", o.flows)
	}
	return nil
}

// wiring is the agent's object graph. Constructors do nothing but construct.
func wiring(o options) fx.Option {
	log := newLogger(o)
	return fx.Options(
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.Supply(
			log, o,
			filestore.Options{Dir: o.clusterDir, StateDir: filepath.Join(o.runDir, "last-good")},
			filestore.AttachmentsDir(filepath.Join(o.runDir, "endpoints")),
			rtnetlink.Config{},
			ebpf.Config{BPFFS: o.bpffs, Cgroup: o.cgroup, Sizes: o.sizes, Logger: log},
			api.SocketPath(filepath.Join(o.runDir, "weir.sock")),
		),
		filestore.Module, rtnetlink.Module, ebpf.Module,
		fx.Provide(agentConfig, agentDeps),
		runtime.Module,
		api.Module,
	)
}

func newLogger(o options) *slog.Logger {
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: level})).With("node", o.node)
}

func agentConfig(o options, features []ports.Feature) runtime.Config {
	return runtime.Config{
		Node: o.node, Version: Version, MTU: o.mtu, Routing: o.engineRouting(), FlowCapacity: o.flows,
		Features: features, Kernel: kernelRelease(), Attach: attachMode(features), Datapath: "ebpf",
		Started: settleHeap,
	}
}

type depsParams struct {
	fx.In
	Source      ports.Source
	Publisher   ports.Publisher
	Identities  ports.Identities
	Attachments ports.Attachments
	Network     *rtnetlink.Network
	Open        ebpf.Opener
	Log         *slog.Logger
}

func agentDeps(o options, p depsParams) runtime.Deps {
	return runtime.Deps{
		Source: p.Source, Publisher: p.Publisher, Identities: p.Identities, Attachments: p.Attachments,
		Network: p.Network, OpenDatapath: p.Open,
		PodMTU: func(node netip.Addr) (int, error) {
			underlay, err := p.Network.UnderlayMTU(node)
			if o.engineRouting() == engine.Tunnel {
				underlay = rtnetlink.OverlayMTU(underlay, node)
			}
			return underlay, err
		},
		Clock: runtime.SystemClock{}, Log: p.Log,
	}
}

func (o options) engineRouting() engine.Routing {
	switch {
	case o.routing == "tunnel":
		return engine.Tunnel
	case o.directRoutes:
		return engine.Direct
	}
	return engine.Native
}

// attachMode is how the programs sit on devices, in the words of `weir status`.
func attachMode(fs []ports.Feature) string {
	for _, f := range fs {
		if f.Name == "tcx" && f.Supported {
			return "TCX"
		}
	}
	return "Legacy TC"
}

func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
