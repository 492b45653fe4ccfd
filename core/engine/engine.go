package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// LocalQuarantine is how long the number of a prefix's identity rests after its last use: longer
// than any flow entry lives without traffic.
const LocalQuarantine = (datapath.LifetimeTCPEstablished + 60) * time.Second

// Engine holds the desired state of one node.
type Engine struct {
	node    string
	cluster string
	routing Routing
	live    bool // every input was complete once; operations flow

	nodes      map[string]cluster.Node
	namespaces map[string]cluster.Namespace
	pods       map[cluster.Name]cluster.Pod
	synced     bool

	identities *identities
	addresses  *addresses
	local      map[datapath.EndpointID]*endpoint
	localByPod map[cluster.Name]datapath.EndpointID
	onDevices  map[netip.Addr]bool // of the devices that lead to the network
	ownWritten map[netip.Addr]bool // rows of Endpoints that are the node's own

	policies map[policy.Ref]policy.Policy
	problems map[policy.Ref]string // policies that could not take effect
	revision uint64
	compiler *policy.Compiler
	services *lb.Compiler
	serve    lb.Settings
	// hostPorts are the pods whose host ports the compiler was told of.
	hostPorts map[cluster.Name]bool

	apiServers  cluster.APIServers
	apiHeld     map[netip.Addr]bool   // those outside the cluster: their address is a prefix in use
	apiProblems map[netip.Addr]string // those that could not be
	hostServes  bool                  // one is on this node

	adopted  Adopted
	leftover map[netip.Prefix]identity.ID // prefixes that the kernel may still hold, see adopt

	generation uint8 // of the classes
	clean      []Op  // what has to go before the generation is used
	epoch      datapath.Epoch
	routes     []Route

	labelTexts map[identity.ID][]string // until the next event; nil: has none

	now time.Time
	out []Op
}

// Option changes how an engine works.
type Option func(*Engine)

// WithRouting says how the pods of other nodes are reached; without it they are tunnelled to.
func WithRouting(r Routing) Option { return func(e *Engine) { e.routing = r } }

// WithCluster gives the cluster a name, which is one of the labels of its pods.
func WithCluster(name string) Option { return func(e *Engine) { e.cluster = name } }

// WithNodePorts has node ports served, and what comes from the network for any address of a service; without it
// only sockets of the cluster reach services.
func WithNodePorts() Option { return func(e *Engine) { e.serve.NodePorts = true } }

// WithHostPorts has the host ports of this node's pods served.
func WithHostPorts() Option { return func(e *Engine) { e.serve.HostPorts = true } }

// WithTopology has services' backends chosen by their hints: those meant for this node or its zone.
func WithTopology() Option { return func(e *Engine) { e.serve.Topology = true } }

// New makes an engine for a node. adopted is what the kernel holds; now seeds the epochs, so that
// they exceed those of any predecessor.
func New(node string, adopted Adopted, now time.Time, options ...Option) *Engine {
	e := &Engine{
		node:       node,
		cluster:    cluster.DefaultName,
		nodes:      map[string]cluster.Node{},
		namespaces: map[string]cluster.Namespace{},
		pods:       map[cluster.Name]cluster.Pod{},
		local:      map[datapath.EndpointID]*endpoint{},
		localByPod: map[cluster.Name]datapath.EndpointID{},
		policies:   map[policy.Ref]policy.Policy{},
		problems:   map[policy.Ref]string{},
		serve:      lb.Settings{Node: node},
		hostPorts:  map[cluster.Name]bool{},
		apiHeld:    map[netip.Addr]bool{}, apiProblems: map[netip.Addr]string{},
		labelTexts: map[identity.ID][]string{},
		onDevices:  map[netip.Addr]bool{}, ownWritten: map[netip.Addr]bool{},
		now: now,
	}
	for _, o := range options {
		o(e)
	}
	e.identities = newIdentities()
	e.addresses = newAddresses()
	e.services = lb.NewCompiler(e.serve)
	e.services.Adopt(adopted.Services, adopted.Backends)
	e.adopt(adopted)
	return e
}

// Pruned says that the kernel holds nothing that the engine did not ask for: neither anything of the
// predecessor nor, after a Rebase, of the operations that were given up. It returns the writes that take
// back what was only there for those.
func (e *Engine) Pruned() []Op {
	e.out = nil
	for _, p := range e.leftoverPrefixes() {
		e.compiler.DeleteIdentity(e.leftover[p])
	}
	e.leftover = nil
	e.flushPolicy()
	e.services.ReleaseUnused()
	for _, row := range e.adopted.IPCache {
		if row.Identity.IsLocal() {
			e.identities.local.Forget(row.Identity, e.now)
		}
	}
	e.adopted = Adopted{}
	return e.done()
}

// Generation is the one that the policies' classes are in.
func (e *Engine) Generation() uint8 { return e.generation }

// Live says whether the engine has seen all initial input and its operations describe the whole
// desired state: rows of the kernel that it did not write may be pruned.
func (e *Engine) Live() bool { return e.live }

