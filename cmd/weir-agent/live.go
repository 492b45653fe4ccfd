package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/adapters/configdir"
	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/config"
)

// configCheck is how often the configuration directory is looked at; the kubelet itself takes about a
// minute to bring a change of the ConfigMap.
const configCheck = 5 * time.Second

// configKeeper follows the configuration while the agent runs: what can be applied is, and what needs a
// restart is said.
type configKeeper struct {
	log     *slog.Logger
	notes   *notes
	o       *options          // as the agent was started
	current map[string]string // what is in force, or will be
	apply   func(config.Settings)
}

// describe tells what there is to say about the configuration that the agent starts with.
func (k *configKeeper) describe(values map[string]string) {
	var warnings []string
	for _, f := range config.Check(values) {
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
func (k *configKeeper) changed(read map[string]string) {
	next := *k.o
	if err := next.combine(read); err != nil {
		k.log.Error("the configuration has changed and is refused; the one before stays in force", "err", err)
		k.notes.problem("configuration", fmt.Errorf("refused, the one before stays in force: %w", err))
		return
	}
	k.notes.problem("configuration", nil)
	k.notes.problem("read configuration", nil)
	for _, c := range config.Compare(k.current, next.values) {
		switch {
		case c.Restart:
			k.log.Warn("configuration changed; restart the agent to use it", "key", c.Key, "was", c.Was, "is", c.Is)
		case c.Applies:
			k.log.Info("configuration changed and is applied", "key", c.Key, "was", c.Was, "is", c.Is)
		default:
			k.log.Info("configuration changed, without effect on the agent", "key", c.Key, "was", c.Was, "is", c.Is)
		}
	}
	k.current = next.values
	var pending []string
	for _, c := range config.Compare(k.o.values, next.values) {
		if c.Restart {
			pending = append(pending, fmt.Sprintf("configuration: %s is now %q, the agent still works with %q: restart it", c.Key, c.Is, c.Was))
		}
	}
	k.notes.warn("configuration restart", pending...)
	k.describe(next.values)
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

func keepConfig(lc fx.Lifecycle, p configParams) {
	k := &configKeeper{log: p.Log, notes: p.Notes, o: p.Options, current: p.Options.values}
	k.apply = func(s config.Settings) {
		p.Level.Set(levelOf(s))
		p.CNI.set(s.CNI)
		ctx, cancel := context.WithTimeout(context.Background(), configCheck)
		defer cancel()
		if err := p.Agent.Masquerade(ctx, s.Masquerade); err != nil {
			p.Log.Error("configuration", "err", err)
		}
	}
	beside(lc, func(ctx context.Context) {
		k.describe(p.Options.values)
		if p.Options.configDir != "" {
			configdir.Watch(ctx, p.Options.configDir, configCheck, p.Options.read, k.changed, k.failed)
		}
	}, nil)
}
