package fakes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

// ifname is the interface of pods.
const ifname = "eth0"

// pod is a pod that was made, or shall be.
type pod struct {
	spec      cluster.Pod
	node      *Node
	container string
	link      *ports.PodLink // nil: not made yet
	running   bool           // reachable
	ips       []netip.Addr
}

// PodInfo describes a pod.
type PodInfo struct {
	Name        cluster.Name
	Node        string
	IPs         []netip.Addr // empty until it runs
	Ports       []uint16     // that it answers on, TCP and UDP
	HostNetwork bool
	Running     bool
	Identity    identity.ID // as its node published it; Unknown before
}

// Pods describes all pods, sorted by name.
func (c *Cluster) Pods() []PodInfo {
	w := c.world()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []PodInfo
	for _, name := range slices.Sorted(maps.Keys(c.pods)) {
		p := c.pods[name]
		i := PodInfo{
			Name: p.spec.Name, Node: p.node.Name, IPs: slices.Clone(p.ips), HostNetwork: p.spec.HostNetwork,
			Running: p.running, Identity: w.endpoints[p.spec.Name].Identity,
		}
		for _, n := range p.spec.Ports {
			if !slices.Contains(i.Ports, n.Port) {
				i.Ports = append(i.Ports, n.Port)
			}
		}
		if p.spec.HostNetwork {
			i.Identity = identity.Host
		}
		out = append(out, i)
	}
	return out
}

// Pod describes one pod.
func (c *Cluster) Pod(name string) PodInfo {
	for _, p := range c.Pods() {
		if p.Name.String() == name {
			return p
		}
	}
	panic(fmt.Sprintf("fakes: no pod %q", name))
}

// reconcile makes pods what their objects say. Pods of nodes whose agent does not run wait for it.
func (c *Cluster) reconcile(ctx context.Context) error {
	want := c.world().pods
	var errs []error
	for _, p := range c.sortedPods() {
		if spec, ok := want[p.spec.Name]; ok && !spec.Finished && spec.Node == p.node.Name && sameShape(spec, p.spec) {
			c.mu.Lock()
			p.spec = spec
			c.mu.Unlock()
			continue
		}
		errs = append(errs, c.remove(ctx, p))
	}
	for _, name := range slices.SortedFunc(maps.Keys(want), func(a, b cluster.Name) int { return compare(a, b) }) {
		spec := want[name]
		n := c.findNode(spec.Node)
		if n == nil || spec.Finished {
			continue
		}
		c.mu.Lock()
		p := c.pods[name.String()]
		if p == nil {
			c.made++
			p = &pod{spec: spec, node: n, container: fmt.Sprintf("%s.%s.%d", name.Namespace, name.Name, c.made)}
			c.pods[name.String()] = p
		}
		c.mu.Unlock()
		if err := c.run(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func compare(a, b cluster.Name) int {
	switch x, y := a.String(), b.String(); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func (c *Cluster) sortedPods() []*pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*pod
	for _, name := range slices.Sorted(maps.Keys(c.pods)) {
		out = append(out, c.pods[name])
	}
	return out
}

// sameShape says whether a pod can go on as it is.
func sameShape(a, b cluster.Pod) bool {
	return a.HostNetwork == b.HostNetwork && a.UID == b.UID && slices.Equal(a.IPs, b.IPs) && slices.Equal(a.Ports, b.Ports)
}

// run does the part of kubelet and CNI plugin: addresses, the link, and only when the agent says that
// the policy is in force the way to the pod.
func (c *Cluster) run(ctx context.Context, p *pod) error {
	a := p.node.Agent()
	switch {
	case p.running:
		return nil
	case p.spec.HostNetwork:
		c.serve(p, p.node.Name, p.node.Addresses)
		return nil
	case a == nil:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Patience)
	defer cancel()
	netns := "/run/netns/" + p.container
	r, err := a.Reserve(ctx, ports.ReserveRequest{
		ContainerID: p.container, Interface: ifname, Netns: netns, Pod: p.spec.Name, UID: p.spec.UID, IPs: p.spec.IPs,
	})
	if err != nil {
		return err
	}
	p.link = &ports.PodLink{
		Netns: netns, Interface: ifname, HostName: r.HostDevice, MTU: r.MTU, Addresses: r.Addresses, Gateways: r.Gateways,
	}
	state, err := p.node.Network.CreatePodLink(*p.link)
	if err != nil {
		return err
	}
	if err := a.Activate(ctx, p.container, ifname, state); err != nil {
		return err
	}
	if err := p.node.Network.ActivatePodLink(*p.link); err != nil {
		return err
	}
	name := p.spec.Name.String()
	c.fabric.AddPod(kernel.PodConfig{
		Name: name, Node: p.node.Name, Ifindex: state.Ifindex, MAC: state.MAC, NodeMAC: state.NodeMAC, Addrs: r.Addresses,
	})
	c.serve(p, name, r.Addresses)
	return nil
}

// serve makes the pod answer on its ports.
func (c *Cluster) serve(p *pod, party string, ips []netip.Addr) {
	for _, n := range p.spec.Ports {
		c.fabric.Listen(party, datapath.ProtoTCP, n.Port)
		c.fabric.Listen(party, datapath.ProtoUDP, n.Port)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.ips, p.running = ips, true
}

// remove takes a pod away with its link. An agent that does not run finds the link gone when it starts.
func (c *Cluster) remove(ctx context.Context, p *pod) error {
	var err error
	if !p.spec.HostNetwork {
		c.fabric.RemovePod(p.spec.Name.String())
		if p.link != nil {
			err = p.node.Network.DeletePodLink(p.link.HostName)
		}
		if a := p.node.Agent(); a != nil {
			ctx, cancel := context.WithTimeout(ctx, c.o.Patience)
			defer cancel()
			err = errors.Join(err, a.Release(ctx, p.container, ifname))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pods, p.spec.Name.String())
	if err != nil {
		return fmt.Errorf("pod %s: remove: %w", p.spec.Name, err)
	}
	return nil
}