// Apply takes one event and returns what must be written, in order. Before the engine is live it
// returns only requests for identities.
func (e *Engine) Apply(now time.Time, ev Event) []Op {
	e.now = now
	e.out = nil
	clear(e.labelTexts)
	switch ev := ev.(type) {
	case cluster.NodeUpsert:
		e.upsertNode(ev.Node)
	case cluster.NodeDelete:
		e.deleteNode(ev.Name)
	case cluster.NamespaceUpsert:
		e.namespaces[ev.Namespace.Name] = ev.Namespace
		e.relabelNamespace(ev.Namespace.Name)
	case cluster.NamespaceDelete:
		delete(e.namespaces, ev.Name)
		e.relabelNamespace(ev.Name)
	case cluster.PodUpsert:
		e.upsertPod(ev.Pod)
	case cluster.PodDelete:
		delete(e.pods, ev.Name)
		e.serveHostPorts(ev.Name)
	case cluster.IdentityUpsert:
		e.learnIdentity(ev.ID, ev.Labels)
	case cluster.IdentityDelete:
		e.forgetIdentity(ev.ID)
	case Allocated:
		e.learnIdentity(ev.ID, ev.Labels)
	case cluster.EndpointUpsert:
		e.upsertRemote(ev.Endpoint)
	case cluster.EndpointDelete:
		e.deleteRemote(ev.Name)
	case cluster.PolicyUpsert:
		e.upsertPolicy(ev.Policy)
	case cluster.PolicyDelete:
		e.deletePolicy(ev.Ref)
	case cluster.ServiceUpsert:
		e.services.TakeService(ev.Service)
		e.flushServices()
	case cluster.ServiceDelete:
		e.services.DeleteService(ev.Name)
		e.flushServices()
	case cluster.BackendsUpsert:
		e.takeAPIServers(ev)
		e.services.TakeSlice(ev.Slice)
		e.flushServices()
	case cluster.BackendsDelete:
		e.services.DeleteSlice(ev.Service, ev.Slice)
		e.flushServices()
		e.takeAPIServers(ev)
	case cluster.Synced:
		e.synced = true
		for _, id := range sortedKeys(e.local) {
			e.resolve(e.local[id])
		}
	case Attach:
		e.attach(ev)
	case DeviceAddresses:
		e.takeDeviceAddresses(ev.Addresses)
	case Detach:
		e.detach(ev.ID)
	default:
		panic(fmt.Sprintf("engine: unknown event %T", ev))
	}
	if !e.live && e.complete() {
		e.goLive()
	}
	return e.done()
}

// done hands the operations over. What goes live may be a hundred thousand, which must not stay until the next event.
func (e *Engine) done() []Op {
	out := e.out
	e.out = nil
	return out
}

// put and remove append an operation. Before the engine is live only what goes to the cluster
// passes (requests for identities, endpoints that are gone): goLive emits everything else in one go.
func (e *Engine) put(t Table, key, row any) {
	if e.live || t == Identity || t == Published {
		e.out = append(e.out, Op{t, key, row})
	}
}

func (e *Engine) remove(t Table, key any) { e.put(t, key, nil) }

// complete says whether nothing that a restored endpoint needs is still unknown.
func (e *Engine) complete() bool {
	if !e.synced {
		return false
	}
	for _, ep := range e.local {
		if !ep.restored || ep.identity != identity.Unknown {
			continue
		}
		if _, ok := e.pods[ep.pod]; ok {
			return false // its identity is being asked for
		}
	}
	return true
}

// goLive emits the whole desired state. Prefixes first: under the policies that are still in force
// a new prefix identity inherits the class of what its addresses were before.
func (e *Engine) goLive() {
	e.live = true
	e.out = append(e.out, e.clean...)
	for _, p := range e.addresses.sortedPrefixes() {
		id := e.addresses.prefixes[p].id
		e.inheritClasses(p, id)
		e.emitPrefix(p)
	}
	e.flushPolicy()
	for _, name := range sortedKeys(e.nodes) {
		e.emitNode(e.nodes[name])
	}
	for _, ip := range sortedAddresses(e.onDevices) {
		e.emitAddress(ip)
	}
	addresses := e.addresses.all()
	e.out = slices.Grow(e.out, 2*len(addresses)) // a row and an epoch each: most of what there is
	for _, ip := range addresses {
		e.emitAddress(ip)
	}
	e.flushServices()
	e.emitRoutes()
	for _, id := range sortedKeys(e.local) {
		if ep := e.local[id]; ep.identity != identity.Unknown {
			e.emitEndpoint(ep)
		}
	}
}

func (e *Engine) flushServices() {
	if !e.live {
		return
	}
	for _, op := range e.services.Flush() {
		switch op := op.(type) {
		case lb.PutBackend:
			e.put(Backends, op.ID, op.Row)
		case lb.DeleteBackend:
			e.remove(Backends, op.ID)
		case lb.PutSlot:
			e.put(Slots, op.Key, op.Backend)
		case lb.DeleteSlot:
			e.remove(Slots, op.Key)
		case lb.PutService:
			e.put(Services, op.Key, op.Row)
		case lb.DeleteService:
			e.remove(Services, op.Key)
		case lb.PutHealth:
			e.put(HealthChecks, op.Service, op.Check)
		case lb.DeleteHealth:
			e.remove(HealthChecks, op.Service)
		}
	}
}

// nextEpoch is higher than every epoch before it (modulo wrap after 2^32 changes).
func (e *Engine) nextEpoch() datapath.Epoch {
	e.epoch++
	if e.epoch == 0 {
		e.epoch = 1
	}
	return e.epoch
}

// podLabels is what decides the identity of a pod.
func (e *Engine) podLabels(p cluster.Pod) labels.Set {
	return cluster.PodLabelsIn(e.cluster, p, e.namespaces[p.Name.Namespace])
}

// sortedKeys makes iteration deterministic.
func sortedKeys[K interface {
	comparable
	~string | ~uint16 | ~uint32
}, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
