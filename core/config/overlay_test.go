package config_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/config"
)

func overlays(pairs ...any) (out []config.Overlay) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, config.Overlay{Name: "kube-system/" + pairs[i].(string), Values: pairs[i+1].(map[string]string)})
	}
	return out
}

func messages(r config.Resolved) (out []string) {
	for _, f := range r.Findings {
		out = append(out, f.Message)
	}
	return out
}

func TestLaterOverlaysCountMore(t *testing.T) {
	base := map[string]string{"mtu": "1400", "debug": "false", "tunnel-port": "8472"}
	r := config.Resolve(base, overlays("a", map[string]string{"mtu": "1300", "debug": "true"}, "b", map[string]string{"mtu": ""}, "c", map[string]string{"x-unknown": "1"}), nil)
	assert.Equal(t, map[string]string{"mtu": "", "debug": "true", "tunnel-port": "8472", "x-unknown": "1"}, r.Values)
	assert.Equal(t, map[string]string{"mtu": "kube-system/b", "debug": "kube-system/a", "x-unknown": "kube-system/c"}, r.From)
	assert.Empty(t, r.Findings)
	assert.Equal(t, "CiliumNodeConfig kube-system/a", r.Source("debug"))
	assert.Equal(t, "ConfigMap cilium-config", r.Source("tunnel-port"))
	assert.Equal(t, "default", r.Source("ipam"))
	assert.Equal(t, map[string]string{"mtu": "1400", "debug": "false", "tunnel-port": "8472"}, base, "what was given stays as it is")
}

// What is refused leaves in force what was there before, the value of another overlay, too.
func TestRefusedKeysOfOverlays(t *testing.T) {
	base := map[string]string{"mtu": "1400"}
	r := config.Resolve(base, overlays(
		"a", map[string]string{"mtu": "1300", "enable-policy": "never"},
		"b", map[string]string{"mtu": "many", "debug": "true", "identity-gc-interval": "1m", "enable-cilium-node-config": "false"}), nil)
	assert.Equal(t, map[string]string{"mtu": "1300", "debug": "true"}, r.Values)
	all := messages(r)
	require.Len(t, all, 4)
	assert.Contains(t, all[0], `CiliumNodeConfig kube-system/a: enable-policy: "never" is refused: `)
	assert.Contains(t, all[0], `; "default" (default) stays in force`)
	assert.Equal(t, `CiliumNodeConfig kube-system/b: enable-cilium-node-config: is for the ConfigMap alone; "true" (default) stays in force`, all[1])
	assert.Contains(t, all[2], "identity-gc-interval: is read by the operator")
	assert.Equal(t, `CiliumNodeConfig kube-system/b: mtu: "many" is not a whole number; allowed: 0 to 65535; "1300" (CiliumNodeConfig kube-system/a) stays in force`, all[3])
	for _, f := range r.Findings {
		assert.Equal(t, config.Warning, f.Severity, "the agent starts all the same")
	}
}

// Keys that need each other may come from two overlays; an overlay that goes together with nothing is left out.
func TestOverlaysThatDoNotGoTogether(t *testing.T) {
	direct := map[string]string{"auto-direct-node-routes": "true"}
	r := config.Resolve(nil, overlays("a", direct, "b", map[string]string{"routing-mode": "native"}), nil)
	assert.Equal(t, map[string]string{"auto-direct-node-routes": "true", "routing-mode": "native"}, r.Values)
	assert.Empty(t, r.Findings)

	r = config.Resolve(map[string]string{"mtu": "1400"}, overlays("a", direct, "b", map[string]string{"debug": "true"}), nil)
	assert.Equal(t, map[string]string{"mtu": "1400", "debug": "true"}, r.Values)
	assert.Equal(t, []string{"CiliumNodeConfig kube-system/a: does not go together with the rest and is left out as a whole: auto-direct-node-routes: needs routing-mode native"}, messages(r))

	// A third that goes together with nothing does not take those along that need each other, in whatever order.
	bad := map[string]string{"enable-ipv4": "false", "enable-ipv6": "false"}
	r = config.Resolve(nil, overlays("a", direct, "b", map[string]string{"routing-mode": "native"}, "c", bad), nil)
	assert.Equal(t, map[string]string{"auto-direct-node-routes": "true", "routing-mode": "native"}, r.Values)
	assert.Equal(t, []string{"CiliumNodeConfig kube-system/c: does not go together with the rest and is left out as a whole: enable-ipv4, enable-ipv6: at least one must be true"}, messages(r))

	// A ConfigMap that is wrong itself can be put right.
	r = config.Resolve(map[string]string{"mtu": "1000"}, overlays("a", map[string]string{"mtu": "1400"}), nil)
	assert.Equal(t, "1400", r.Values["mtu"])
}

