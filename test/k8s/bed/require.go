package bed

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Require skips a test that needs a cluster with nodes, saying why, unless one can be built here and
// is wanted: these tests take minutes and the whole machine, so they run only if the environment's
// REQUIRE (a comma-separated list) names kube-nodes or WEIR_K8S_NODES is set. With REQUIRE a machine
// that cannot do it fails the test. The result is the folder with the binaries: $WEIR_K8S_BIN, or
// where build.sh puts them.
func Require(t testing.TB) string {
	t.Helper()
	required := slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "kube-nodes")
	if !required && os.Getenv("WEIR_K8S_NODES") == "" {
		t.Skip("clusters with nodes are built by make test-k8s only")
	}
	bin, err := Binaries()
	if err != nil {
		t.Fatal(err)
	}
	err = Check(bin)
	switch {
	case err != nil && required:
		t.Fatalf("REQUIRE names kube-nodes, but %v", err)
	case err != nil:
		t.Skip(err)
	}
	return bin
}
