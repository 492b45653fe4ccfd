package kernel_test

import (
	"testing"

	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestContract(t *testing.T) {
	porttest.TestDatapath(t, func(t *testing.T, s porttest.Sizes) (ports.Datapath, []uint32) {
		return kernel.New(kernel.Options{Capacities: kernel.Capacities{
			Endpoints: s.Endpoints, IPCache: s.IPCache, Policy: s.Policy, Nodes: s.Nodes,
			Services: s.Services, Slots: s.Slots, Backends: s.Backends,
		}}), []uint32{4, 5}
	})
}
