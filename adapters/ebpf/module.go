package ebpf

import (
	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// Opener opens the datapath once the overlay devices exist.
type Opener func(ports.OverlayLinks) (ports.Datapath, error)

// Module provides an Opener and the kernel's features. It needs a Config; the devices in it are
// filled in by the Opener.
var Module = fx.Module("ebpf",
	fx.Provide(
		func(c Config) Opener {
			return func(l ports.OverlayLinks) (ports.Datapath, error) {
				c.Tunnel, c.Outside = l.Tunnel, l.Outside
				c.OverlayIfindex, c.HostIfindex, c.DirectIfindex = l.VXLAN, l.Host, l.Direct
				return Open(c)
			}
		},
		Probe,
	),
)
