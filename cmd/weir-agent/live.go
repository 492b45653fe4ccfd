package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/adapters/configdir"
	"github.com/weirnet/weir/adapters/kubernetes"
	"github.com/weirnet/weir/adapters/kubernetes/nodeconfig"
	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/config"
)

// configCheck is how often the configuration directory is looked at; the kubelet itself takes about a
// minute to bring a change of the ConfigMap.
const configCheck = 5 * time.Second

// configKeeper follows the configuration while the agent runs: what can be applied is, and what needs a
// restart is said.
type configKeeper struct {
	log   *slog.Logger
	notes *notes
	o     *options // as the agent was started
	apply func(config.Settings)

	mu      sync.Mutex
	layers  layers            // as last heard
	current map[string]string // what is in force, or will be
}

func newConfigKeeper(o *options, n *notes, log *slog.Logger, apply func(config.Settings)) *configKeeper {
	return &configKeeper{log: log, notes: n, o: o, apply: apply, layers: o.layers, current: o.values}
}

// describe tells what there is to say about a configuration.
func (k *configKeeper) describe(o *options) {
	var warnings []string
	for _, line := range overridden(o.resolved, o.layers.base) {
		k.log.Info("configuration of this node", "override", line)
	}
	for _, f := range findings(o.resolved, o.values) {
		switch f.Severity {
		case config.Warning:
			k.log.Warn("configuration", "key", f.Key, "finding", f.Message)
			warnings = append(warnings, "configuration: "+f.Message)
		case config.Note:
			k.log.Info("configuration", "key", f.Key, "finding", f.Message)
		}
	}
	k.notes.warn("configuration findings", warnings...)
}

// changed takes new contents of the directory.
func (k *configKeeper) changed(base map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notes.problem("read configuration", nil)
	k.update(layers{base, k.layers.known})
}

// selected takes in which CiliumNodeConfigs select the node now.
func (k *configKeeper) selected(known nodeconfig.Known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := nodeconfig.Save(k.o.nodeConfig, known); k.notes.problem("CiliumNodeConfigs", err) && err != nil {
		k.log.Error("configuration", "err", err)
	}
	if !known.Equal(k.layers.known) {
		k.update(layers{k.layers.base, known})
	}
}

// update applies what can be, and says what else is new. The caller holds mu.
func (k *configKeeper) update(now layers) {
	k.layers = now
	next := *k.o
	if err := next.combine(now); err != nil {
		k.log.Error("the configuration has changed and is refused; the one before stays in force", "err", err)
		k.notes.problem("configuration", fmt.Errorf("refused, the one before stays in force: %w", err))
		return
	}
	k.notes.problem("configuration", nil)
	for _, c := range config.Compare(k.current, next.values) {
		switch {
		case c.Restart:
			k.log.Warn("configuration changed; restart the agent to use it", "key", c.Key, "was", c.Was, "is", c.Is, "from", next.source(c.Key))
		case c.Applies:
			k.log.Info("configuration changed and is applied", "key", c.Key, "was", c.Was, "is", c.Is, "from", next.source(c.Key))
		default:
			k.log.Info("configuration changed, without effect on the agent", "key", c.Key, "was", c.Was, "is", c.Is)
		}
	}
	k.current = next.values
	var pending []string
	for _, c := range config.Compare(k.o.values, next.values) {
		if c.Restart {
			pending = append(pending, fmt.Sprintf("configuration: %s is now %q (%s), the agent still works with %q (%s): restart the agent on node %s",
				c.Key, c.Is, next.source(c.Key), c.Was, k.o.source(c.Key), k.o.node))
		}
	}
	k.notes.warn("configuration restart", pending...)
	k.describe(&next)
	k.apply(next.settings)
}

func (k *configKeeper) failed(err error) {
	k.log.Error("configuration", "err", err)
	k.notes.problem("read configuration", err)
}

type configParams struct {
	fx.In
	Options *options
	Notes   *notes
	Log     *slog.Logger
	Level   *slog.LevelVar
	CNI     *cniKeeper
	Agent   *runtime.Agent
}

// provideConfigKeeper makes the keeper that applies to the running agent.
func provideConfigKeeper(p configParams) *configKeeper {
	return newConfigKeeper(p.Options, p.Notes, p.Log, func(s config.Settings) {
		p.Level.Set(levelOf(s))
		p.CNI.set(s.CNI)
		ctx, cancel := context.WithTimeout(context.Background(), configCheck)
		defer cancel()
		if err := p.Agent.Masquerade(ctx, s.Masquerade); err != nil {
			p.Log.Error("configuration", "err", err)
		}
	})
}

// keepConfig follows the directory.
func keepConfig(lc fx.Lifecycle, k *configKeeper) {
	beside(lc, func(ctx context.Context) {
		k.describe(k.o)
		if k.o.configDir != "" {
			configdir.Watch(ctx, k.o.configDir, configCheck, k.o.layers.base, k.changed, k.failed)
		}
	}, nil)
}

// keepNodeConfigs follows the CiliumNodeConfigs that select the node, and its labels.
func keepNodeConfigs(lc fx.Lifecycle, k *configKeeper, s *kubernetes.Store) error {
	if _, count := config.NodeConfigs(k.o.layers.base); !count || k.o.nodeConfig == "" {
		return nil
	}
	client, err := nodeconfig.New(s.Config(), k.o.node, nodeConfigNamespace(k.o.layers.base))
	if err != nil {
		return err
	}
	beside(lc, func(ctx context.Context) {
		client.Watch(ctx, k.selected, func(err error) {
			if err != nil {
				k.log.Warn("configuration: what was heard last stays in force", "err", err)
				k.notes.warn("CiliumNodeConfigs", "configuration: what was heard last stays in force: "+err.Error())
				return
			}
			k.notes.warn("CiliumNodeConfigs")
		})
	}, nil)
	return nil
}
