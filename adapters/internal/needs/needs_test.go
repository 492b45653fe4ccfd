package needs_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/weirnet/weir/adapters/internal/needs"
)

// ended is a test that notes how it was ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper() {}
func (e *ended) Fatalf(format string, args ...any) {
	e.how = "failed: " + fmt.Sprintf(format, args...)
}
func (e *ended) Skipf(format string, args ...any) {
	if e.how == "" { // the real Fatalf does not return
		e.how = "skipped: " + fmt.Sprintf(format, args...)
	}
}

func TestMissing(t *testing.T) {
	for require, want := range map[string]string{
		"":           "skipped: needs nft: no such command",
		"root":       "skipped: needs nft: no such command",
		"nftables":   "skipped: needs nft: no such command",
		"nft":        "failed: REQUIRE names nft: no such command",
		"root,nft":   "failed: REQUIRE names nft: no such command",
		"nft,a,root": "failed: REQUIRE names nft: no such command",
	} {
		t.Setenv("REQUIRE", require)
		e := &ended{}
		needs.Missing(e, "nft", "no such command")
		assert.Equal(t, want, e.how, "REQUIRE=%s", require)
	}
}
