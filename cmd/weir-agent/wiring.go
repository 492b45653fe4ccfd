package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/ebpf"
	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/adapters/health"
	"github.com/weirnet/weir/adapters/nftables"
	"github.com/weirnet/weir/adapters/rtnetlink"
	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/adapters/servicehealth"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// leakGrace is how long an endpoint that looks leaked is kept.
const leakGrace = 5 * time.Minute

// wiring is the agent's object graph. Constructors do nothing but construct.
func wiring(o *options) fx.Option {
	level := &slog.LevelVar{}
	level.Set(levelOf(o.settings))
	log := newLogger(o.node, level)
	s := o.settings
	return fx.Options(
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.Supply(
			log, level, o, newNotes(), &heap{},
			rtnetlink.Config{}, nftables.Config{},
			ebpf.Config{BPFFS: s.BPFFS, Cgroup: s.Cgroup, AllowRootCgroup: s.AllowRootCgroup, Sizes: ebpf.Sizes{Flows: s.FlowTableRows, Policy: s.PolicyTableRows}, Logger: log},
			api.SocketPath(o.socket()),
			health.Port(s.HealthPort), health.ProxyAddress(s.NodePorts.Healthz),
		),
		fx.Invoke(func(lc fx.Lifecycle, h *heap) { lc.Append(fx.StartHook(h.steer)) }),
		source(o, log), rtnetlink.Module, nftables.Module, ebpf.Module,
		fx.Provide(agentConfig, agentDeps, newCNIKeeper, provideConfigKeeper),
		runtime.Module,
		api.Module, health.Module, servicehealth.Module,
		fx.Invoke(keepCNI, keepConfig),
	)
}

// source is where the cluster comes from.
func source(o *options, log *slog.Logger) fx.Option {
	if o.clusterDir == "" {
		return fromKubernetes(o, log)
	}
	run := o.settings.RunDir
	return fx.Options(
		fx.Supply(
			filestore.Options{Dir: o.clusterDir, StateDir: filepath.Join(run, "last-good")},
			filestore.AttachmentsDir(filepath.Join(run, "endpoints")),
		),
		filestore.Module,
	)
}

func levelOf(s config.Settings) slog.Level {
	if s.Debug {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func newLogger(node string, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: level})).With("node", node)
}

func agentConfig(o *options, n *notes, h *heap, features []ports.Feature) runtime.Config {
	s := o.settings
	c := runtime.Config{
		Node: o.node, Version: Version, MTU: s.MTU, Routing: o.routing(), FlowCapacity: s.FlowBuffer,
		VXLANPort: s.TunnelPort, Cluster: s.ClusterName, IPAM: s.IPAM, Routers: s.Routers, NoIPv4: !s.IPv4, NoIPv6: !s.IPv6,
		Features: needs(features, s.Cgroup != ""), Kernel: kernelRelease(), Attach: attachMode(features), Datapath: "ebpf",
		Started: h.settle, Notes: n.read,
	}
	c.Masquerade, c.NodePorts, c.SocketLB = s.Masquerade, s.NodePorts, s.Cgroup != ""
	if o.clusterDir == "" {
		c.LeakGrace = leakGrace
	} else {
		c.IPAM = config.IPAMKubernetes
	}
	return c
}

type depsParams struct {
	fx.In
	Source      ports.Source
	Publisher   ports.Publisher
	Identities  ports.Identities
	Attachments ports.Attachments
	Network     *rtnetlink.Network
	Masquerade  ports.Masquerade
	Health      ports.ServiceHealth
	Open        ebpf.Opener
	Log         *slog.Logger
}

func agentDeps(o *options, p depsParams) runtime.Deps {
	if m := o.settings.Masquerade; o.clusterDir != "" && !m.IPv4 && !m.IPv6 {
		p.Masquerade = nil // nobody asked: what others may have made is left alone
	}
	if n := o.settings.NodePorts; !n.Enabled || !n.Health {
		p.Health = nil
	}
	return runtime.Deps{
		Masquerade: p.Masquerade, ServiceHealth: p.Health,
		Source: p.Source, Publisher: p.Publisher, Identities: p.Identities, Attachments: p.Attachments,
		Network: p.Network, OpenDatapath: p.Open,
		PodMTU: func(node netip.Addr) (int, error) {
			underlay, err := p.Network.UnderlayMTU(node)
			if o.routing() == engine.Tunnel {
				underlay = rtnetlink.OverlayMTU(underlay, node)
			}
			return underlay, err
		},
		Clock: runtime.SystemClock{}, Log: p.Log,
	}
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
