package rtnetlink

import (
	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// Module provides ports.Network from a Config.
var Module = fx.Module("rtnetlink",
	fx.Provide(func(c Config) ports.Network { return New(c) }),
)
