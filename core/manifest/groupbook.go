package manifest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/policy"
)

// groupBook knows the CIDR groups and the policies that use them, so that the change of a group costs what its
// policies cost and no more.
type groupBook struct {
	groups   map[string]cidrGroupBody
	users    map[Key]groupUser
	naming   map[string]map[Key]bool // by group, there or not: who names it
	choosing map[Key]bool            // who selects groups by their labels
	findings map[Key][]cluster.Finding
}

// groupUser is a policy that uses groups, and what was told of it last.
type groupUser struct {
	body policyBody
	said policy.Policy
	told bool
}

func newGroupBook() *groupBook {
	return &groupBook{
		groups: map[string]cidrGroupBody{}, users: map[Key]groupUser{}, naming: map[string]map[Key]bool{},
		choosing: map[Key]bool{}, findings: map[Key][]cluster.Finding{},
	}
}

// set takes a group in and returns the policies that it may concern, in order.
func (b *groupBook) set(name string, g cidrGroupBody) []Key {
	was, had := b.groups[name]
	b.groups[name] = g
	if !had {
		return b.concerned(name, g)
	}
	return b.concerned(name, was, g)
}

// unset forgets a group and returns the policies that it may concern, in order.
func (b *groupBook) unset(name string) []Key {
	was, had := b.groups[name]
	delete(b.groups, name)
	if !had {
		return nil
	}
	return b.concerned(name, was)
}

// concerned lists the policies that name a group or select one of its states.
func (b *groupBook) concerned(name string, states ...cidrGroupBody) []Key {
	out := slices.Collect(maps.Keys(b.naming[name]))
	for k := range b.choosing {
		if b.users[k].chooses(states) && !b.naming[name][k] {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, Key.Compare)
	return out
}

func (u groupUser) chooses(states []cidrGroupBody) bool {
	return slices.ContainsFunc(u.body.groups, func(use groupUse) bool {
		return use.name == "" && slices.ContainsFunc(states, func(g cidrGroupBody) bool { return use.selector.Matches(g.labels) })
	})
}

// put takes a policy in, in the place of what it was, and returns what is to be told of it.
func (b *groupBook) put(k Key, p policyBody) []cluster.Event {
	before := b.users[k]
	b.forget(k)
	if len(p.groups) == 0 {
		return p.upserts()
	}
	for _, u := range p.groups {
		if u.name == "" {
			b.choosing[k] = true
			continue
		}
		if b.naming[u.name] == nil {
			b.naming[u.name] = map[Key]bool{}
		}
		b.naming[u.name][k] = true
	}
	b.users[k] = groupUser{body: p, said: before.said, told: before.told}
	return b.resolve(k)
}

// forget drops a policy.
func (b *groupBook) forget(k Key) {
	for _, u := range b.users[k].body.groups {
		if of := b.naming[u.name]; of != nil {
			if delete(of, k); len(of) == 0 {
				delete(b.naming, u.name)
			}
		}
	}
	delete(b.choosing, k)
	delete(b.users, k)
	delete(b.findings, k)
}

// resolve looks at the groups of a policy anew and returns what is to be told of it: nothing if it comes to the same.
// A policy that uses none is left alone.
func (b *groupBook) resolve(k Key) []cluster.Event {
	u, ok := b.users[k]
	if !ok {
		return nil
	}
	now, findings := b.resolved(k, u.body)
	if delete(b.findings, k); len(findings) > 0 {
		b.findings[k] = findings
	}
	if u.told && reflect.DeepEqual(u.said, now) {
		return nil
	}
	u.said, u.told = now, true
	b.users[k] = u
	return one(cluster.PolicyUpsert{Policy: now})
}

// resolved puts prefixes in the place of groups. A group that isn't there has none, so its entry matches nothing.
func (b *groupBook) resolved(k Key, body policyBody) (policy.Policy, []cluster.Finding) {
	p := body.policy
	p.Specs = slices.Clone(p.Specs)
	var findings []cluster.Finding
	warn := func(f cluster.Finding) {
		f.Object = k.String()
		findings = append(findings, f)
	}
	owned := map[int]bool{} // specs whose rules are a copy
	for _, u := range body.groups {
		groups := b.meant(u)
		if len(groups) == 0 {
			warn(u.place().Missing())
		}
		peers, excepted := u.peers(groups)
		for i, e := range u.except {
			if len(groups) > 0 && !excepted[i] {
				warn(cluster.Finding{Field: fmt.Sprintf("%s.except[%d]", u.field, i), Warning: true,
					Message: fmt.Sprintf("%s has no address in common with the groups, so it excepts nothing", e)})
			}
		}
		s := &p.Specs[u.spec]
		if !owned[u.spec] {
			owned[u.spec] = true
			s.Rules = slices.Clone(s.Rules)
		}
		r := &s.Rules[u.rule]
		r.Peers = append(slices.Clip(r.Peers), peers...)
	}
	return p, findings
}

// meant lists the groups that there are of those meant, by name.
func (b *groupBook) meant(u groupUse) []cidrGroupBody {
	if u.name != "" {
		if g, ok := b.groups[u.name]; ok {
			return []cidrGroupBody{g}
		}
		return nil
	}
	var out []cidrGroupBody
	for _, name := range sortedKeys(b.groups) {
		if g := b.groups[name]; u.selector.Matches(g.labels) {
			out = append(out, g)
		}
	}
	return out
}

// upserts tells of a policy as it is in force.
func (b *groupBook) upserts(o Object) []cluster.Event {
	if u, ok := b.users[o.Key]; ok {
		return one(cluster.PolicyUpsert{Policy: u.said})
	}
	return o.Upserts()
}
