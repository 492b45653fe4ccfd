package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weirnet/weir/ports"
)

// undoTimeout bounds the way back after a failed ADD, whose own time may have run out.
const undoTimeout = 5 * time.Second

// Add implements ADD. Repeating it for the same attachment gives the same result. After an error
// nothing is left of the attachment, unless it had been in force before.
func (p *Plugin) Add(args *skel.CmdArgs) error {
	return p.do("ADD", args, func(ctx context.Context, c *call) error {
		if c.conf.RawPrevResult != nil {
			return fail(types.ErrInvalidNetworkConfig, "prevResult: the plugin must be the first of its list")
		}
		req, err := reserveRequest(args, c.conf)
		if err != nil {
			return err
		}
		c.log = c.log.With("pod", req.Pod.String())
		if err := c.awaitAgent(ctx); err != nil {
			return err
		}
		// A pod that works already must survive a repetition that fails.
		_, before, err := c.agent.Lookup(ctx, req.ContainerID, req.Interface)
		if err != nil && !errors.Is(err, ports.ErrNotFound) {
			return c.classify(ctx, fmt.Errorf("ask the agent: %w", err))
		}
		asked := c.delegates() && err != nil // who is known has addresses
		if asked {
			if err := c.delegateAdd(ctx, &req); err != nil {
				return err
			}
		}
		res, err := c.agent.Reserve(ctx, req)
		if err != nil {
			err = c.classify(ctx, err)
			if asked {
				err = errors.Join(err, c.delegateUndo())
			}
			return err
		}
		st, err := c.connect(ctx, req, res)
		if err == nil {
			err = c.answer(res, st)
		}
		if err != nil && !before {
			err = errors.Join(err, c.undo(req, res.HostDevice))
		}
		return err
	})
}

// pollAgent is how often an agent that is absent or not ready is asked again.
const pollAgent = 200 * time.Millisecond

// awaitAgent waits for an agent that serves pods, as long as the call may last: while an agent is being
// upgraded a pod starts a little later, and does not fail.
func (c *call) awaitAgent(ctx context.Context) error {
	var why error
	for {
		// One question must not use up the time that the next answer needs.
		asked, cancel := context.WithTimeout(ctx, c.conf.timeout()/4)
		err := c.agent.Ready(asked)
		cancel()
		if err == nil {
			return nil
		}
		// A question that the call's own end cut off says nothing of the agent; the one before it does.
		if why == nil || ctx.Err() == nil {
			why = err
		}
		select {
		case <-time.After(pollAgent):
			continue
		case <-ctx.Done():
		}
		if c.absent(why) {
			return fail(types.ErrTryAgainLater, "no weir agent answered on %s within %s: does its pod run on this node (kubectl -n kube-system get pods -l k8s-app=cilium -o wide), and what does its log say? %v",
				c.socket, c.conf.timeout(), why)
		}
		return fail(types.ErrTryAgainLater, "the weir agent on %s serves no pods yet after %s: %v", c.socket, c.conf.timeout(), why)
	}
}

// connect makes the link and opens it once the pod's policy is in force.
func (c *call) connect(ctx context.Context, req ports.ReserveRequest, res ports.Reservation) (ports.PodLinkState, error) {
	link := podLink(c.args, res)
	st, err := c.Network.CreatePodLink(link)
	if errors.Is(err, ports.ErrNotFound) {
		return st, fail(types.ErrInvalidNetNS, "%v", err)
	}
	if err != nil {
		return st, err
	}
	if err := c.agent.Activate(ctx, req.ContainerID, req.Interface, st); err != nil {
		return st, c.classify(ctx, err)
	}
	return st, c.Network.ActivatePodLink(link)
}

// answer prints the result. A runtime that does not get it takes ADD for failed.
func (c *call) answer(res ports.Reservation, st ports.PodLinkState) error {
	out, err := result(c.args, res, st).GetAsVersion(c.conf.CNIVersion)
	if err != nil {
		return fail(types.ErrIncompatibleCNIVersion, "result as version %q: %v", c.conf.CNIVersion, err)
	}
	if err := out.PrintTo(c.Stdout); err != nil {
		return fail(types.ErrIOFailure, "print the result: %v", err)
	}
	return nil
}

// classify finds the code for an error of the agent: one that is not ready to serve anybody is worth
// another try.
func (c *call) classify(ctx context.Context, err error) error {
	if errors.Is(err, ports.ErrConflict) {
		return fail(CodeAddress, "%v", err)
	}
	if readyErr := c.agent.Ready(ctx); readyErr != nil {
		return fail(types.ErrTryAgainLater, "%v", errors.Join(err, readyErr))
	}
	return err
}

// undo removes the link and, if it is gone, the reservation: an address must not be given out while
// a link still carries it.
func (c *call) undo(req ports.ReserveRequest, hostDevice string) error {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	if err := c.Network.DeletePodLink(hostDevice); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	if err := c.agent.Release(ctx, req.ContainerID, req.Interface); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return c.delegateUndo()
}

func podLink(args *skel.CmdArgs, r ports.Reservation) ports.PodLink {
	return ports.PodLink{
		Netns:     args.Netns,
		Interface: args.IfName,
		HostName:  r.HostDevice,
		MTU:       r.MTU,
		Addresses: r.Addresses,
		Gateways:  r.Gateways,
	}
}

// podInterface is the index of the pod's side in the list of interfaces of a result.
const podInterface = 1

func result(args *skel.CmdArgs, r ports.Reservation, st ports.PodLinkState) *types100.Result {
	out := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: r.HostDevice, Mac: st.NodeMAC.String(), Mtu: r.MTU},
			podInterface: {Name: args.IfName, Mac: st.MAC.String(), Mtu: r.MTU, Sandbox: args.Netns},
		},
	}
	for i, a := range r.Addresses {
		ip := &types100.IPConfig{Interface: types100.Int(podInterface), Address: single(a)}
		if i < len(r.Gateways) {
			g := r.Gateways[i]
			ip.Gateway = g.AsSlice()
			out.Routes = append(out.Routes,
				&types.Route{Dst: single(g)},
				&types.Route{Dst: anywhere(g), GW: g.AsSlice(), MTU: r.MTU})
		}
		out.IPs = append(out.IPs, ip)
	}
	return out
}

func single(a netip.Addr) net.IPNet {
	return net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func anywhere(a netip.Addr) net.IPNet {
	return net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: net.CIDRMask(0, a.BitLen())}
}
