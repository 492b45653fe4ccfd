package sim

import (
	"fmt"
	"slices"

	"github.com/weirnet/weir/adapters/runtime"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/ports"
)

// phase is how far a container's network is.
type phase uint8

const (
	wanted phase = iota
	reserved
	linked
	activated
	inForce
	running
	linkGone // on the way down: the link is deleted, the reservation not yet
	over
)

// container is one attempt to run a pod.
type container struct {
	id      string
	pod     cluster.Name
	uid     string
	node    *node
	phase   phase
	failed  bool // it is to be taken down although its pod is wanted
	res     ports.Reservation
	link    ports.PodLinkState
	asked   int // life of the agent that reserved
	life    int // and of the one that was asked to activate it
	boot    int
	from    int // moments of the node's view at which its endpoint came
	to      int // and went; 0: it is there
	claimed bool
}

// inFabric says whether its processes run.
func (c *container) inFabric() bool { return c.phase == running }

func (c *container) podLink() ports.PodLink {
	return ports.PodLink{
		Netns: "/netns/" + c.id, Interface: "eth0", HostName: c.res.HostDevice, MTU: c.res.MTU,
		Addresses: c.res.Addresses, Gateways: c.res.Gateways,
	}
}

// kubelet does the next step for one container, or begins one for a pod without.
func (s *Sim) kubelet(r uint64) {
	type job struct {
		name string
		do   func()
	}
	var jobs []job
	for _, c := range s.containers {
		if c.phase != running || !s.isWanted(c) {
			jobs = append(jobs, job{c.id, func() { s.stepContainer(c) }})
		}
	}
	for _, p := range s.podList() {
		if p.Node != "" && !p.Terminating && s.node(p.Node) != nil && s.containerOf(p) == nil {
			jobs = append(jobs, job{p.Name.String(), func() { s.newContainer(p) }})
		}
	}
	if j, ok := pick(r, jobs, func(j job) string { return j.name }); ok {
		s.twice = r%8 == 0
		j.do()
		s.twice = false
	}
}

// stepAll does one step for everything that waits for one.
func (s *Sim) stepAll() (moved bool) {
	for _, c := range slices.Clone(s.containers) {
		if c.phase != running || !s.isWanted(c) {
			s.stepContainer(c)
			moved = true
		}
	}
	for _, p := range s.podList() {
		if p.Node != "" && !p.Terminating && s.node(p.Node) != nil && s.containerOf(p) == nil {
			s.newContainer(p)
			moved = true
		}
	}
	return moved
}

func (s *Sim) podList() (out []cluster.Pod) {
	each(s.api, func(e cluster.PodUpsert) { out = append(out, e.Pod) })
	return out
}

// containerOf finds the container of a pod, or one of its name that is still going down: only one of a
// name runs on a node.
func (s *Sim) containerOf(p cluster.Pod) *container {
	for _, c := range s.containers {
		if c.pod == p.Name && c.node.name == p.Node {
			return c
		}
	}
	return nil
}

func (s *Sim) newContainer(p cluster.Pod) {
	s.serial++
	c := &container{id: fmt.Sprintf("c%d", s.serial), pod: p.Name, uid: p.UID, node: s.node(p.Node)}
	c.boot = c.node.boots
	s.containers = append(s.containers, c)
	s.trace("kubelet: container %s for pod %s on %s", c.id, p.Name, p.Node)
}

func (s *Sim) isWanted(c *container) bool {
	p, ok := s.api.objects["pod "+c.pod.String()].(cluster.PodUpsert)
	return ok && p.Pod.UID == c.uid && p.Pod.Node == c.node.name && !p.Pod.Terminating && !c.failed && c.boot == c.node.boots
}

