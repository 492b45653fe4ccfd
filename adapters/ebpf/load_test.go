package ebpf

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

func TestLoad(t *testing.T) {
	specs, err := loadSpecs()
	require.NoError(t, err)
	shared := sharedMaps(specs)
	Sizes{}.apply(shared)
	for _, s := range shared {
		s.Pinning = ebpf.PinNone
	}
	m, err := openMaps("/nonexistent", shared)
	require.NoError(t, err)
	defer closeMaps(m)
	p, err := loadPrograms(specs, m, map[string]any{"overlay_ifindex": uint32(5)}, ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats})
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		n := len(ve.Log)
		fmt.Printf("%v\n", ve.Log[max(0, n-60):])
	}
	require.NoError(t, err)
	for name, x := range p {
		i, _ := x.Info()
		n, _ := i.VerifiedInstructions()
		t.Log(name, n)
	}
}
