package manifest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/policy"
)

func groupDoc(name, labels, cidrs string) string {
	return fmt.Sprintf(`{"apiVersion":"cilium.io/v2","kind":"CiliumCIDRGroup","metadata":{"name":%q,"labels":{%s}},"spec":{"externalCIDRs":[%s]}}`, name, labels, cidrs)
}

// groupUserDoc is a policy whose only rule is for these entries of fromCIDRSet.
func groupUserDoc(name, entries string) string {
	return strings.Replace(ciliumPolicy(`{"endpointSelector":{},"ingress":[{"fromCIDRSet":[`+entries+`]}]}`), `"name":"p"`, `"name":"`+name+`"`, 1)
}

func TestCIDRGroup(t *testing.T) {
	const head = `{"apiVersion":"cilium.io/v2","kind":"CiliumCIDRGroup","metadata":{"name":"g"}`
	for _, c := range []struct {
		name, doc string
		want      string // the prefixes
		findings  []string
	}{
		{name: "prefixes, each once", doc: groupDoc("g", `"a":"b"`, `"2001:db8::/32","10.0.0.0/8","10.0.0.0/8","0.0.0.0/0"`), want: "[0.0.0.0/0 10.0.0.0/8 2001:db8::/32]"},
		{name: "none", doc: groupDoc("g", ``, ``), want: "[]"},
		{name: "the older version", doc: strings.Replace(groupDoc("g", ``, `"10.0.0.0/8"`), "/v2", "/v2alpha1", 1), want: "[10.0.0.0/8]"},
		{name: "bits of hosts", doc: groupDoc("g", ``, `"10.1.2.3/8"`), want: "[10.0.0.0/8]", findings: []string{`warning: spec.externalCIDRs[0]: "10.1.2.3/8" has bits beyond`}},
		{name: "not prefixes", doc: groupDoc("g", ``, `"10.0.0.0/8","10.0.0.1",null,"::ffff:10.0.0.0/104",7`), findings: []string{
			`spec.externalCIDRs[2]: empty entry`, `spec.externalCIDRs[1]: "10.0.0.1" is not a CIDR`, `spec.externalCIDRs[3]: "::ffff:10.0.0.0/104" is not a CIDR`, `spec.externalCIDRs[4]: want text, got the number 7`}},
		{name: "no list", doc: head + `,"spec":{}}`, findings: []string{"spec.externalCIDRs: missing; want a list of prefixes"}},
		{name: "no spec", doc: head + `}`, findings: []string{"spec: missing; want spec.externalCIDRs"}},
		{name: "unknown fields", doc: head + `,"spec":{"externalCIDRs":[],"except":[]},"x":1}`, findings: []string{"x: unknown field", "spec.except: unknown field; allowed: externalCIDRs"}},
		{name: "another version", doc: strings.Replace(groupDoc("g", ``, ``), "/v2", "/v3", 1), findings: []string{`apiVersion: "cilium.io/v3" is not served for kind CiliumCIDRGroup`}},
		{name: "bad labels", doc: groupDoc("g", `"a b":"c"`, ``), findings: []string{`metadata.labels["a b"]`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, findings := Decode("", []byte(c.doc))
			got := renderFindings(findings)
			require.Len(t, got, len(c.findings), "%v", got)
			for i, want := range c.findings {
				assert.True(t, strings.HasPrefix(got[i], want), "want %s\ngot  %s", want, got[i])
			}
			assert.Equal(t, Key{Kind: KindCiliumCIDRGroup, Name: "g"}, o.Key)
			assert.Equal(t, c.want != "", o.Valid())
			if o.Valid() {
				assert.Equal(t, c.want, fmt.Sprint(o.body.(cidrGroupBody).prefixes))
				assert.Empty(t, o.Upserts())
				assert.Empty(t, o.Deletes())
			}
		})
	}
}

