package agent_test

import (
	"net/netip"
	"testing"

	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestEndpointsContract(t *testing.T) {
	porttest.TestEndpoints(t, porttest.EndpointsSetup{
		New: func(_ *testing.T, podCIDRs []netip.Prefix) ports.Endpoints { return agent.NewEndpoints(podCIDRs...) },
	})
}
