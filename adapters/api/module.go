package api

import (
	"context"
	"log/slog"

	"go.uber.org/fx"
)

// SocketPath is where Module listens.
type SocketPath string

// Module serves ports.Inspector and ports.Endpoints on a unix socket for as long as the application
// runs. It needs a SocketPath.
var Module = fx.Module("api", fx.Provide(NewServer), fx.Invoke(serveWhileRunning))

func serveWhileRunning(lc fx.Lifecycle, s *Server, path SocketPath, log *slog.Logger) {
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			l, err := Listen(string(path))
			if err != nil {
				return err
			}
			go func() {
				if err := s.Serve(l); err != nil {
					log.Error("serve the agent's API", "err", err)
				}
			}()
			return nil
		},
		OnStop: s.Shutdown,
	})
}
