package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/fx"

	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/adapters/kubernetes"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/ports"
)

// fromKubernetes makes an API server the cluster; endpoints are remembered in the run directory.
func fromKubernetes(o *options, log *slog.Logger) fx.Option {
	s := o.settings
	return fx.Options(
		fx.Supply(kubernetes.Options{
			Kubeconfig: s.Kubeconfig, Server: s.APIServer, Node: o.node, Manager: kubernetes.ManagerAgent,
			QPS: s.QPS, Burst: s.Burst, EndpointSlices: s.EndpointSlices, ClusterPool: s.IPAM == config.IPAMClusterPool,
			StateDir: filepath.Join(s.RunDir, "last-good"), Log: log,
		}),
		kubernetes.Module,
		fx.Provide(func() (ports.Attachments, error) {
			return filestore.OpenAttachments(filepath.Join(s.RunDir, "endpoints"))
		}),
		fx.Invoke(
			func(a ports.Attachments) error { return keepIPAM(s.RunDir, s.IPAM, a) },
			watchAPIServer,
			keepNodeConfigs,
			// Drops by policy, and endpoints that can't be served, become Events of their pods.
			func(lc fx.Lifecycle, r *kubernetes.Reporter) { beside(lc, r.Run, nil) },
		),
	)
}

const (
	// apiCheck is how often the API server's address is tried until the agent is ready, apiDial how long one
	// try may take.
	apiCheck = 3 * time.Second
	apiDial  = 3 * time.Second
	// loopPatience is how long an address that depends on the agent itself may fail.
	loopPatience = 30 * time.Second
)

// apiServer is where the API server is said to be.
type apiServer struct {
	address string // host:port
	// serviceIP says that it is the cluster IP of the service "kubernetes": without kube-proxy only an agent
	// that is already connected can make it work.
	serviceIP bool
}

// apiServerOf finds out the address. The kubelet tells every container the cluster IP by
// KUBERNETES_PORT_443_TCP_ADDR (or another port), also one that is given another KUBERNETES_SERVICE_HOST.
func apiServerOf(host string, environment []string) (apiServer, error) {
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return apiServer{}, fmt.Errorf("address of the API server: %q is not a URL", host)
	}
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "80", false: "443"}[u.Scheme == "http"]
	}
	a := apiServer{address: net.JoinHostPort(u.Hostname(), port)}
	for _, e := range environment {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "KUBERNETES_PORT_") && strings.HasSuffix(name, "_TCP_ADDR") && sameIP(value, u.Hostname()) {
			a.serviceIP = true
		}
	}
	return a, nil
}

func sameIP(a, b string) bool {
	ia, ib := net.ParseIP(a), net.ParseIP(b)
	return ia != nil && ia.Equal(ib)
}

// explain says what is wrong when the address does not answer.
func (a apiServer) explain(err error, proxyFree bool) error {
	switch {
	case a.serviceIP && proxyFree:
		return fmt.Errorf("%s does not answer (%w): it is the cluster IP of the service kubernetes, and without kube-proxy "+
			"only the agent itself could make that work, which needs the API server first: set k8sServiceHost and "+
			"k8sServicePort to an address of the API server that needs no service", a.address, err)
	case proxyFree:
		return fmt.Errorf("%s does not answer (%w): it must be an address of the API server that is reached without a service; "+
			"if it is a cluster IP, set k8sServiceHost and k8sServicePort", a.address, err)
	}
	return fmt.Errorf("%s does not answer (%w): is it the address of the API server, and does kube-proxy run on this node?", a.address, err)
}

type apiWatchParams struct {
	fx.In
	Options   *options
	Store     *kubernetes.Store
	Endpoints ports.Endpoints
	Inspector ports.Inspector
	Notes     *notes
	Log       *slog.Logger
	Shutdown  fx.Shutdowner
}

// watchAPIServer says why nothing is heard of the cluster while the agent waits for it, and afterwards
// whether the address is one that works by the agent's own doing.
func watchAPIServer(lc fx.Lifecycle, p apiWatchParams) error {
	a, err := apiServerOf(p.Store.Config().Host, os.Environ())
	if err != nil {
		return err
	}
	proxyFree := p.Options.settings.SocketLB
	beside(lc, func(ctx context.Context) {
		failing := time.Time{}
		for p.Endpoints.Ready(ctx) != nil {
			if ctx.Err() != nil {
				return
			}
			err := tryAddress(ctx, a.address)
			if err == nil {
				failing = time.Time{}
			} else if err = a.explain(err, proxyFree); failing.IsZero() {
				failing = time.Now()
			}
			if p.Notes.problem("API server", err) && err != nil {
				p.Log.Error("API server", "err", err)
			}
			if a.serviceIP && proxyFree && !failing.IsZero() && time.Since(failing) > loopPatience {
				_ = p.Shutdown.Shutdown(fx.ExitCode(1))
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(apiCheck):
			}
		}
		p.Notes.problem("API server", nil)
		if proxyFree && (a.serviceIP || isServiceOf(ctx, p.Inspector, a.address)) {
			text := fmt.Sprintf("API server: %s is the cluster IP of the service kubernetes: it answers through the datapath of an agent that ran "+
				"before, or through kube-proxy; on a node that starts anew it will not: set k8sServiceHost and k8sServicePort", a.address)
			p.Notes.warn("API server", text)
			p.Log.Warn(text)
		}
	}, nil)
	return nil
}

// isServiceOf says whether an address is a frontend of the service kubernetes.
func isServiceOf(ctx context.Context, in ports.Inspector, address string) bool {
	services, err := in.Services(ctx)
	if err != nil {
		return false
	}
	for _, s := range services {
		if s.Name == "default/kubernetes" && strings.TrimSuffix(s.Frontend, "/TCP") == address {
			return true
		}
	}
	return false
}

func tryAddress(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, apiDial)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return op.Err
		}
		return err
	}
	return c.Close()
}
