package fakes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/devices"
	"github.com/weirnet/weir/core/ipam"
	"github.com/weirnet/weir/core/manifest"
	objects "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/network"
	"github.com/weirnet/weir/fakes/servicehealth"
	"github.com/weirnet/weir/ports"
)

// Outside is the name of the machine outside the cluster.
const Outside = "outside"

// OutsideAddresses are its addresses.
var OutsideAddresses = []netip.Addr{netip.MustParseAddr("172.30.0.1"), netip.MustParseAddr("fd00:172:30::1")}

// MaxNodes is how many nodes a cluster can have.
const MaxNodes = 80

// Options shape a cluster. The zero value is usable.
type Options struct {
	Nodes      int               // node1, node2, …; 0: 2
	Capacities kernel.Capacities // of every node's kernel
	Seed       uint64            // of the choice of backends
	Clock      ports.Clock       // of agents and kernels; nil: the machine's
	Log        *slog.Logger      // of the agents; nil: none
	Patience   time.Duration     // for agents to do what they were asked for; 0: 10 seconds
	Native     bool              // the nodes are neighbours on a device: agents may route directly
	Stopped    bool              // build the nodes, start no agent

	// OnWrite is told about every write of an agent to its kernel after it was made. It may send packets
	// (Dial, Open, Ping, Fabric); it must not ask or stop an agent, which waits for it.
	OnWrite func(Write)
}

// Write is one write of an agent to its kernel or its node's network.
type Write struct {
	Node  string
	Op    string // "put", "delete"; "bump", "attach", "detach", "attach network", "collect", "flush"; "overlay", "routes"
	Table string // of put and delete
	Key   any
}

// Cluster is a cluster of fakes. Its methods may be called from several goroutines; changes are made one
// at a time.
type Cluster struct {
	o      Options
	start  StartAgent
	store  *objects.Cluster
	fabric *kernel.Fabric
	nodes  []*Node

	changing sync.Mutex // held by what changes the cluster
	made     int        // pods ever made

	mu     sync.Mutex // guards what follows
	pods   map[string]*pod
	poked  chan struct{}
	closed bool
}

// Node is one node. All but its agent outlives the agent.
type Node struct {
	Name        string
	Addresses   []netip.Addr // of the machine
	PodCIDRs    []netip.Prefix
	Routers     []netip.Addr // its own addresses among its pods'
	Kernel      *kernel.Kernel
	Health      *servicehealth.ServiceHealth // of the agent that was started last
	Network     *network.Network
	Source      *objects.Node // the cluster as this node sees it, with its faults
	Attachments *objects.Attachments

	mu      sync.Mutex
	running *incarnation
	read    uint64 // kernel events that agents took
}

// New builds a cluster of nodes without pods and starts its agents. After an error nothing runs. Close
// ends it.
func New(start StartAgent, o Options) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Nodes < 0 || o.Nodes > MaxNodes {
		return nil, fmt.Errorf("%d nodes: 1 to %d are allowed", o.Nodes, MaxNodes)
	}
	if o.Clock == nil {
		o.Clock = machineClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	c := &Cluster{
		o: o, start: start, store: objects.New(), fabric: kernel.NewFabric(),
		pods: map[string]*pod{}, poked: make(chan struct{}, 1),
	}
	c.fabric.AddMachine(Outside, OutsideAddresses...)
	for i := 1; i <= o.Nodes; i++ {
		n, err := c.newNode(i)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
	}
	if o.Stopped {
		return c, nil
	}
	for _, n := range c.nodes {
		c.Launch(n.Name)
	}
	for _, n := range c.nodes {
		if err := c.AwaitAgent(context.Background(), n.Name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if err := c.Settle(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// overlayIfindex is the index that a new network.Network gives to the overlay device.
const overlayIfindex = 2

func (c *Cluster) newNode(i int) (*Node, error) {
	direct := uint32(0)
	if c.o.Native {
		direct = network.DirectIfindex
	}
	n := &Node{
		Name: fmt.Sprintf("node%d", i),
		Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{172, 30, 0, byte(10 + i)}), netip.MustParseAddr(fmt.Sprintf("fd00:172:30::%d", 10+i)),
		},
		PodCIDRs: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i)),
		},
		Network: network.New(),
	}
	n.Kernel = kernel.New(kernel.Options{
		Capacities: c.o.Capacities, Clock: c.o.Clock, Seed: c.o.Seed + uint64(i),
		Overlay: overlayIfindex, Direct: direct,
		Outside: kernel.Outside{Outside: ports.Outside{Devices: []uint32{network.DirectIfindex}, Addresses: n.Addresses}},
	})
	n.Network.SetLinks(devices.Link{
		Index: network.DirectIfindex, Name: "eth0", Up: true, Ethernet: true, Default: true, Addresses: n.Addresses,
	})
	n.Source = c.store.Node(n.Name)
	n.Attachments = n.Source.NewAttachments()
	pool, err := ipam.New(n.PodCIDRs)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.Name, err)
	}
	n.Routers = pool.Routers()
	c.fabric.AddNode(kernel.NodeConfig{Name: n.Name, Kernel: n.Kernel, Underlay: n.Addresses, Routers: n.Routers})
	o := newNodeObject(n.Name)
	o.describe(n)
	c.store.ApplyFiles(o.file())
	return n, nil
}

