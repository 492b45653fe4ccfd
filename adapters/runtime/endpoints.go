package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/ipam"
	"github.com/weirnet/weir/ports"
)

type attachmentKey struct{ container, ifname string }

func keyOf(a ports.Attachment) attachmentKey { return attachmentKey{a.ContainerID, a.Interface} }

// waiter is a caller of Activate that waits for the kernel.
type waiter struct {
	id   datapath.EndpointID
	err  error // valid when done is closed
	done chan struct{}
}

// restore takes over the endpoints of the predecessor. One whose link is gone, or was never made, is
// forgotten. An error means that nobody knows which endpoints there are: an agent that went on would
// take them for gone.
func (a *agent) restore() error {
	saved, err := a.deps.Attachments.Load()
	if err != nil {
		return fmt.Errorf("load endpoints of before: %w", err)
	}
	links, err := a.deps.Network.PodLinks()
	if err != nil {
		return fmt.Errorf("list pod links: %w", err)
	}
	for _, s := range saved {
		if err := a.pool.Restore(owner(s), s.IPs); err != nil {
			a.deps.Log.Error("restore addresses", "pod", s.Pod, "err", err)
			continue
		}
		if !slices.Contains(links, s.HostDevice) {
			a.deps.Log.Info("endpoint is gone", "pod", s.Pod, "device", s.HostDevice)
			if err := a.deps.Attachments.Delete(s.ContainerID, s.Interface); err != nil {
				return fmt.Errorf("forget endpoint of pod %s: %w", s.Pod, err)
			}
			a.pool.Release(owner(s))
			a.wishes.add(engine.Op{Table: engine.Published, Key: s.Pod})
			continue
		}
		att := s
		a.attached[keyOf(s)] = &att
		a.lastID = max(a.lastID, s.ID)
		if s.Ifindex == 0 {
			continue
		}
		if err := a.dp.AttachPod(s.Ifindex); err != nil { // the programs of before stay
			a.deps.Log.Error("attach pod programs", "pod", s.Pod, "device", s.HostDevice, "err", err)
		}
		a.tellAttached(att, true)
	}
	return nil
}

// attach puts the programs on a link and tells the engine.
func (a *agent) attach(att ports.Attachment) error {
	if err := a.dp.AttachPod(att.Ifindex); err != nil {
		a.deps.Log.Error("attach pod programs", "pod", att.Pod, "device", att.HostDevice, "err", err)
		return fmt.Errorf("attach programs to %s of pod %s: %w", att.HostDevice, att.Pod, err)
	}
	a.tellAttached(att, false)
	return nil
}

func (a *agent) tellAttached(att ports.Attachment, restored bool) {
	a.apply(engine.Attach{Pod: att.Pod, UID: att.UID, ContainerID: att.ContainerID, ID: att.ID, Ifindex: att.Ifindex, MAC: att.MAC, NodeMAC: att.NodeMAC,
		IPs: att.IPs, Restored: restored})
}

// The programs of a link are never taken off while the link exists: an interface without them would
// pass everything. They go with the link; what the datapath remembers of links that are gone is
// dropped when it lists them.
func (a *agent) forgetLinks() {
	if _, err := a.dp.AttachedPods(); err != nil {
		a.deps.Log.Warn("list attached programs", "err", err)
	}
}

func owner(a ports.Attachment) string { return a.ContainerID + "/" + a.Interface }

// Reserve implements ports.Endpoints.
func (a *Agent) Reserve(ctx context.Context, r ports.ReserveRequest) (ports.Reservation, error) {
	var res ports.Reservation
	if r.ContainerID == "" || r.Interface == "" {
		return res, fmt.Errorf("reserve: container id %q and interface %q must not be empty", r.ContainerID, r.Interface)
	}
	if r.Pod.Namespace == "" || r.Pod.Name == "" {
		return res, fmt.Errorf("reserve: container %s: no pod name: K8S_POD_NAMESPACE and K8S_POD_NAME are needed in CNI_ARGS", r.ContainerID)
	}
	return ask(ctx, a, func() (ports.Reservation, error) { return a.reserve(r) })
}

