package operator

import (
	"context"

	"github.com/weirnet/weir/adapters/kubernetes/crds"
)

// install puts the custom resource definitions in place, which everything else needs.
func (op *Operator) install(ctx context.Context, c *clients) error {
	if op.config.SkipCRDs {
		return nil
	}
	op.health.working("installing the custom resource definitions")
	return crds.Install(ctx, c.config, op.log)
}
