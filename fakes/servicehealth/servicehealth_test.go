package servicehealth_test

import (
	"testing"

	"github.com/weirnet/weir/fakes/servicehealth"
	"github.com/weirnet/weir/ports/porttest"
)

func TestContract(t *testing.T) {
	porttest.ServiceHealth(t, func(*testing.T) porttest.ServiceHealthRig {
		s := servicehealth.New()
		next := uint16(32000)
		return porttest.ServiceHealthRig{
			Health: s, Ask: s.Ask, Occupy: s.Occupy,
			FreePort: func() uint16 { next++; return next },
		}
	})
}