func (s *Sim) stepContainer(c *container) {
	s.inKubelet = true
	defer func() { s.inKubelet = false }()
	if !s.isWanted(c) {
		s.takeDown(c)
		return
	}
	n := c.node
	fail := func(err error) bool {
		if err != nil {
			s.trace("kubelet: container %s: %v", c.id, err)
			c.failed = c.phase != wanted
		}
		return err != nil
	}
	switch c.phase {
	case wanted:
		var err error
		n.ask(func(a *runtime.Stepper) {
			q := ports.ReserveRequest{ContainerID: c.id, Interface: "eth0", Netns: "/netns/" + c.id, Pod: c.pod, UID: c.uid}
			c.res, err = a.Reserve(q)
			if s.twice {
				first, failed := c.res, err != nil
				if c.res, err = a.Reserve(q); err == nil && !failed && (c.res.ID != first.ID || !slices.Equal(c.res.Addresses, first.Addresses)) {
					s.failf("addresses", "container %s reserves twice and gets %+v, then %+v", c.id, first, c.res)
				}
			}
		}, &err)
		if !fail(err) {
			c.phase, c.asked = reserved, n.restarts
			s.checkAddresses(c)
		}
	case reserved:
		var err error
		if c.link, err = n.links().CreatePodLink(c.podLink()); !fail(err) {
			c.phase = linked
		}
	case linked:
		var err error
		c.claimed = true
		n.view.now++ // the agent learns something that no event says
		c.from = n.view.now
		n.ask(func(a *runtime.Stepper) {
			if err = a.Activate(c.id, "eth0", c.link); s.twice {
				err = a.Activate(c.id, "eth0", c.link)
			}
		}, &err)
		if !fail(err) {
			c.phase, c.life = activated, n.restarts
		}
	case activated:
		if n.agent == nil || n.restarts != c.life {
			c.failed = true
			return
		}
		if err := n.agent.InForce(c.id, "eth0"); err == nil {
			c.phase = inForce
		}
	case inForce:
		if !fail(n.links().ActivatePodLink(c.podLink())) {
			s.run(c)
		}
	}
}

// run starts the pod's processes and reports its address.
func (s *Sim) run(c *container) {
	c.phase = running
	s.trace("kubelet: container %s of pod %s runs at %v", c.id, c.pod, c.res.Addresses)
	s.fabric.AddPod(kernel.PodConfig{
		Name: c.id, Node: c.node.name, Ifindex: c.link.Ifindex, MAC: c.link.MAC, NodeMAC: c.link.NodeMAC, Addrs: c.res.Addresses,
	})
	for _, port := range []uint16{80, 8080} {
		s.fabric.Listen(c.id, datapath.ProtoTCP, port)
	}
	s.fabric.Listen(c.id, datapath.ProtoUDP, 53)
	if p, ok := s.api.objects["pod "+c.pod.String()].(cluster.PodUpsert); ok && p.Pod.UID == c.uid {
		p.Pod.IPs, p.Pod.Ready = c.res.Addresses, true
		s.api.tell(p)
	}
}

// takeDown ends a container: its processes, its link, its reservation.
func (s *Sim) takeDown(c *container) {
	n := c.node
	if c.phase == running {
		s.fabric.RemovePod(c.id)
		c.phase = inForce
	}
	if c.phase < linkGone {
		if c.phase >= reserved {
			if err := n.links().DeletePodLink(c.res.HostDevice); err != nil {
				return
			}
		}
		c.phase = linkGone
		return
	}
	var err error
	if n.agent == nil {
		// Without an agent the plugin is content: the next agent finds that the link is gone.
		s.trace("kubelet: nobody releases container %s", c.id)
	} else {
		n.ask(func(a *runtime.Stepper) {
			if err = a.Release(c.id, "eth0"); s.twice {
				err = a.Release(c.id, "eth0")
			}
		}, &err)
	}
	if err != nil {
		s.trace("kubelet: release %s: %v", c.id, err)
		return
	}
	s.drop(c)
	p, ok := s.api.objects["pod "+c.pod.String()].(cluster.PodUpsert)
	if ok && p.Pod.UID == c.uid && p.Pod.Terminating {
		s.api.tell(cluster.PodDelete{Name: c.pod})
	}
}

// drop forgets a container; the oracle remembers it for a while.
func (s *Sim) drop(c *container) {
	c.phase = over
	c.node.view.now++
	c.to = c.node.view.now
	s.containers = slices.DeleteFunc(s.containers, func(d *container) bool { return d == c })
	if c.claimed {
		s.former = append(s.former, c)
	}
}

// ask makes a call of the plugin to the agent.
func (n *node) ask(f func(a *runtime.Stepper), err *error) {
	if n.agent == nil {
		*err = ports.ErrClosed
		return
	}
	was := n.agent
	n.s.inKubelet = false
	n.do(f)
	n.s.inKubelet = true
	if n.agent != was {
		*err = errKilled
	}
}

// checkAddresses holds a reservation against all others of the node.
func (s *Sim) checkAddresses(c *container) {
	for _, o := range s.containers {
		if o == c || o.node != c.node || o.phase == wanted || o.boot != c.boot || o.phase == linkGone {
			continue
		}
		if o.phase < activated && o.asked != c.node.restarts {
			continue // an agent that finds no link at its start forgets the reservation, and will refuse to activate it
		}
		for _, a := range c.res.Addresses {
			if slices.Contains(o.res.Addresses, a) {
				s.failf("addresses", "container %s got %s, which container %s has", c.id, a, o.id)
			}
		}
	}
}