// peersOf renders the peers of the first rule of the policies that events tell of.
func peersOf(events []cluster.Event) (out []string) {
	for _, e := range events {
		switch e := e.(type) {
		case cluster.PolicyUpsert:
			line := renderRule(e.Policy.Specs[0].Rules[0])
			_, line, _ = strings.Cut(line, "[0] allow: ")
			line, _, _ = strings.Cut(line, " [everything]")
			out = append(out, e.Policy.Ref.Name+" "+line)
		case cluster.PolicyDelete:
			out = append(out, "no "+e.Ref.Name)
		default:
			out = append(out, fmt.Sprintf("%T", e))
		}
	}
	return out
}

func TestPoliciesFollowTheirGroups(t *testing.T) {
	a := NewAssembler()
	put := func(doc string) []string { return peersOf(a.Put(decodeOne(t, doc))) }
	group := func(name string) Key { return Key{Kind: KindCiliumCIDRGroup, Name: name} }
	byName := Key{Kind: KindCiliumNetworkPolicy, Namespace: "shop", Name: "named"}
	missing := func() (out []string) {
		for k, fs := range a.Findings() {
			for _, f := range fs {
				if strings.HasSuffix(f.Field, "cidrGroupSelector") {
					continue // below
				}
				assert.Equal(t, k.String(), f.Object)
				assert.True(t, f.Warning)
				out = append(out, k.Name+" "+f.Field+": "+f.Message)
			}
		}
		return out
	}

	put(groupUserDoc("plain", `{"cidr":"10.0.0.0/8"}`))
	assert.Equal(t, []string{"named [10.0.0.0/8]"}, put(groupUserDoc("named", `{"cidrGroupRef":"g"},{"cidr":"10.0.0.0/8"}`)), "a group that isn't there is no one")
	assert.Equal(t, []string{"named spec.ingress[0].fromCIDRSet[0].cidrGroupRef: CiliumCIDRGroup g does not exist or is not valid; it stands for no address"}, missing())
	assert.Equal(t, []string{"chosen []"}, put(groupUserDoc("chosen", `{"cidrGroupSelector":{"matchLabels":{"a":"1"}}}`)))
	chosen := a.Findings()[Key{Kind: KindCiliumNetworkPolicy, Namespace: "shop", Name: "chosen"}]
	assert.Equal(t, []string{"warning: spec.ingress[0].fromCIDRSet[0].cidrGroupSelector: selects no CiliumCIDRGroup; it stands for no address"}, renderFindings(chosen))
	assert.Empty(t, put(groupDoc("other", `"a":"2"`, `"192.0.2.0/24"`)), "nobody uses it")
	assert.Equal(t, []string{"chosen [192.0.2.0/24]", "named [10.0.0.0/8, 192.0.2.0/24]"}, put(groupDoc("g", `"a":"1"`, `"192.0.2.0/24"`)))
	assert.Empty(t, missing())
	assert.Empty(t, put(groupDoc("g", `"a":"1"`, `"192.0.2.0/24"`)), "the same again")
	assert.Empty(t, put(groupDoc("g", `"a":"1","b":"2"`, `"192.0.2.0/24","192.0.2.0/24"`)), "different, and the same to policies")
	assert.Equal(t, []string{"chosen []"}, put(groupDoc("g", `"a":"2"`, `"192.0.2.0/24"`)), "other labels")
	assert.Equal(t, []string{"chosen [192.0.2.0/24]"}, put(groupDoc("g", `"a":"1"`, `"192.0.2.0/24"`)), "and back")
	put(groupDoc("g", `"a":"2"`, `"192.0.2.0/24"`))
	assert.Equal(t, []string{"chosen [2001:db8::/32]"}, put(groupDoc("six", `"a":"1"`, `"2001:db8::/32"`)))
	assert.Equal(t, []string{"named [10.0.0.0/8]"}, peersOf(a.Remove(group("g"))))
	assert.Len(t, missing(), 1)
	assert.Empty(t, a.Remove(group("g")))
	assert.Empty(t, a.Remove(group("other")))

	assert.Equal(t, []string{"named []"}, put(groupUserDoc("named", `{"cidrGroupRef":"h"}`)), "another group")
	assert.Contains(t, missing()[0], "CiliumCIDRGroup h does not exist")
	assert.Empty(t, put(groupDoc("g", ``, `"192.0.2.0/24"`)), "nobody names it any more")
	assert.Equal(t, []string{"named [192.0.2.1/32]"}, put(groupUserDoc("named", `{"cidr":"192.0.2.1/32"}`)))
	assert.Empty(t, missing())
	assert.Empty(t, put(groupDoc("h", ``, `"192.0.2.0/24"`)), "it uses groups no more")
	put(groupUserDoc("named", `{"cidrGroupRef":"nobody"}`))
	assert.Equal(t, []string{"no named"}, peersOf(a.Remove(byName)))
	assert.Empty(t, missing())
	assert.Empty(t, put(groupDoc("nobody", ``, `"192.0.2.0/24"`)))
	assert.Len(t, a.groups.users, 1)
	assert.Empty(t, a.groups.naming)
}

