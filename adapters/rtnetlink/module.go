package rtnetlink

import (
	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// Module provides *Network, as itself and as ports.Network. It needs a Config.
var Module = fx.Module("rtnetlink",
	fx.Provide(New, func(n *Network) ports.Network { return n }),
)
