package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/ports"
)

// addressPlugin is the plugin to which addresses are delegated.
type addressPlugin struct {
	version.PluginDecoder
	held   map[string]bool // containers that have addresses
	answer string          // to ADD; "": the usual
	fail   string          // verb that fails
	calls  []string
}

func (p *addressPlugin) FindInPath(plugin string, paths []string) (string, error) {
	if plugin != "addresses" {
		return "", fmt.Errorf("no plugin %s in %v", plugin, paths)
	}
	return "/opt/cni/bin/" + plugin, nil
}

func (p *addressPlugin) ExecPlugin(_ context.Context, _ string, stdin []byte, environ []string) ([]byte, error) {
	env := map[string]string{}
	for _, e := range environ {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	verb, container := env["CNI_COMMAND"], env["CNI_CONTAINERID"]
	p.calls = append(p.calls, verb)
	var conf struct{ IPAM struct{ Range string } }
	if err := json.Unmarshal(stdin, &conf); err != nil || conf.IPAM.Range == "" {
		return nil, errors.New("the ipam section did not arrive")
	}
	if verb == p.fail {
		return nil, errors.New(verb + " broken")
	}
	switch verb {
	case "ADD":
		if p.held[container] {
			return nil, errors.New("it has addresses")
		}
		p.held[container] = true
		if p.answer != "" {
			return []byte(p.answer), nil
		}
		return []byte(`{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.5/29"},{"address":"fd00:10:244:1::5/64"}]}`), nil
	case "DEL":
		delete(p.held, container)
	}
	return nil, nil
}

func delegatedRig(t *testing.T) (*rig, *addressPlugin, string) {
	r, p := newRig(t), &addressPlugin{held: map[string]bool{}}
	r.exec = p
	return r, p, with(map[string]any{"ipam": map[string]any{"type": "addresses", "range": "10.244.1.0/29"}})
}

func TestDelegatedAddresses(t *testing.T) {
	r, p, conf := delegatedRig(t)
	out := r.ok("ADD", podEnv("a"), conf)
	var res types100.Result
	require.NoError(t, json.Unmarshal([]byte(out), &res))
	assert.Equal(t, "10.244.1.5/32", res.IPs[0].Address.String())
	req, _ := r.agent.Request(ports.ContainerInterface{ContainerID: "a", Interface: "eth0"})
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("fd00:10:244:1::5")}, req.IPs)
	assert.Equal(t, out, r.ok("ADD", podEnv("a"), conf), "repeated")
	assert.Equal(t, []string{"ADD"}, p.calls, "and not asked for again")

	var check map[string]any
	require.NoError(t, json.Unmarshal([]byte(conf), &check))
	check["prevResult"] = json.RawMessage(out)
	b, err := json.Marshal(check)
	require.NoError(t, err)
	r.ok("CHECK", podEnv("a"), string(b))
	p.fail = "CHECK"
	e := r.fails(cni.CodeDiffers, "CHECK", podEnv("a"), string(b))
	assert.Contains(t, e.Msg, "CHECK broken")

	p.fail = "DEL"
	r.fails(types.ErrInternal, "DEL", podEnv("a"), conf)
	assert.True(t, p.held["a"])
	p.fail = ""
	r.ok("DEL", podEnv("a"), conf)
	assert.Empty(t, p.held)
	r.clean()
	r.ok("DEL", podEnv("a"), conf)
}

// However ADD fails, the addresses are given back, after the link.
func TestDelegatedAddressesAreGivenBack(t *testing.T) {
	for _, step := range []string{"Reserve", "CreatePodLink", "Activate", "ActivatePodLink"} {
		r, p, conf := delegatedRig(t)
		r.agent.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
			if op == step {
				return errors.New("broken")
			}
			return nil
		})
		r.network.Fail(func(op, _ string) error {
			if op == step {
				return errors.New("broken")
			}
			return nil
		})
		r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
		assert.Empty(t, p.held, step)
		assert.True(t, slices.Equal([]string{"ADD", "DEL"}, p.calls), "%s: %v", step, p.calls)
		r.clean()
	}
	// A link that stays keeps them.
	r, p, conf := delegatedRig(t)
	r.network.Fail(func(op, _ string) error {
		if op == "ActivatePodLink" || op == "DeletePodLink" {
			return errors.New("broken")
		}
		return nil
	})
	r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
	assert.True(t, p.held["a"])
	r.network.Fail(nil)
	r.ok("DEL", podEnv("a"), conf)
	assert.Empty(t, p.held)
}

func TestDelegationThatFails(t *testing.T) {
	r, p, conf := delegatedRig(t)
	p.fail = "ADD"
	e := r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
	assert.Contains(t, e.Msg, "ipam plugin addresses: ADD broken")
	p.fail = ""
	for _, answer := range []string{`{"cniVersion":"1.1.0"}`, `{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.4/29"},{"address":"10.244.1.5/29"}]}`} {
		p.answer = answer
		e = r.fails(types.ErrInternal, "ADD", podEnv("a"), conf)
		assert.Contains(t, e.Msg, "ipam plugin addresses")
		assert.Empty(t, p.held)
	}
	e = r.fails(types.ErrInternal, "ADD", podEnv("a"), with(map[string]any{"ipam": map[string]any{"type": "absent", "range": "x"}}))
	assert.Contains(t, e.Msg, "no plugin absent")
	r.clean()
}
