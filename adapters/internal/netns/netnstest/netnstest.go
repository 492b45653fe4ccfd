// Package netnstest gives tests network namespaces of their own.
package netnstest

import (
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/weirnet/weir/adapters/internal/needs"
	"github.com/weirnet/weir/adapters/internal/netns"
)

// Require skips the test, saying why, if network namespaces cannot be made here; with REQUIRE=root
// in the environment (a comma-separated list) it fails instead.
func Require(t testing.TB) {
	t.Helper()
	needs.Root(t, "make network namespaces")
	name := newName()
	if _, err := netns.Create(name); err != nil {
		needs.Missing(t, "root", "cannot make network namespaces: "+err.Error())
	}
	if err := netns.Delete(name); err != nil {
		t.Fatal(err)
	}
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
