package masquerade_test

import (
	"testing"

	"github.com/weirnet/weir/fakes/masquerade"
	"github.com/weirnet/weir/ports/porttest"
)

func TestContract(t *testing.T) {
	porttest.Masquerade(t, func(*testing.T) porttest.MasqueradeRig {
		m := masquerade.New()
		return porttest.MasqueradeRig{Masquerade: m, Disturb: m.Flush}
	})
}
