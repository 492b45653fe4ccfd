package crds

import (
	"os"
	"testing"

	"github.com/weirnet/weir/adapters/internal/kubetest"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Shared(m)) }
