package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/ebpf"
	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/adapters/rtnetlink"
	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/ports"
)

// options are the command line.
type options struct {
	node, clusterDir, runDir, bpffs, cgroup string
	underlay                                string
	mtu                                     int
	flows                                   int
	debug                                   bool
	sizes                                   ebpf.Sizes

	failed *atomic.Pointer[error]
}

func (o *options) flags(f *pflag.FlagSet) {
	o.failed = &atomic.Pointer[error]{}
	o.sizes = ebpf.DefaultSizes()
	f.StringVar(&o.node, "node-name", os.Getenv("K8S_NODE_NAME"), "name of this node's object (default $K8S_NODE_NAME)")
	f.StringVar(&o.clusterDir, "cluster-dir", "", "directory of Kubernetes YAML or JSON that describes the cluster")
	f.StringVar(&o.runDir, "run-dir", "/run/weir", "where the socket and the state of endpoints live")
	f.StringVar(&o.bpffs, "bpffs", "/sys/fs/bpf/weir", "directory on a bpf file system for programs and tables")
	f.StringVar(&o.cgroup, "cgroup", "", "cgroup v2 directory whose sockets get service load balancing (empty: none)")
	f.StringVar(&o.underlay, "device", "", "device to other nodes, for its MTU (default: the device of the default or only route)")
	f.IntVar(&o.mtu, "mtu", 0, "MTU of pods in bytes (0: the device's less the overlay's 50)")
	f.IntVar(&o.flows, "flow-buffer", 4095, "flows kept for weir observe")
	f.Uint32Var(&o.sizes.Flows, "flow-table-size", o.sizes.Flows, "rows of the kernel's flow table")
	f.Uint32Var(&o.sizes.Policy, "policy-table-size", o.sizes.Policy, "rows of the kernel's policy table")
	f.BoolVar(&o.debug, "debug", false, "log more")
}

// check finds what is wrong with the command line before anything is done.
func (o *options) check() error {
	switch {
	case o.node == "":
		return errors.New("--node-name is empty: give the name of this node's object")
	case o.clusterDir == "":
		return errors.New("--cluster-dir is empty: give the directory that describes the cluster")
	case o.mtu != 0 && (o.mtu < 1280 || o.mtu > 65535):
		return fmt.Errorf("--mtu %d: allowed are 1280 (what IPv6 needs) to 65535, or 0", o.mtu)
	case o.flows < 1 || o.flows > 65535:
		return fmt.Errorf("--flow-buffer %d: allowed are 1 to 65535", o.flows)
	}
	return nil
}

func (o *options) failure() error {
	if e := o.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// wiring is the agent's object graph. Constructors do nothing but construct.
func wiring(o options) fx.Option {
	return fx.Options(
		fx.Supply(&o),
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.Provide(newLogger, newStore, newNetwork, newAgent, newServer),
		fx.Invoke(run),
	)
}

func newLogger(o *options) *slog.Logger {
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: level})).With("node", o.node)
}

func newStore(o *options, log *slog.Logger) (*filestore.Store, error) {
	return filestore.New(filestore.Options{
		Dir: o.clusterDir, StateDir: filepath.Join(o.runDir, "last-good"), Log: log,
	})
}

func newNetwork() *rtnetlink.Network { return rtnetlink.New(rtnetlink.Options{}) }

type agentParams struct {
	fx.In
	Options *options
	Log     *slog.Logger
	Store   *filestore.Store
	Net     *rtnetlink.Network
}

func newAgent(p agentParams) (*runtime.Agent, error) {
	o := p.Options
	attachments, err := filestore.NewAttachments(filepath.Join(o.runDir, "endpoints"))
	if err != nil {
		return nil, err
	}
	mtu := o.mtu
	if mtu == 0 {
		if mtu, err = p.Net.PodMTU(o.underlay); err != nil {
			return nil, fmt.Errorf("find the pods' MTU: %w", err)
		}
	}
	features := ebpf.Probe()
	return runtime.New(
		runtime.Config{
			Node: o.node, Version: Version, MTU: mtu, FlowCapacity: o.flows,
			Features: features, Kernel: kernelRelease(), Attach: ebpf.AttachMode(features), Datapath: "ebpf",
		},
		runtime.Deps{
			Source: p.Store, Publisher: p.Store, Identities: p.Store, Attachments: attachments, Network: p.Net,
			OpenDatapath: func(l ports.OverlayLinks) (ports.Datapath, error) {
				return ebpf.Open(ebpf.Config{
					BPFFS: o.bpffs, Cgroup: o.cgroup, OverlayIfindex: l.VXLAN, HostIfindex: l.Host,
					Sizes: o.sizes, Log: p.Log,
				})
			},
			Clock: runtime.SystemClock{}, Log: p.Log,
		}), nil
}

func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func newServer(o *options, a *runtime.Agent, log *slog.Logger) *api.Server {
	return api.NewServer(filepath.Join(o.runDir, "weir.sock"), a, a, log)
}

// run ties agent and server to the application's life.
func run(lc fx.Lifecycle, shut fx.Shutdowner, o *options, a *runtime.Agent, s *api.Server, log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			if err := s.Start(); err != nil {
				return err
			}
			log.Info("agent starts", "version", Version)
			go func() {
				defer close(ended)
				if err := a.Run(ctx); err != nil && ctx.Err() == nil {
					log.Error("agent failed", "err", err)
					o.failed.Store(&err)
					_ = shut.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: func(context.Context) error {
			cancel()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				log.Warn("the agent's loop does not end; leaving")
			}
			log.Info("agent ends; the datapath stays")
			return s.Stop()
		},
	})
}
