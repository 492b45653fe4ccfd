// Package netnstest gives tests network namespaces of their own.
package netnstest

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// Require skips the test, saying why, if network namespaces cannot be made here; with REQUIRE=root
// in the environment (a comma-separated list) it fails instead.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "not root")
	}
	name := newName()
	if _, err := netns.Create(name); err != nil {
		missing(t, err.Error())
	}
	if err := netns.Delete(name); err != nil {
		t.Fatal(err)
	}
}

func missing(t testing.TB, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "root") {
		t.Fatalf("REQUIRE=root: cannot make network namespaces: %s", why)
	}
	t.Skipf("needs root: cannot make network namespaces: %s", why)
}

// New makes a namespace that goes away with the test, and returns its name; netns.Path gives its path.
func New(t testing.TB) string {
	t.Helper()
	name := newName()
	if _, err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func newName() string {
	var b [6]byte
	rand.Read(b[:])
	return "weirtest-" + hex.EncodeToString(b[:])
}
