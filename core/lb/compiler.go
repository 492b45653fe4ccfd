package lb

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/weirnet/weir/core/datapath"
)

// Compiler turns services and their slices of backends into rows of the datapath's tables
// "services", "slots" and "backends". It takes in news, and Flush returns the writes that bring the
// tables from the last state to the new one. The same services and slices give the same rows,
// whatever way led there, except that a colliding id stays with the one that had it first.
//
// A frontend has a row in scope Internal and, unless it is a cluster IP, another in scope External. Its
// backends are those of its service's slices with its port name, protocol and address family; where a
// traffic policy says so, only those whose node is this one; where hints do, only those meant for this node or its
// zone take new connections. Active ones take the slots; Terminating
// ones do if no active one could; a weight of 0 takes none. Frontends and backends without a valid
// address or with port 0 cannot be dialled and are passed over.
//
// A Compiler has one caller at a time.
type Compiler struct {
	settings  Settings
	zone      string // of this node; "": unknown
	services  map[Name]*service
	claims    map[datapath.ServiceKey][]claim // ordered; the first has the frontend
	contested map[datapath.ServiceKey]struct{}
	dirty     map[datapath.ServiceKey]struct{}
	checks    map[Name]HealthCheck // as of the last Flush
	unchecked map[Name]struct{}    // services whose check may have changed

	frontends  map[datapath.ServiceKey]*frontend // as of the last Flush
	serviceIDs ids[datapath.ServiceKey, datapath.ServiceKey]
	backends   ids[datapath.Backend, *backend] // members of frontends, as of the last Flush, and adopted ones
}

// service is what was heard of one service; slices may come before the service itself.
type service struct {
	spec   Service
	known  bool // spec was given
	keys   []datapath.ServiceKey
	slices []namedSlice // by name
}

type namedSlice struct {
	name     string
	backends []Backend // never changed
}

func (s *service) slice(name string) (int, bool) {
	return slices.BinarySearchFunc(s.slices, name, func(x namedSlice, name string) int { return cmp.Compare(x.name, name) })
}

// claim says that a service wants a frontend.
type claim struct {
	service Name
	index   int // in Service.Frontends
	port    string
	last    bool // behind everybody who isn't
}

func (a claim) compare(b claim) int {
	if a.last != b.last {
		if a.last {
			return 1
		}
		return -1
	}
	return cmp.Or(compareNames(a.service, b.service), cmp.Compare(a.index, b.index))
}

// frontend is a row of table "services" with its slots.
type frontend struct {
	service  Name
	spec     *Frontend
	scope    datapath.Scope
	local    bool
	affinity time.Duration
	row      datapath.Service
	members  []member
	slots    []*backend
}

type member struct {
	backend *backend
	spec    *Backend
}

// backend is shared by all frontends that have it. A row exists in the kernel while slots > 0.
type backend struct {
	id      uint32
	row     datapath.Backend
	members int32 // frontends it belongs to
	slots   int32 // slots that name it
}

// NewCompiler returns a compiler of an empty set of services.
func NewCompiler(s Settings) *Compiler {
	return &Compiler{
		settings:   s,
		services:   map[Name]*service{},
		claims:     map[datapath.ServiceKey][]claim{},
		contested:  map[datapath.ServiceKey]struct{}{},
		dirty:      map[datapath.ServiceKey]struct{}{},
		checks:     map[Name]HealthCheck{},
		unchecked:  map[Name]struct{}{},
		frontends:  map[datapath.ServiceKey]*frontend{},
		serviceIDs: newIDs(serviceHash, func(k datapath.ServiceKey) datapath.ServiceKey { return k }),
		backends:   newIDs(backendHash, func(b *backend) datapath.Backend { return b.row }),
	}
}

// SetZone says in which zone this node is; "": unknown, as at first. It changes the choice by hints only.
func (c *Compiler) SetZone(zone string) {
	if c.zone == zone {
		return
	}
	c.zone = zone
	if !c.settings.Topology {
		return
	}
	for n, svc := range c.services {
		c.touch(n, svc)
	}
}

// UpsertService adds a service or replaces its description.
func (c *Compiler) UpsertService(s Service) {
	s.Frontends = slices.Clone(s.Frontends)
	c.TakeService(s)
}

// TakeService is UpsertService for a caller that will never change s.Frontends: the compiler keeps it.
func (c *Compiler) TakeService(s Service) {
	svc := c.service(s.Name)
	if svc.known && sameService(svc.spec, s) {
		return
	}
	c.withdraw(s.Name, svc)
	svc.spec, svc.known = s, true
	for i, f := range s.Frontends {
		if !dialable(f.Addr, f.Port) {
			continue
		}
		for _, scope := range c.settings.scopes(f) {
			key := serviceKey(f, scope)
			if c.enter(key, claim{s.Name, i, f.PortName, f.Type == HostPort}) {
				svc.keys = append(svc.keys, key)
			}
		}
	}
	c.touch(s.Name, svc)
}