func TestLimitsOfOverlays(t *testing.T) {
	both := overlays("a", map[string]string{"mtu": "1300", "debug": "true"})
	limited := func(text string) config.Resolved {
		return config.Resolve(map[string]string{"config-sources-overrides": text}, both, nil)
	}
	r := limited(`{"allowConfigKeys":["mtu"],"denyConfigKeys":["mtu"]}`)
	assert.Equal(t, map[string]string{"mtu": "kube-system/a"}, r.From)
	assert.Equal(t, []string{`CiliumNodeConfig kube-system/a: debug: may not be overridden; allowed by config-sources-overrides: mtu; "false" (default) stays in force`}, messages(r))
	r = limited(`{"denyConfigKeys":["mtu"]}`)
	assert.Equal(t, map[string]string{"debug": "kube-system/a"}, r.From)
	r = limited("mtu")
	assert.Empty(t, r.From)
	assert.Contains(t, messages(r)[0], "no CiliumNodeConfig counts")
}

func TestWhetherOverlaysCount(t *testing.T) {
	for _, c := range []struct {
		enable, sources, namespace string
		count                      bool
	}{
		{"", "", "", true}, {"false", "", "", false}, {"true", "config-map:cilium-config", "", false},
		{"", "config-map:cilium-config,cilium-node-config", "", true}, {"", "cilium-node-config:net config-map", "net", true},
	} {
		namespace, count := config.NodeConfigs(map[string]string{"enable-cilium-node-config": c.enable, "config-sources": c.sources})
		assert.Equal(t, []any{c.namespace, c.count}, []any{namespace, count}, "%+v", c)
	}
}

// Whatever overlays say: if the ConfigMap is good the outcome is, every key of it comes from somewhere, and
// every key of an overlay is in force, hidden by a later one, or told.
func TestOverlaysNeverBreakANode(t *testing.T) {
	keys := []string{"mtu", "debug", "routing-mode", "auto-direct-node-routes", "enable-ipv4", "enable-ipv6", "ipam", "unknown", "nodes-gc-interval", "enable-policy"}
	value := rapid.SampledFrom([]string{"", "true", "false", "native", "tunnel", "1400", "7", "delegated-plugin", "always", "\xff"})
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOfN(rapid.SampledFrom(keys), value, 0, 5)
		base := m.Filter(func(v map[string]string) bool { _, err := config.Parse(v); return err == nil }).Draw(t, "base")
		var all []config.Overlay
		for i := range rapid.IntRange(0, 4).Draw(t, "overlays") {
			all = append(all, config.Overlay{Name: string(rune('a' + i)), Values: m.Draw(t, "overlay")})
		}
		r := config.Resolve(maps.Clone(base), all, nil)
		if _, err := config.Parse(r.Values); err != nil {
			t.Fatalf("%v: %v", r.Values, err)
		}
		told := errors.Join()
		for _, f := range r.Findings {
			told = errors.Join(told, errors.New(f.Message))
		}
		for k, v := range r.Values {
			if by, ok := r.From[k]; ok {
				for _, o := range all {
					if o.Name == by && o.Values[k] != v {
						t.Fatalf("%s: %q is not what %s says", k, v, by)
					}
				}
			} else if base[k] != v {
				t.Fatalf("%s: %q comes from nowhere", k, v)
			}
		}
		for i, o := range all {
			for k := range o.Values {
				later := false
				for _, l := range all[i:] {
					later = later || r.From[k] == l.Name
				}
				if !later && told == nil {
					t.Fatalf("%s of %s is neither in force nor told of", k, o.Name)
				}
			}
		}
	})
}
