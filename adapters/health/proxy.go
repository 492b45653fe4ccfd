package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// ProxyAddress is where Module answers in kube-proxy's place; the zero value: nowhere.
type ProxyAddress netip.AddrPort

// ProxyHandler answers GET /healthz as kube-proxy does, at port 10256 usually: cloud load balancers send the
// node nothing unless it is 200. That is so while services are served, 503 says that they are not.
func ProxyHandler(endpoints ports.Endpoints, now func() time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if endpoints.Ready(ctx) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		at := now().UTC()
		_ = json.NewEncoder(w).Encode(struct {
			Updated time.Time `json:"lastUpdated"`
			Current time.Time `json:"currentTime"`
		}{at, at})
	})
	return mux
}

func serveProxyWhileRunning(lc fx.Lifecycle, at ProxyAddress, endpoints ports.Endpoints, log *slog.Logger) {
	address := netip.AddrPort(at)
	if !address.IsValid() {
		return
	}
	s := &http.Server{Handler: ProxyHandler(endpoints, time.Now), ReadHeaderTimeout: 5 * time.Second}
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			l, err := net.Listen("tcp", address.String())
			if err != nil {
				return fmt.Errorf("health in kube-proxy's place: %w; does kube-proxy run on this node?", err)
			}
			go func() {
				if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					log.Error("answer in kube-proxy's place", "address", address, "err", err)
				}
			}()
			return nil
		},
		OnStop: func(context.Context) error { return s.Close() },
	})
}
