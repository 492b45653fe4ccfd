package lb

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

// FrontendState is a frontend as it stands in the tables, in one of its scopes.
type FrontendState struct {
	ID       uint32 // of the service row
	Service  Name
	Frontend Frontend
	Scope    datapath.Scope
	Local    bool           // by a traffic policy: no backends but those on this node
	Affinity time.Duration  // 0: none
	Backends []BackendState // ordered by address and port; those that take no connections included
}

// Key is the frontend's key in table "services".
func (f FrontendState) Key() datapath.ServiceKey { return serviceKey(f.Frontend, f.Scope) }

// BackendState is a backend of a frontend.
type BackendState struct {
	ID      uint32
	Backend Backend
	InUse   bool // takes new connections of this frontend
}

// Frontends lists all frontends as of the last Flush, ordered by service and key. A frontend that
// several services want is listed once, for the one that has it.
func (c *Compiler) Frontends() []FrontendState {
	out := make([]FrontendState, 0, len(c.frontends))
	for _, f := range c.frontends {
		out = append(out, f.state())
	}
	slices.SortFunc(out, func(a, b FrontendState) int {
		return cmp.Or(compareNames(a.Service, b.Service), compareKeys(a.Key(), b.Key()))
	})
	return out
}

// Frontend returns one frontend as of the last Flush.
func (c *Compiler) Frontend(key datapath.ServiceKey) (FrontendState, bool) {
	f, ok := c.frontends[key]
	if !ok {
		return FrontendState{}, false
	}
	return f.state(), true
}

// ServiceAt names the service that has a frontend, as of the last Flush.
func (c *Compiler) ServiceAt(key datapath.ServiceKey) (Name, bool) {
	f, ok := c.frontends[key]
	if !ok {
		return Name{}, false
	}
	return f.service, true
}

func (f *frontend) state() FrontendState {
	st := FrontendState{
		ID: f.row.ID, Service: f.service, Frontend: *f.spec, Scope: f.scope, Local: f.local, Affinity: f.affinity,
		Backends: make([]BackendState, len(f.members)),
	}
	next := 0 // slots are a subsequence of members
	for i, m := range f.members {
		inUse := next < len(f.slots) && f.slots[next] == m.backend
		if inUse {
			next++
		}
		st.Backends[i] = BackendState{ID: m.backend.id, Backend: *m.spec, InUse: inUse}
	}
	return st
}

// Conflict says that two services want the same frontend. The least name has it, but host ports come
// after everything else; the loser takes over when it goes. Within one service the port listed first wins.
type Conflict struct {
	Frontend datapath.ServiceKey
	Winner   Name
	Loser    Name
	Port     string // name of the losing service's port
}

func (c Conflict) String() string {
	port := ""
	if c.Port != "" {
		port = fmt.Sprintf(" (port %q)", c.Port)
	}
	return fmt.Sprintf("frontend %s of service %s%s is already taken by service %s", c.Frontend, c.Loser, port, c.Winner)
}

// Conflicts lists the frontends that services want in vain, ordered by frontend and loser. Unlike
// Frontends it does not wait for Flush.
func (c *Compiler) Conflicts() []Conflict {
	var out []Conflict
	for _, key := range slices.SortedFunc(maps.Keys(c.contested), compareKeys) {
		if key.Scope == datapath.External {
			continue // whoever wants it wants the internal one, too
		}
		list := c.claims[key]
		for _, cl := range list[1:] {
			out = append(out, Conflict{Frontend: key, Winner: list[0].service, Loser: cl.service, Port: cl.port})
		}
	}
	return out
}

// Adopt makes ids that an earlier run wrote to the tables the ids of the same frontends and backends
// in this one, so that a restart renumbers nothing even where hashes collide. Call it before the
// first Flush. Adopted ids that turn out unused stay reserved until ReleaseUnused.
func (c *Compiler) Adopt(services map[datapath.ServiceKey]datapath.Service, backends map[uint32]datapath.Backend) {
	for _, key := range slices.SortedFunc(maps.Keys(services), compareKeys) {
		c.serviceIDs.adopt(key, services[key].ID, key)
	}
	for _, id := range slices.Sorted(maps.Keys(backends)) {
		c.backends.adopt(backends[id], id, &backend{id: id, row: backends[id]})
	}
}

// ReleaseUnused frees the ids that were adopted but belong to nothing. Call it when the rows they
// stood for are gone from the tables.
func (c *Compiler) ReleaseUnused() {
	c.serviceIDs.keep(func(k datapath.ServiceKey) bool { return c.frontends[k] != nil })
	c.backends.keep(func(b *backend) bool { return b.members > 0 })
}