func TestGroupsWithExceptions(t *testing.T) {
	a := NewAssembler()
	put := func(doc string) []string { return peersOf(a.Put(decodeOne(t, doc))) }
	put(groupDoc("g", ``, `"10.0.0.0/8","10.1.0.0/16","192.0.2.0/24","2001:db8::/32"`))
	assert.Equal(t, []string{"p [10.0.0.0/8 but 10.1.0.0/16, 192.0.2.0/24, 2001:db8::/32 but 2001:db8:1::/48]"},
		put(groupUserDoc("p", `{"cidrGroupRef":"g","except":["10.1.0.0/16","2001:db8:1::/48"]}`)))
	assert.Empty(t, a.Findings())
	assert.Equal(t, []string{"p []"}, put(groupUserDoc("p", `{"cidrGroupSelector":{},"except":["0.0.0.0/0","::/0","198.51.100.0/24"]}`)))
	var all []cluster.Finding
	for _, fs := range a.Findings() {
		all = append(all, fs...)
	}
	assert.Equal(t, []string{"warning: spec.ingress[0].fromCIDRSet[0].except[2]: 198.51.100.0/24 has no address in common with the groups, so it excepts nothing"}, renderFindings(all))
}

// What grants nothing, or is not in force, gets no prefixes of groups either.
func TestGroupsWhereNothingIsGranted(t *testing.T) {
	a := NewAssembler()
	a.Put(decodeOne(t, groupDoc("g", ``, `"10.0.0.0/8"`)))
	doc := func(spec string) string {
		return `{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"p"},` + spec + `}`
	}
	const group = `"fromCIDRSet":[{"cidrGroupRef":"g"}]`
	assert.Equal(t, []string{"p []"}, peersOf(a.Put(decodeOne(t, doc(
		`"spec":{"endpointSelector":{},"ingress":[{`+group+`,"authentication":{"mode":"required"}}]}`)))))
	assert.Equal(t, []string{"p [192.0.2.0/24]"}, peersOf(a.Put(decodeOne(t, doc(
		`"specs":[{"nodeSelector":{},"ingress":[{`+group+`}]},{"endpointSelector":{},"ingress":[{"fromCIDR":["192.0.2.0/24"]}]}]`)))))
	assert.Equal(t, []string{"p [10.0.0.0/8]"}, peersOf(a.Put(decodeOne(t, doc(
		`"specs":[{"nodeSelector":{},"ingress":[{"fromEntities":["all"]}]},{"endpointSelector":{},"ingress":[{`+group+`}]},{"endpointSelector":{},"ingress":[{"fromCIDR":["192.0.2.0/24"]}]}]`)))),
		"a set of rules behind one for nodes keeps its groups")
}

