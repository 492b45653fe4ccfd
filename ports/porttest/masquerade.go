package porttest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/ports"
)

// MasqueradeRig is an implementation under test: Disturb takes all rules away behind its back.
type MasqueradeRig struct {
	Masquerade ports.Masquerade
	Disturb    func()
}

// Masquerade is the contract of ports.Masquerade. Each call of the function gives one without rules.
func Masquerade(t *testing.T, fresh func(t *testing.T) MasqueradeRig) {
	pp := func(ss ...string) (out []netip.Prefix) {
		for _, s := range ss {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	rules := ports.MasqueradeRules{
		Sources: pp("10.1.0.0/24", "fd00:1::/64"),
		Inside:  pp("10.1.0.0/24", "10.1.1.0/24", "10.9.0.0/16", "fd00:1::/64", "fd00:2::/64"),
	}
	have := func(t *testing.T, r MasqueradeRig, want ports.MasqueradeRules) {
		t.Helper()
		got, err := r.Masquerade.Masqueraded()
		require.NoError(t, err)
		assert.Equal(t, want.Normal(), got)
	}
	sync := func(t *testing.T, r MasqueradeRig, want ports.MasqueradeRules) {
		t.Helper()
		require.NoError(t, r.Masquerade.SyncMasquerade(want))
		have(t, r, want)
	}

	t.Run("nothing at first", func(t *testing.T) {
		have(t, fresh(t), ports.MasqueradeRules{})
	})
	t.Run("made, repeated, changed", func(t *testing.T) {
		r := fresh(t)
		sync(t, r, rules)
		sync(t, r, rules)
		other := rules
		other.Sources = pp("10.1.0.0/24")
		other.Inside = pp("0.0.0.0/1")
		sync(t, r, other)
		other.Inside = nil
		sync(t, r, other)
		other.Sources, other.Inside = pp("fd00:1::/64"), pp("::/0", "255.255.255.255/32")
		sync(t, r, other)
	})
	t.Run("devices", func(t *testing.T) {
		r := fresh(t)
		with := rules
		with.Devices = []string{"wan+", "eth0", "eth0"}
		sync(t, r, with)
		sync(t, r, rules)
	})
	t.Run("without sources there are none", func(t *testing.T) {
		r := fresh(t)
		sync(t, r, ports.MasqueradeRules{Inside: pp("10.0.0.0/8")})
		sync(t, r, rules)
		sync(t, r, ports.MasqueradeRules{})
		sync(t, r, ports.MasqueradeRules{})
	})
	t.Run("restored", func(t *testing.T) {
		r := fresh(t)
		sync(t, r, rules)
		r.Disturb()
		have(t, r, ports.MasqueradeRules{})
		sync(t, r, rules)
	})
	t.Run("many prefixes", func(t *testing.T) {
		r := fresh(t)
		many := ports.MasqueradeRules{Sources: pp("10.1.0.0/24", "fd00:1::/64")}
		for i := range 3000 {
			many.Inside = append(many.Inside,
				netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 7), byte(i << 1), 0}), 24),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 3, byte(i >> 7), byte(i << 1)}), 32))
		}
		sync(t, r, many)
	})
	t.Run("wrong rules change nothing", func(t *testing.T) {
		r := fresh(t)
		sync(t, r, rules)
		for _, devices := range [][]string{{""}, {"+"}, {"a b"}, {"abcdefghijklmnop"}, {"eth/0"}} {
			wrong := rules
			wrong.Devices = devices
			assert.Error(t, r.Masquerade.SyncMasquerade(wrong), "%q", devices)
		}
		wrong := rules
		wrong.Sources = []netip.Prefix{{}}
		assert.Error(t, r.Masquerade.SyncMasquerade(wrong))
		wrong = rules
		wrong.Inside = pp("::ffff:10.0.0.0/104")
		assert.Error(t, r.Masquerade.SyncMasquerade(wrong))
		have(t, r, rules)
	})
}