func (a *agent) reserve(r ports.ReserveRequest) (ports.Reservation, error) {
	if a.engine == nil {
		return ports.Reservation{}, a.notOpen()
	}
	key := attachmentKey{r.ContainerID, r.Interface}
	if att, ok := a.attached[key]; ok {
		return a.reservation(att), nil
	}
	id, err := a.freeID()
	if err != nil {
		return ports.Reservation{}, err
	}
	att := ports.Attachment{
		ContainerID: r.ContainerID, Interface: r.Interface, Netns: r.Netns, Pod: r.Pod, UID: r.UID,
		ID: id, HostDevice: datapath.HostDeviceName(r.ContainerID, r.Interface),
	}
	if att.IPs, err = a.pool.Acquire(owner(att), r.IPs); err != nil {
		switch {
		case errors.Is(err, ipam.ErrFull):
			err = fmt.Errorf("%w: %w", ports.ErrFull, err)
		case errors.Is(err, ipam.ErrInUse), errors.Is(err, ipam.ErrOutside), errors.Is(err, ipam.ErrMismatch):
			err = fmt.Errorf("%w: %w", ports.ErrConflict, err)
		}
		return ports.Reservation{}, fmt.Errorf("addresses for pod %s: %w", r.Pod, err)
	}
	if err := a.deps.Attachments.Save(att); err != nil {
		a.pool.Release(owner(att))
		// It may be there all the same, and would claim the addresses when the agent starts again. What is
		// left if this fails too goes with Release.
		_ = a.deps.Attachments.Delete(att.ContainerID, att.Interface)
		return ports.Reservation{}, fmt.Errorf("remember endpoint of pod %s: %w", r.Pod, err)
	}
	a.attached[key] = &att
	a.masq.stale = a.masq.stale || a.delegated()
	return a.reservation(&att), nil
}

// freeID gives numbers in turn: one that has just become free is the last to be used again.
func (a *agent) freeID() (datapath.EndpointID, error) {
	used := map[datapath.EndpointID]bool{}
	for _, att := range a.attached {
		used[att.ID] = true
	}
	last := a.lastID
	for range 65536 {
		last++
		if last != 0 && !used[last] {
			a.lastID = last
			return last, nil
		}
	}
	return 0, fmt.Errorf("endpoint ids 1 to 65535 are all in use: %w", ports.ErrFull)
}

func (a *agent) reservation(att *ports.Attachment) ports.Reservation {
	r := ports.Reservation{ID: att.ID, HostDevice: att.HostDevice, Addresses: slices.Clone(att.IPs), MTU: a.cfg.MTU}
	for _, ip := range att.IPs {
		for _, g := range a.self.Routers {
			if g.Is4() == ip.Is4() {
				r.Gateways = append(r.Gateways, g)
			}
		}
	}
	return r
}

// Activate implements ports.Endpoints.
func (a *Agent) Activate(ctx context.Context, containerID, ifname string, link ports.PodLinkState) error {
	w, err := ask(ctx, a, func() (*waiter, error) { return a.activate(attachmentKey{containerID, ifname}, link) })
	if err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-a.done:
		return fmt.Errorf("agent: %w", ports.ErrClosed)
	case <-ctx.Done():
		why, err := ask(context.WithoutCancel(ctx), a, func() (string, error) { return a.whyNotInForce(w.id), nil })
		if err != nil || why == "" {
			why = "the policy is not in force yet"
		}
		return fmt.Errorf("endpoint of container %s: %s: %w", containerID, why, ctx.Err())
	}
}

func (a *agent) activate(key attachmentKey, link ports.PodLinkState) (*waiter, error) {
	att, ok := a.attached[key]
	if !ok {
		return nil, fmt.Errorf("container %s interface %s has no reservation: %w", key.container, key.ifname, ports.ErrNotFound)
	}
	if att.Ifindex != link.Ifindex || att.MAC != link.MAC || att.NodeMAC != link.NodeMAC {
		known := *att
		known.Ifindex, known.MAC, known.NodeMAC = link.Ifindex, link.MAC, link.NodeMAC
		if err := a.deps.Attachments.Save(known); err != nil {
			return nil, fmt.Errorf("remember endpoint of pod %s: %w", att.Pod, err)
		}
		*att = known // not before: the next call has to save it
	}
	if err := a.attach(*att); err != nil {
		return nil, err
	}
	w := &waiter{id: att.ID, done: make(chan struct{})}
	a.waiters = append(a.waiters, w)
	return w, nil
}

