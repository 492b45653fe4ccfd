package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Flags of Cilium's connectivity test that are taken so that scripts go on working, with what may be
// said. Everything else than the allowed values is refused with the reason.
var ciliumFlags = []choiceFlag{
	{name: "hubble", toggle: true, allowed: []string{"false"}, why: "verdicts come from what the pods see; on failure the agents' recorded flows are shown"},
	{name: "flow-validation", allowed: []string{"disabled"}, why: "verdicts come from what the pods see; on failure the agents' recorded flows are shown"},
	{name: "all-flows", toggle: true, allowed: []string{"false"}, why: "on failure the flows of both ends are shown"},
	{name: "print-flows", toggle: true, allowed: []string{"false"}, why: "on failure the flows of both ends are shown"},
	{name: "multi-cluster", why: "tests between clusters are not there"},
	{name: "test-concurrency", allowed: []string{"1"}, why: "tests run one after the other; --source-concurrency is how many pods send at a time"},
	{name: "include-unsafe-tests", toggle: true, allowed: []string{"true", "false"}},
	{name: "skip-ip-cache-check", toggle: true, allowed: []string{"true", "false"}},
	{name: "log-code-owners", toggle: true, allowed: []string{"true", "false"}},
	{name: "exclude-code-owners"},
	{name: "collect-sysdump-on-failure", toggle: true, allowed: []string{"false"}, why: "take one with: weir sysdump"},
	{name: "include-conn-disrupt-test-ns-traffic", toggle: true, allowed: []string{"false"}, why: "connections are held between pods only"},
	{name: "include-conn-disrupt-test-egw", toggle: true, allowed: []string{"false"}, why: "there is no egress gateway"},
	{name: "include-conn-disrupt-test-l7-traffic", toggle: true, allowed: []string{"false"}, why: "there is no layer 7"},
	{name: "flush-ct", toggle: true, allowed: []string{"false"}, why: "established flows are judged anew by themselves; weir bpf ct flush global forgets them"},
	{name: "hubble-server", why: "Hubble is not asked"},
	{name: "external-target", why: "names outside the cluster are not looked up; name an address with --external-ip"},
	{name: "external-other-target", why: "names outside the cluster are not looked up; name an address with --external-other-ip"},
	{name: "external-cidr", why: "policies name the very address; name it with --external-ip"},
	{name: "curl-image", why: "the pods run weir; --image names another image of it"},
	{name: "json-mock-image", why: "the pods run weir; --image names another image of it"},
	{name: "dns-test-server-image", why: "the pods run weir; --image names another image of it"},
	{name: "performance-image", why: "the pods run weir; --image names another image of it"},
	{name: "secondary-network-iface", why: "secondary networks are not tested"},
	{name: "expected-xfrm-errors", why: "there is no IPsec"},
	{name: "retry-delay", why: "tries follow each other at once"},
}

func registerCiliumFlags(fs *pflag.FlagSet) {
	for _, c := range ciliumFlags {
		flag := fs.VarPF(&c, c.name, "", c.usage())
		flag.Hidden = true
		if c.toggle {
			flag.NoOptDefVal = "true"
		}
	}
}

// choiceFlag is a flag that changes nothing: some values are fine, others can't be had. It implements
// pflag.Value.
type choiceFlag struct {
	name    string
	toggle  bool
	allowed []string // without any and without why: all
	why     string   // others are refused
	value   string
}

func (c *choiceFlag) usage() string { return "for scripts; " + c.why }

func (c *choiceFlag) String() string { return c.value }

// Type implements pflag.Value.
func (c *choiceFlag) Type() string {
	if c.toggle {
		return "bool"
	}
	return "string"
}

// Set implements pflag.Value.
func (c *choiceFlag) Set(s string) error {
	if c.why != "" && !slices.Contains(c.allowed, s) {
		if len(c.allowed) == 0 {
			return fmt.Errorf("not supported: %s", c.why)
		}
		return fmt.Errorf("not supported: %s; allowed: %s", c.why, strings.Join(c.allowed, ", "))
	}
	c.value = s
	return nil
}
