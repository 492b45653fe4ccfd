// Package needs lets a test say what of the machine it needs.
package needs

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Missing skips a test that cannot run because the machine lacks what, one word such as root or nft, and says why in
// a sentence. Where the environment's REQUIRE (a comma-separated list) names what, the test fails instead.
func Missing(t testing.TB, what, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), what) {
		t.Fatalf("REQUIRE names %s: %s", what, why)
	}
	t.Skipf("needs %s: %s", what, why)
}

// Root is for tests that need root, for what.
func Root(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "not root: cannot "+what)
	}
}