// Close kills all agents and waits for their goroutines. Idempotent.
func (c *Cluster) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, c.KillAgent(n.Name))
	}
	return errors.Join(errs...)
}

// Nodes lists the nodes in order of their numbers.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// Node returns a node by its name.
func (c *Cluster) Node(name string) *Node {
	if n := c.findNode(name); n != nil {
		return n
	}
	panic(fmt.Sprintf("fakes: no node %q", name))
}

func (c *Cluster) findNode(name string) *Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Fabric joins the nodes; it sends whatever a test can think of.
func (c *Cluster) Fabric() *kernel.Fabric { return c.fabric }

// Objects is the cluster's memory of objects. What is changed there reaches the agents, and Reconcile
// makes pods of it.
func (c *Cluster) Objects() *objects.Cluster { return c.store }

// Violations lists the writes of all agents that broke the contract with their kernel, see
// kernel.Kernel.Violations.
func (c *Cluster) Violations() []string {
	var out []string
	for _, n := range c.nodes {
		for _, v := range n.Kernel.Violations() {
			out = append(out, n.Name+": "+v)
		}
	}
	return out
}

// Apply makes objects (YAML or JSON, several documents) part of the cluster: pods run on the node they
// name, or on the one with the fewest, services get cluster addresses. Findings are the complaints
// about single objects; what has one that is no warning does not take effect. The error says what did not
// happen in time.
func (c *Cluster) Apply(text string) ([]cluster.Finding, error) {
	return c.ApplyFiles(context.Background(), ports.LabManifest{Content: []byte(text)})
}

// ApplyFiles is Apply for several files, as one change.
func (c *Cluster) ApplyFiles(ctx context.Context, files ...ports.LabManifest) ([]cluster.Finding, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	list, findings := readObjects(files)
	good, bad := c.admit(list)
	findings = append(findings, bad...)
	var docs []objects.File
	for _, o := range good {
		docs = append(docs, o.file())
	}
	findings = append(findings, c.store.ApplyFiles(docs...)...)
	return findings, errors.Join(c.reconcile(ctx), c.settle(ctx))
}

// Delete removes the objects that the documents name; absent is no error.
func (c *Cluster) Delete(text string) ([]cluster.Finding, error) {
	return c.DeleteFiles(context.Background(), ports.LabManifest{Content: []byte(text)})
}

// DeleteFiles is Delete for several files, as one change.
func (c *Cluster) DeleteFiles(ctx context.Context, files ...ports.LabManifest) ([]cluster.Finding, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	list, findings := readObjects(files)
	var keys []manifest.Key
	for _, o := range list {
		decoded, _ := manifest.Decode(o.fileName, o.json())
		switch {
		case !decoded.Known():
		case decoded.Kind == manifest.KindNode && c.findNode(decoded.Name) != nil:
			findings = append(findings, o.finding("", "the nodes of a running cluster stay"))
		default:
			keys = append(keys, decoded.Key)
		}
	}
	c.store.Delete(keys...)
	return findings, errors.Join(c.reconcile(ctx), c.settle(ctx))
}

// Reconcile makes the pods of all Pod objects and removes the others, like a kubelet, and waits for the
// agents. Pods of nodes without agent stay unmade.
func (c *Cluster) Reconcile(ctx context.Context) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	return errors.Join(c.reconcile(ctx), c.settle(ctx))
}

// poke wakes who waits for something to change.
func (c *Cluster) poke() {
	select {
	case c.poked <- struct{}{}:
	default:
	}
}

type machineClock struct{}

func (machineClock) Now() time.Time                         { return time.Now() }
func (machineClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