// DeleteService forgets a service; its slices stay until they are deleted themselves. A service
// that is absent is no error.
func (c *Compiler) DeleteService(n Name) {
	svc, ok := c.services[n]
	if !ok || !svc.known {
		return
	}
	c.withdraw(n, svc)
	svc.spec, svc.known = Service{}, false
	c.forget(n, svc)
}

// UpsertSlice adds or replaces one slice of a service's backends.
func (c *Compiler) UpsertSlice(s Slice) {
	s.Backends = slices.Clone(s.Backends)
	c.TakeSlice(s)
}

// TakeSlice is UpsertSlice for a caller that will never change s.Backends: the compiler keeps it.
func (c *Compiler) TakeSlice(s Slice) {
	svc := c.service(s.Service)
	s.Backends = canonicalBackends(s.Backends)
	at, ok := svc.slice(s.Name)
	switch {
	case !ok:
		svc.slices = slices.Insert(svc.slices, at, namedSlice{s.Name, s.Backends})
	case slices.Equal(svc.slices[at].backends, s.Backends):
		return
	default:
		svc.slices[at].backends = s.Backends
	}
	c.touch(s.Service, svc)
}

// canonicalBackends gives all addresses the form that the tables have.
func canonicalBackends(list []Backend) []Backend {
	cloned := false
	for i := range list {
		a := canonical(list[i].Addr)
		if a == list[i].Addr {
			continue
		}
		if !cloned {
			list, cloned = slices.Clone(list), true
		}
		list[i].Addr = a
	}
	return list
}

// DeleteSlice removes one slice; one that is absent is no error.
func (c *Compiler) DeleteSlice(service Name, slice string) {
	svc, ok := c.services[service]
	if !ok {
		return
	}
	at, ok := svc.slice(slice)
	if !ok {
		return
	}
	svc.slices = slices.Delete(svc.slices, at, at+1)
	c.touch(service, svc)
	c.forget(service, svc)
}

func (c *Compiler) service(n Name) *service {
	svc, ok := c.services[n]
	if !ok {
		svc = &service{}
		c.services[n] = svc
	}
	return svc
}

func (c *Compiler) forget(n Name, svc *service) {
	if !svc.known && len(svc.slices) == 0 {
		delete(c.services, n)
	}
}

// touch has the service's frontends compiled anew at the next Flush.
func (c *Compiler) touch(n Name, svc *service) {
	for _, key := range svc.keys {
		c.dirty[key] = struct{}{}
	}
	if svc.spec.HealthCheckPort != 0 {
		c.unchecked[n] = struct{}{}
	}
}

// enter records that a service wants a frontend; false if the service said so before.
func (c *Compiler) enter(key datapath.ServiceKey, cl claim) bool {
	list := c.claims[key]
	again := false
	for _, other := range list {
		if other.service == cl.service {
			if other.port == cl.port {
				return false // an address that is listed twice, for instance as external and load balancer address
			}
			again = true
		}
	}
	at, _ := slices.BinarySearchFunc(list, cl, claim.compare)
	c.setClaims(key, slices.Insert(list, at, cl))
	return !again
}

// withdraw takes a service's claims back.
func (c *Compiler) withdraw(n Name, svc *service) {
	c.touch(n, svc)
	for _, key := range svc.keys {
		c.setClaims(key, slices.DeleteFunc(c.claims[key], func(cl claim) bool { return cl.service == n }))
	}
	svc.keys = nil
}

func (c *Compiler) setClaims(key datapath.ServiceKey, list []claim) {
	if len(list) == 0 {
		delete(c.claims, key)
	} else {
		c.claims[key] = list
	}
	if len(list) > 1 {
		c.contested[key] = struct{}{}
	} else {
		delete(c.contested, key)
	}
}

