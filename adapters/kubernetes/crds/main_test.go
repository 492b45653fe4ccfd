package crds

import (
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weirnet/weir/adapters/internal/kubetest"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Shared(m)) }

func coreResource(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: plural}
}
