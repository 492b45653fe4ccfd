package nftables

import (
	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// Module provides *Masquerade, as itself and as ports.Masquerade. It needs a Config.
var Module = fx.Module("nftables",
	fx.Provide(New, func(m *Masquerade) ports.Masquerade { return m }),
)
