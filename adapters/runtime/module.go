package runtime

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// stopTimeout is how long the application waits for the loop to end.
const stopTimeout = 5 * time.Second

// Module runs an agent for as long as the application does, and provides it as *Agent,
// ports.Inspector and ports.Endpoints. It needs a Config and Deps. An agent that fails shuts the
// application down with exit code 1.
var Module = fx.Module("runtime",
	fx.Provide(New, func(a *Agent) ports.Inspector { return a }, func(a *Agent) ports.Endpoints { return a }),
	fx.Invoke(keepRunning),
)

func keepRunning(lc fx.Lifecycle, shut fx.Shutdowner, a *Agent, log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			log.Info("agent starts", "version", a.cfg.Version)
			go func() {
				defer close(ended)
				if err := a.Run(ctx); err != nil && ctx.Err() == nil {
					log.Error("agent failed", "err", err)
					_ = shut.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: func(context.Context) error {
			cancel()
			select {
			case <-ended:
			case <-time.After(stopTimeout):
				log.Warn("the agent's loop does not end; leaving")
			}
			log.Info("agent ends; the datapath stays")
			return nil
		},
	})
}