// A change of a group and one of the policy that uses it are one: an old policy never meets its successor's groups.
func TestGroupsAndPoliciesChangeTogether(t *testing.T) {
	a := NewAssembler()
	put := func(doc string) Change { return Change{Put: decodeOne(t, doc)} }
	g := Key{Kind: KindCiliumCIDRGroup, Name: "g"}
	events := a.Apply([]Change{put(groupUserDoc("p", `{"cidrGroupRef":"g"}`)), put(groupDoc("g", ``, `"10.0.0.0/8"`)), put(groupUserDoc("q", `{"cidrGroupSelector":{}}`))})
	assert.Equal(t, []string{"p [10.0.0.0/8]", "q [10.0.0.0/8]"}, peersOf(events), "told once")
	events = a.Apply([]Change{put(groupDoc("g", ``, `"0.0.0.0/0"`)), put(groupUserDoc("p", `{"cidrGroupRef":"g","except":["10.0.0.0/8"]}`))})
	assert.Equal(t, []string{"p [0.0.0.0/0 but 10.0.0.0/8]", "q [0.0.0.0/0]"}, peersOf(events))
	events = a.Apply([]Change{{Remove: g}, put(groupDoc("h", ``, `"192.0.2.0/24"`)), put(groupUserDoc("p", `{"cidrGroupRef":"h"}`))})
	assert.Equal(t, []string{"p [192.0.2.0/24]", "q [192.0.2.0/24]"}, peersOf(events))
	events = a.Apply([]Change{{Remove: Key{Kind: KindCiliumNetworkPolicy, Namespace: "shop", Name: "p"}}, put(groupDoc("h", ``, `"0.0.0.0/0"`))})
	assert.Equal(t, []string{"q [0.0.0.0/0]", "no p"}, peersOf(events), "a policy that goes is not told again")
	events = a.Apply([]Change{put(pod("a", "shop", "web", ``)), put(groupDoc("h", ``, ``))})
	assert.Equal(t, []string{"q []", "cluster.PodUpsert"}, peersOf(events), "before the pods that it restricts")
}

func TestGroupUses(t *testing.T) {
	doc := `{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"p"},
		"spec":{"endpointSelector":{},"egressDeny":[{"toCIDRSet":[{"cidrGroupRef":"a"},{"cidrGroupSelector":{"matchLabels":{"x":"y"}}},{"cidrGroupRef":"b"}]}]},
		"specs":[{"endpointSelector":{},"ingress":[{},{"fromCIDRSet":[{"cidrGroupRef":"a"}]}]}]}`
	uses := decodeOne(t, doc).GroupUses()
	means := func(name string, labels map[string]string) (out []string) {
		for _, u := range uses {
			if u.Means(name, labels) {
				out = append(out, u.Field)
			}
		}
		return out
	}
	assert.Equal(t, []string{"spec.egressDeny[0].toCIDRSet[0].cidrGroupRef", "specs[0].ingress[1].fromCIDRSet[0].cidrGroupRef"}, means("a", nil))
	assert.Equal(t, []string{"spec.egressDeny[0].toCIDRSet[1].cidrGroupSelector"}, means("c", map[string]string{"x": "y"}))
	assert.Equal(t, []string{"spec.egressDeny[0].toCIDRSet[2].cidrGroupRef"}, means("b", nil))
	assert.Equal(t, "selects no CiliumCIDRGroup; it stands for no address", uses[1].Missing().Message)
	a := NewAssembler()
	a.Put(decodeOne(t, groupDoc("a", ``, `"10.0.0.0/8"`)))
	events := a.Put(decodeOne(t, doc))
	require.Len(t, events, 1)
	assert.Equal(t, []string{
		"for <all> isolate-egress", "egress egressDeny[0] deny: [10.0.0.0/8] [everything]",
		"for <all> isolate-ingress", "ingress specs[0].ingress[0] allow: [] [everything]", "ingress specs[0].ingress[1] allow: [10.0.0.0/8] [everything]",
	}, renderPolicy(events[0].(cluster.PolicyUpsert).Policy), "each entry in the rule that it stands in")
	assert.Nil(t, decodeOne(t, groupDoc("a", ``, ``)).GroupUses())
	assert.Nil(t, Object{}.GroupUses())
}

