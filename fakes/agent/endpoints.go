package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/ipam"
	"github.com/weirnet/weir/ports"
)

// EndpointsMTU is the MTU, in bytes, of every reservation of the fake.
const EndpointsMTU = 1450

// Endpoints is an agent as a CNI plugin sees it (ports.Endpoints). It may be used by several
// goroutines.
type Endpoints struct {
	mu       sync.Mutex
	pool     *ipam.Allocator
	lastID   datapath.EndpointID
	attached map[ports.ContainerInterface]*attachment
	hook     func(ctx context.Context, op string, at ports.ContainerInterface) error
}

type attachment struct {
	reservation ports.Reservation
	request     ports.ReserveRequest
	link        *ports.PodLinkState
}

var _ ports.Endpoints = (*Endpoints)(nil)

// NewEndpoints makes an agent for a node with these pod prefixes, which must be fit for ipam.New.
func NewEndpoints(podCIDRs ...netip.Prefix) *Endpoints {
	pool, err := ipam.New(podCIDRs)
	if err != nil {
		panic(err)
	}
	return &Endpoints{pool: pool, attached: map[ports.ContainerInterface]*attachment{}}
}

// Hook installs a function that is asked before each call and whose error becomes the call's; it
// may wait for the context, as an agent that hangs would make its caller do. nil removes it. op is the
// method's name.
func (e *Endpoints) Hook(f func(ctx context.Context, op string, at ports.ContainerInterface) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hook = f
}

// Attached lists the attachments, sorted.
func (e *Endpoints) Attached() []ports.ContainerInterface {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []ports.ContainerInterface
	for at := range e.attached {
		out = append(out, at)
	}
	slices.SortFunc(out, func(a, b ports.ContainerInterface) int {
		return slices.Compare([]string{a.ContainerID, a.Interface}, []string{b.ContainerID, b.Interface})
	})
	return out
}

// Request returns what an attachment was reserved with; false if there is none.
func (e *Endpoints) Request(at ports.ContainerInterface) (ports.ReserveRequest, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.attached[at]
	if !ok {
		return ports.ReserveRequest{}, false
	}
	return a.request, true
}

// begin asks the hook, without the lock, and then locks; the caller unlocks.
func (e *Endpoints) begin(ctx context.Context, op string, at ports.ContainerInterface) error {
	e.mu.Lock()
	hook := e.hook
	e.mu.Unlock()
	err := ctx.Err()
	if err == nil && hook != nil {
		err = hook(ctx, op, at)
	}
	e.mu.Lock()
	return err
}

func owner(at ports.ContainerInterface) string { return at.ContainerID + "/" + at.Interface }

// Reserve implements ports.Endpoints.
func (e *Endpoints) Reserve(ctx context.Context, r ports.ReserveRequest) (ports.Reservation, error) {
	at := ports.ContainerInterface{ContainerID: r.ContainerID, Interface: r.Interface}
	err := e.begin(ctx, "Reserve", at)
	defer e.mu.Unlock()
	if err != nil {
		return ports.Reservation{}, fmt.Errorf("reserve %s: %w", owner(at), err)
	}
	addrs, err := e.pool.Acquire(owner(at), r.IPs)
	switch {
	case errors.Is(err, ipam.ErrFull):
		err = fmt.Errorf("%w: %w", ports.ErrFull, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", ports.ErrConflict, err)
	}
	if err != nil {
		return ports.Reservation{}, fmt.Errorf("reserve %s: %w", owner(at), err)
	}
	a := e.attached[at]
	if a == nil {
		e.lastID++
		a = &attachment{reservation: ports.Reservation{
			ID:         e.lastID,
			HostDevice: datapath.HostDeviceName(r.ContainerID, r.Interface),
			Addresses:  addrs,
			MTU:        EndpointsMTU,
		}}
		for _, addr := range addrs {
			g, _ := e.pool.Gateway(addr)
			a.reservation.Gateways = append(a.reservation.Gateways, g)
		}
		e.attached[at] = a
	}
	a.request = r
	return a.copy(), nil
}

func (a *attachment) copy() ports.Reservation {
	r := a.reservation
	r.Addresses, r.Gateways = slices.Clone(r.Addresses), slices.Clone(r.Gateways)
	return r
}

// Activate implements ports.Endpoints.
func (e *Endpoints) Activate(ctx context.Context, containerID, ifname string, link ports.PodLinkState) error {
	at := ports.ContainerInterface{ContainerID: containerID, Interface: ifname}
	err := e.begin(ctx, "Activate", at)
	defer e.mu.Unlock()
	a := e.attached[at]
	if err == nil && a == nil {
		err = ports.ErrNotFound
	}
	if err == nil && (link.Ifindex == 0 || link.MAC == datapath.MAC{} || link.NodeMAC == datapath.MAC{}) {
		err = fmt.Errorf("link %+v: index and addresses must not be zero", link)
	}
	if err != nil {
		return fmt.Errorf("activate %s: %w", owner(at), err)
	}
	a.link = &link
	return nil
}

// Release implements ports.Endpoints.
func (e *Endpoints) Release(ctx context.Context, containerID, ifname string) error {
	at := ports.ContainerInterface{ContainerID: containerID, Interface: ifname}
	err := e.begin(ctx, "Release", at)
	defer e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("release %s: %w", owner(at), err)
	}
	e.pool.Release(owner(at))
	delete(e.attached, at)
	return nil
}

// Lookup implements ports.Endpoints.
func (e *Endpoints) Lookup(ctx context.Context, containerID, ifname string) (ports.Reservation, bool, error) {
	at := ports.ContainerInterface{ContainerID: containerID, Interface: ifname}
	err := e.begin(ctx, "Lookup", at)
	defer e.mu.Unlock()
	a := e.attached[at]
	if err == nil && a == nil {
		err = ports.ErrNotFound
	}
	if err != nil {
		return ports.Reservation{}, false, fmt.Errorf("look up %s: %w", owner(at), err)
	}
	return a.copy(), a.link != nil, nil
}

// Retain implements ports.Endpoints.
func (e *Endpoints) Retain(ctx context.Context, valid []ports.ContainerInterface) ([]string, error) {
	err := e.begin(ctx, "Retain", ports.ContainerInterface{})
	defer e.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("retain: %w", err)
	}
	var gone []string
	for at, a := range e.attached {
		if slices.Contains(valid, at) {
			continue
		}
		gone = append(gone, a.reservation.HostDevice)
		e.pool.Release(owner(at))
		delete(e.attached, at)
	}
	slices.Sort(gone)
	return gone, nil
}

// Ready implements ports.Endpoints.
func (e *Endpoints) Ready(ctx context.Context) error {
	err := e.begin(ctx, "Ready", ports.ContainerInterface{})
	defer e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	return nil
}
