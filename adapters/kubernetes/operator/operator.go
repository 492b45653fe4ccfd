// Package operator does what a cluster needs once, and not once a node: it installs the custom resource
// definitions, makes a CiliumNode for every Node and divides the cluster's pod addresses among them,
// takes the taint from nodes whose agent is ready, removes identities, endpoints and nodes that are not
// used any more, says of every policy whether it is valid, and gathers endpoints in slices.
//
// Several replicas may run; one leads, by a Lease, and the others wait. A leader begins with what the API
// server says and keeps nothing else, so that it may end at any moment; and traffic does not need it.
// What an operator writes carries the version of what it read: when somebody else was faster the write
// fails, and is thought over again.
package operator

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/fx"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Options are what an Operator needs.
type Options struct {
	Config   Config
	Identity string // of this replica in the Lease; empty: host name and something random
	Version  string // for the metrics
	Log      *slog.Logger
}

// Operator is one replica. Make it with New.
type Operator struct {
	config   Config
	log      *slog.Logger
	rest     *rest.Config
	election *election
	health   *health
	metrics  *metrics
	serving  *metricsServer // nil if no metrics are to be served

	ended chan struct{}
	stop  context.CancelFunc
}

// Module makes an *Operator of Options, and starts and stops it with the application. If it can't go on the
// application is shut down with exit code 1.
var Module = fx.Module("operator", fx.Provide(New), fx.Invoke(func(l fx.Lifecycle, s fx.Shutdowner, op *Operator) {
	l.Append(fx.Hook{
		OnStart: func(context.Context) error {
			return op.Start(func(err error) {
				op.log.Error("ended", "error", err)
				_ = s.Shutdown(fx.ExitCode(1))
			})
		},
		OnStop: op.Stop,
	})
}))

// New makes an operator and does nothing yet. The error names what is missing to find the API server.
func New(o Options) (*Operator, error) {
	if o.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("operator: name of this replica: %w", err)
		}
		o.Identity = host + "-" + rand.String(10)
	}
	config, err := connect(o.Config)
	if err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	e, err := newElection(o.Config, config, o.Identity, o.Log)
	if err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	op := &Operator{config: o.Config, log: o.Log, rest: config, election: e, metrics: newMetrics(o.Version, e)}
	op.health = newHealth(o.Config.ServeAddr, e)
	return op, nil
}

// Start serves /healthz and /metrics and takes part in the election, in the background. failed is called, at most once,
// when that can't go on.
func (op *Operator) Start(failed func(error)) error {
	if err := op.health.start(); err != nil {
		return err
	}
	if op.config.MetricsAddr != "" {
		var err error
		if op.serving, err = op.metrics.serve(op.config.MetricsAddr); err != nil {
			op.health.stop()
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	op.stop, op.ended = cancel, make(chan struct{})
	go func() {
		defer close(op.ended)
		if err := op.election.run(ctx, op.lead); err != nil {
			failed(err)
		}
	}()
	return nil
}

// Stop ends the work, gives back the lease and returns when that has happened or the context has ended.
func (op *Operator) Stop(ctx context.Context) error {
	op.stop()
	defer op.health.stop()
	defer op.serving.stop()
	select {
	case <-op.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("operator: stop: %w", ctx.Err())
	}
}

// Addr is where /healthz is served, after Start.
func (op *Operator) Addr() string { return op.health.addr() }

// lead is one term as the leader.
func (op *Operator) lead(ctx context.Context) {
	op.health.working("starting")
	defer op.health.idle()
	defer op.metrics.standBy()
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		err := op.term(ctx)
		if ctx.Err() != nil {
			return
		}
		op.health.working(err.Error())
		op.log.Error("cannot begin the work, will try again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(spread(wait)):
		}
	}
}

// term does all duties until the context ends. An error means that they could not begin.
func (op *Operator) term(ctx context.Context) error {
	// What client-go has to say goes where all else goes.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(op.log.Handler()))
	config := rest.CopyConfig(op.rest)
	config.Wrap(op.metrics.counted)
	c, err := newClients(config, op.election.mayWrite)
	if err != nil {
		return err
	}
	if err := op.install(ctx, c); err != nil {
		return err
	}
	duties, err := op.duties(c)
	if err != nil {
		return err
	}
	perform(ctx, duties, func(awaited []string) {
		if len(awaited) > 0 {
			op.health.working("reading the cluster for " + strings.Join(awaited, ", "))
			return
		}
		op.health.idle()
		op.log.Info("at work", "ipam", op.config.IPAM)
	})
	return ctx.Err()
}