// However groups and policies came about, what was told is what a fresh start would say; no change tells of a policy
// that stays the same; and a verdict is that of the groups' addresses without the exceptions, read one by one.
func TestGroupsAreJudgedAsTheirPrefixes(t *testing.T) {
	prefixes := []string{"10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/10", "10.64.0.0/10", "0.0.0.0/0", "2001:db8::/32"}
	rapid.Check(t, func(rt *rapid.T) {
		type group struct {
			label  string
			member []string
		}
		type entry struct {
			name, label string // one of them
			except      []string
		}
		groups, policies := map[string]group{}, map[string][]entry{}
		a := NewAssembler()
		told := map[string]policy.Policy{}
		some := func(what string) []string { return rapid.SliceOfN(rapid.SampledFrom(prefixes), 0, 3).Draw(rt, what) }
		quoted := func(list []string) string {
			if len(list) == 0 {
				return ""
			}
			return `"` + strings.Join(list, `","`) + `"`
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			var changes []Change
			touched := map[string]bool{}
			for range rapid.IntRange(1, 3).Draw(rt, "changes") {
				name := rapid.SampledFrom([]string{"g", "h", "p", "q"}).Draw(rt, "object")
				if touched[name] {
					continue
				}
				touched[name] = true
				isGroup := name < "p"
				gone := rapid.IntRange(0, 3).Draw(rt, "gone") == 0
				var doc string
				if isGroup {
					g := group{rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "label"), some("members")}
					groups[name] = g
					doc = groupDoc(name, `"l":"`+g.label+`"`, quoted(g.member))
				} else {
					var list []entry
					var text []string
					for range rapid.IntRange(1, 2).Draw(rt, "entries") {
						e := entry{except: some("except")}
						which := ""
						if rapid.Bool().Draw(rt, "by name") {
							e.name = rapid.SampledFrom([]string{"g", "h"}).Draw(rt, "name")
							which = `"cidrGroupRef":"` + e.name + `"`
						} else {
							e.label = rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "of label")
							which = `"cidrGroupSelector":{"matchLabels":{"l":"` + e.label + `"}}`
						}
						list = append(list, e)
						text = append(text, `{`+which+`,"except":[`+quoted(e.except)+`]}`)
					}
					policies[name] = list
					doc = groupUserDoc(name, strings.Join(text, ","))
				}
				o, findings := Decode("", []byte(doc))
				require.True(rt, o.Valid(), "%v", findings)
				if !gone {
					changes = append(changes, Change{Put: o})
					continue
				}
				changes = append(changes, Change{Remove: o.Key})
				delete(groups, name)
				delete(policies, name)
			}
			for _, e := range a.Apply(changes) {
				switch e := e.(type) {
				case cluster.PolicyUpsert:
					require.NotEqual(rt, told[e.Policy.Ref.Name], e.Policy, "told again")
					told[e.Policy.Ref.Name] = e.Policy
				case cluster.PolicyDelete:
					delete(told, e.Ref.Name)
				default:
					require.Fail(rt, "an event", "%T", e)
				}
			}
		}
		fresh := map[string]policy.Policy{}
		for _, e := range a.Snapshot() {
			p := e.(cluster.PolicyUpsert).Policy
			fresh[p.Ref.Name] = p
		}
		require.Equal(rt, fresh, told)
		require.Len(rt, told, len(policies))
		subject := policy.Party{Labels: cluster.PodLabels(cluster.Pod{Name: cluster.Name{Namespace: "shop", Name: "x"}}, cluster.Namespace{Name: "shop"})}
		for name, entries := range policies {
			p := told[name]
			for _, addr := range []string{"10.1.0.1", "10.65.0.1", "10.128.0.1", "192.0.2.1", "2001:db8::1", "2001:db9::1"} {
				ip := netip.MustParseAddr(addr)
				within := func(list []string) bool {
					for _, s := range list {
						if netip.MustParsePrefix(s).Contains(ip) {
							return true
						}
					}
					return false
				}
				want := false
				for _, e := range entries {
					for g, is := range groups {
						want = want || (g == e.name || e.label != "" && is.label == e.label) && within(is.member) && !within(e.except)
					}
				}
				got := policy.Evaluate([]policy.Policy{p}, subject, datapath.Ingress, policy.Outside(ip), datapath.ProtoTCP, 80)
				require.Equal(rt, want, got.Allowed, "%s from %s: %v", name, addr, renderPolicy(p))
			}
		}
	})
}
