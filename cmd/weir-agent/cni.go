package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/ports"
)

// cniCheck is how often the installation is compared with what it should be.
const cniCheck = 2 * time.Second

// cniKeeper installs the plugin for container runtimes, and keeps it installed: the program at once, the
// configuration, on which runtimes begin to start pods, once the agent serves them.
type cniKeeper struct {
	log       *slog.Logger
	notes     *notes
	endpoints ports.Endpoints
	socket    string

	mu   sync.Mutex
	want config.CNI
}

func (k *cniKeeper) set(c config.CNI) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want = c
}

func (k *cniKeeper) install() cni.Install {
	k.mu.Lock()
	defer k.mu.Unlock()
	return installOf(k.want, k.socket)
}

// installOf is the installation that the settings ask for.
func installOf(c config.CNI, socket string) cni.Install {
	return cni.Install{
		Binary: c.Binary, BinDir: c.BinDir, ConfDir: c.ConfDir, Custom: c.ReadConf, Exclusive: c.Exclusive,
		Conflist: cni.Conflist{AgentSocket: socket, LogFile: c.LogFile, PortMap: c.Chaining == "portmap"},
	}
}

// run works until the context ends.
func (k *cniKeeper) run(ctx context.Context) {
	ready := false
	for {
		i := k.install()
		err := i.InstallBinary()
		if !ready {
			asked, cancel := context.WithTimeout(ctx, cniCheck)
			ready = k.endpoints.Ready(asked) == nil
			cancel()
			if ready && i.ConfDir != "" {
				k.log.Info("pods can be served", "conflist", i.ConfDir)
			}
		}
		if err == nil && ready {
			err = i.InstallConflist()
		}
		if k.notes.problem("CNI installation", err) && err != nil {
			k.log.Error("install the CNI plugin", "err", err)
		}
		wait := cniCheck
		if !ready {
			wait = cniCheck / 10
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// uninstall takes the configuration away if the settings say so.
func (k *cniKeeper) uninstall() {
	k.mu.Lock()
	asked := k.want.Uninstall
	k.mu.Unlock()
	if !asked {
		return
	}
	if err := k.install().Remove(); err != nil {
		k.log.Error("uninstall the CNI plugin", "err", err)
		return
	}
	k.log.Info("the CNI configuration is uninstalled")
}

func newCNIKeeper(o *options, n *notes, e ports.Endpoints, log *slog.Logger) *cniKeeper {
	return &cniKeeper{log: log, notes: n, endpoints: e, socket: o.socket(), want: o.settings.CNI}
}

func keepCNI(lc fx.Lifecycle, k *cniKeeper) {
	beside(lc, k.run, k.uninstall)
}

// beside runs f for as long as the application does, and then after.
func beside(lc fx.Lifecycle, f func(context.Context), after func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(ended)
				f(ctx)
			}()
			return nil
		},
		OnStop: func(context.Context) error {
			cancel()
			<-ended
			if after != nil {
				after()
			}
			return nil
		},
	})
}
