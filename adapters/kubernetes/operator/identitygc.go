package operator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirnet/weir/adapters/kubernetes"
)

// identityGC retires identities that no endpoint has used for a while.
type identityGC struct {
	op    *Operator
	log   *slog.Logger
	store *kubernetes.Store
}

func newIdentityGC(op *Operator, c *clients) (*identityGC, error) {
	log := op.log.With("duty", "identity-gc")
	store, err := kubernetes.Open(kubernetes.Options{
		Config: c.config, QPS: op.config.QPS, Burst: op.config.Burst, Manager: kubernetes.ManagerOperator, Operator: true, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("identity-gc: %w", err)
	}
	return &identityGC{op, log, store}, nil
}

func (g *identityGC) run(ctx context.Context) {
	every(ctx, g.op.config.IdentityGC, func(ctx context.Context) {
		began := time.Now()
		found, err := g.store.CollectAndCount(ctx, g.op.config.IdentityTimeout)
		if ctx.Err() == nil {
			g.op.metrics.identities(found, time.Since(began), err)
		}
		if err != nil && ctx.Err() == nil {
			g.log.Warn("will try again", "error", err)
		}
		if len(found.Gone) > 0 {
			g.log.Info("retired identities that no endpoint uses", "identities", fmt.Sprint(found.Gone))
		}
	})
}