// Flush returns the writes for everything that was taken in since the last call, in an order of
// which each prefix is safe: a backend's row exists before a slot names it, slots exist before a
// service's row counts them, a row stops counting slots before they go, and backends go last. A
// frontend that keeps its place never shows a backend that is neither in its old set nor in its new.
// The cost is that of the services that changed. Nothing to do gives nil.
func (c *Compiler) Flush() []Op {
	if len(c.dirty) == 0 {
		return c.flushChecks(nil)
	}
	keys := slices.SortedFunc(maps.Keys(c.dirty), compareKeys)
	clear(c.dirty)

	type change struct {
		key      datapath.ServiceKey
		old, new *frontend
	}
	var ops []Op
	changes := make([]change, 0, len(keys))
	groups := map[group][]*Backend{}
	for _, key := range keys {
		ch := change{key, c.frontends[key], c.build(key, groups)}
		if ch.new != nil {
			for _, b := range ch.new.slots {
				if b.slots++; b.slots == 1 {
					ops = append(ops, PutBackend{b.id, b.row})
				}
			}
		}
		changes = append(changes, ch)
	}
	for _, ch := range changes {
		ops = appendFrontend(ops, ch.key, ch.old, ch.new)
		if ch.new != nil {
			c.frontends[ch.key] = ch.new
		} else {
			delete(c.frontends, ch.key)
		}
	}
	// Only now may ids become free: before, one could be given to a newcomer while a slot that is
	// about to change still meant its former owner.
	for _, ch := range changes {
		if ch.old != nil {
			ops = c.release(ops, ch.old)
		}
		if ch.new == nil {
			c.serviceIDs.free(ch.key)
		}
	}
	return c.flushChecks(ops)
}

// appendFrontend writes one frontend's slots and row from the old state to the new.
func appendFrontend(ops []Op, key datapath.ServiceKey, old, now *frontend) []Op {
	var before []*backend
	if old != nil {
		before = old.slots
	}
	if now == nil {
		if old == nil {
			return ops
		}
		ops = append(ops, DeleteService{key})
		return appendTrailing(ops, old.row.ID, 0, len(before))
	}
	for i, b := range now.slots {
		if i >= len(before) || before[i] != b {
			ops = append(ops, PutSlot{datapath.SlotKey{Service: now.row.ID, Slot: uint32(i + 1)}, b.id})
		}
	}
	if old == nil || old.row != now.row {
		ops = append(ops, PutService{key, now.row})
	}
	return appendTrailing(ops, now.row.ID, len(now.slots), len(before))
}

// appendTrailing deletes the slots after the first keep, the last one first.
func appendTrailing(ops []Op, id uint32, keep, had int) []Op {
	for i := had; i > keep; i-- {
		ops = append(ops, DeleteSlot{datapath.SlotKey{Service: id, Slot: uint32(i)}})
	}
	return ops
}

// build compiles one frontend and takes hold of its members; nil if nobody wants it.
func (c *Compiler) build(key datapath.ServiceKey, groups map[group][]*Backend) *frontend {
	claims := c.claims[key]
	if len(claims) == 0 {
		return nil
	}
	svc := c.services[claims[0].service]
	f := &frontend{service: svc.spec.Name, spec: &svc.spec.Frontends[claims[0].index], affinity: svc.spec.Affinity}
	f.scope, f.local = key.Scope, svc.spec.localOnly(f.spec.Type, key.Scope)
	g := group{f.service, f.spec.PortName, key.Proto, key.Addr.Is4(), f.local}
	specs, ok := groups[g]
	if !ok {
		specs = svc.backends(g, c.settings.Node)
		groups[g] = specs
	}
	f.members = make([]member, len(specs))
	for i, spec := range specs {
		b := c.backend(datapath.Backend{Addr: spec.Addr, Port: spec.Port, Proto: spec.Proto})
		b.members++
		f.members[i] = member{b, spec}
	}
	state, ok := takingState(func(yield func(*Backend) bool) {
		for _, b := range specs {
			if !yield(b) {
				return
			}
		}
	})
	if ok {
		near := func(*Backend) bool { return true }
		if c.settings.Topology && !f.local && state == Active {
			near = nearest(specs, c.settings.Node, c.zone)
		}
		f.slots = make([]*backend, 0, len(specs))
		for _, m := range f.members {
			if m.spec.State == state && m.spec.Weight > 0 && near(m.spec) {
				f.slots = append(f.slots, m.backend)
			}
		}
	}
	id, _ := c.serviceIDs.get(key, func(uint32) datapath.ServiceKey { return key })
	f.row = datapath.Service{
		ID: id, Count: uint32(len(f.slots)), AffinityTimeout: seconds(f.affinity),
		Local: svc.spec.ownNodeOnly(f.spec.Type),
	}
	return f
}

// backend finds or makes the shared record of a backend.
func (c *Compiler) backend(row datapath.Backend) *backend {
	_, b := c.backends.get(row, func(id uint32) *backend { return &backend{id: id, row: row} })
	return b
}

// release lets go of what a frontend's former state held.
func (c *Compiler) release(ops []Op, f *frontend) []Op {
	for _, b := range f.slots {
		if b.slots--; b.slots == 0 {
			ops = append(ops, DeleteBackend{b.id})
		}
	}
	for _, m := range f.members {
		if m.backend.members--; m.backend.members == 0 {
			c.backends.free(m.backend.row)
		}
	}
	return ops
}
