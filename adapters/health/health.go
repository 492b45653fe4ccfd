// Package health answers the kubelet's probes over HTTP, on the loopback addresses only, and in kube-proxy's place
// those who ask for the health of the node's services.
//
// GET /healthz is 200 when pods can be served and 503 with the reason when they cannot. With the header
// "require-k8s-connectivity: false" it says whether the agent is alive: whether its loop answers, whatever it
// waits for. With the header "brief: true" the body is "ok" or the reason in one line; without it there
// follow the problems and warnings that `weir status` shows. Neither answer turns to 503 because the API
// server goes away once the agent is ready: its last state stays in force.
package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// DefaultPort is where the kubelet asks.
const DefaultPort = 9879

// answerTimeout is how long the agent's loop may take: less than a probe waits, so that it hears why.
const answerTimeout = 3 * time.Second

// Port is where Module listens; 0: nowhere.
type Port uint16

// Handler answers for an agent.
func Handler(endpoints ports.Endpoints, inspector ports.Inspector) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		ask := endpoints.Ready
		if yes, err := strconv.ParseBool(r.Header.Get("require-k8s-connectivity")); err == nil && !yes {
			ask = func(ctx context.Context) error { return alive(ctx, endpoints) }
		}
		err := ask(ctx)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, reason(err))
		if brief, e := strconv.ParseBool(r.Header.Get("brief")); e != nil || !brief {
			describe(ctx, w, inspector)
		}
	})
	return mux
}

func reason(err error) string {
	if err == nil {
		return "ok"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// alive asks the loop about an attachment that nobody has: any answer is one.
func alive(ctx context.Context, endpoints ports.Endpoints) error {
	_, _, err := endpoints.Lookup(ctx, "", "")
	if err == nil || errors.Is(err, ports.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("the agent's loop does not answer: %w", err)
}

func describe(ctx context.Context, w http.ResponseWriter, inspector ports.Inspector) {
	s, err := inspector.Status(ctx)
	if err != nil {
		fmt.Fprintln(w, "status:", err)
		return
	}
	for _, p := range s.Problems {
		fmt.Fprintln(w, "problem:", p)
	}
	for _, p := range s.Warnings {
		fmt.Fprintln(w, "warning:", p)
	}
}

// Listen opens the port on the loopback addresses of the families that the machine has. 0 takes a free
// port, the same for both.
func Listen(port uint16) ([]net.Listener, error) {
	var open []net.Listener
	var errs []error
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		port = uint16(l.Addr().(*net.TCPAddr).Port)
		open = append(open, l)
	}
	if len(open) == 0 {
		return nil, fmt.Errorf("health: %w", errors.Join(errs...))
	}
	return open, nil
}

// Module answers probes for as long as the application runs. It needs a Port and a ProxyAddress.
var Module = fx.Module("health", fx.Invoke(serveWhileRunning, serveProxyWhileRunning))

func serveWhileRunning(lc fx.Lifecycle, port Port, endpoints ports.Endpoints, inspector ports.Inspector, log *slog.Logger) {
	if port == 0 {
		return
	}
	s := &http.Server{Handler: Handler(endpoints, inspector), ReadHeaderTimeout: 5 * time.Second}
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			ls, err := Listen(uint16(port))
			if err != nil {
				return err
			}
			for _, l := range ls {
				go func() {
					if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
						log.Error("answer probes", "address", l.Addr(), "err", err)
					}
				}()
			}
			return nil
		},
		OnStop: func(context.Context) error { return s.Close() },
	})
}