// wake tells those whose endpoint is in force, or gone.
func (a *agent) wake() {
	a.waiters = slices.DeleteFunc(a.waiters, func(w *waiter) bool {
		if !a.inForce(w.id) {
			if _, exists := a.engine.Endpoint(w.id); exists {
				return false
			}
			w.err = fmt.Errorf("endpoint %d was released meanwhile: %w", w.id, ports.ErrNotFound)
		}
		close(w.done)
		return true
	})
}

func (a *agent) inForce(id datapath.EndpointID) bool { return a.whyNotInForce(id) == "" }

// whyNotInForce is empty when the kernel enforces the endpoint's policy.
func (a *agent) whyNotInForce(id datapath.EndpointID) string {
	if a.engine == nil {
		return a.notOpen().Error()
	}
	s, ok := a.engine.Endpoint(id)
	switch {
	case !ok:
		return "no such endpoint"
	case !a.engine.Live():
		return "the cluster's initial lists are not complete yet"
	case !s.PodKnown:
		return fmt.Sprintf("pod %s is not known in the cluster yet", s.Pod)
	case s.Identity == identity.Unknown:
		return fmt.Sprintf("pod %s has no identity yet", s.Pod)
	case len(a.exec.security) > 0:
		return fmt.Sprintf("%d writes to the kernel are waiting: %v", len(a.exec.security), a.exec.stuck.err)
	}
	return ""
}

// Release implements ports.Endpoints.
func (a *Agent) Release(ctx context.Context, containerID, ifname string) error {
	return tell(ctx, a, func() error { return a.release(attachmentKey{containerID, ifname}) })
}

func (a *agent) release(key attachmentKey) error {
	if a.engine == nil {
		return a.notOpen()
	}
	att, ok := a.attached[key]
	if !ok {
		// A reservation that failed may have been remembered.
		if err := a.deps.Attachments.Delete(key.container, key.ifname); err != nil {
			return fmt.Errorf("forget container %s interface %s: %w", key.container, key.ifname, err)
		}
		return nil
	}
	if att.Ifindex != 0 {
		a.apply(engine.Detach{ID: att.ID})
	}
	if err := a.deps.Attachments.Delete(key.container, key.ifname); err != nil {
		return fmt.Errorf("forget endpoint of pod %s: %w", att.Pod, err)
	}
	a.pool.Release(owner(*att))
	delete(a.attached, key)
	a.masq.stale = a.masq.stale || a.delegated()
	return nil
}

// Lookup implements ports.Endpoints.
func (a *Agent) Lookup(ctx context.Context, containerID, ifname string) (r ports.Reservation, inForce bool, err error) {
	type found struct {
		r       ports.Reservation
		inForce bool
	}
	f, err := ask(ctx, a, func() (found, error) {
		att, ok := a.attached[attachmentKey{containerID, ifname}]
		if !ok {
			return found{}, fmt.Errorf("container %s interface %s: %w", containerID, ifname, ports.ErrNotFound)
		}
		return found{a.reservation(att), att.Ifindex != 0 && a.inForce(att.ID)}, nil
	})
	return f.r, f.inForce, err
}

// Retain implements ports.Endpoints.
func (a *Agent) Retain(ctx context.Context, valid []ports.ContainerInterface) ([]string, error) {
	return ask(ctx, a, func() (devices []string, err error) {
		keep := map[attachmentKey]bool{}
		for _, v := range valid {
			keep[attachmentKey{v.ContainerID, v.Interface}] = true
		}
		for key, att := range a.attached {
			if keep[key] {
				continue
			}
			if e := a.release(key); e != nil {
				err = e
				continue
			}
			devices = append(devices, att.HostDevice)
		}
		slices.Sort(devices)
		return devices, err
	})
}

// Ready implements ports.Endpoints.
func (a *Agent) Ready(ctx context.Context) error {
	if a.ready.Load() {
		return nil
	}
	why, err := ask(ctx, a, func() (string, error) {
		switch {
		case a.ready.Load():
			return "", nil
		case a.engine == nil:
			return a.notOpen().Error(), nil
		case !a.engine.Live():
			return "the cluster's initial lists are not complete yet", nil
		case a.exec.stuck.err != nil:
			return fmt.Sprintf("taking over the datapath: %v", a.exec.stuck.err), nil
		}
		return "taking over the datapath", nil
	})
	if err != nil || why == "" {
		return err
	}
	return fmt.Errorf("agent of node %s is not ready: %s", a.cfg.Node, why)
}

var _ ports.Endpoints = (*Agent)(nil)
