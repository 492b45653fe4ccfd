package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/ports"
)

// Del implements DEL. It needs neither the pod's namespace nor, once the link is gone, the agent; see
// the package comment.
func (p *Plugin) Del(args *skel.CmdArgs) error {
	return p.do("DEL", args, func(ctx context.Context, c *call) error {
		if err := p.Network.DeletePodLink(datapath.HostDeviceName(args.ContainerID, args.IfName)); err != nil {
			return err
		}
		// Who gave the addresses may give them out again: the link that carried them is gone.
		if err := c.delegateDel(ctx); err != nil {
			return err
		}
		err := c.agent.Release(ctx, args.ContainerID, args.IfName)
		if err != nil && (p.absent(err) || c.agent.Ready(ctx) != nil) {
			c.log.Warn("no agent to release the address; it will find the link gone", "error", err)
			return nil
		}
		return err
	})
}

// Check implements CHECK: the agent has the attachment in force, the link is as it was made, and the
// previous result says the same.
func (p *Plugin) Check(args *skel.CmdArgs) error {
	return p.do("CHECK", args, func(ctx context.Context, c *call) error {
		if c.conf.RawPrevResult == nil {
			return fail(types.ErrInvalidNetworkConfig, "prevResult: is needed for CHECK")
		}
		if err := version.ParsePrevResult(&c.conf.PluginConf); err != nil {
			return fail(types.ErrDecodingFailure, "prevResult: %v", err)
		}
		prev, err := types100.NewResultFromResult(c.conf.PrevResult)
		if err != nil {
			return fail(types.ErrDecodingFailure, "prevResult: %v", err)
		}
		res, inForce, err := c.agent.Lookup(ctx, args.ContainerID, args.IfName)
		if errors.Is(err, ports.ErrNotFound) {
			return fail(types.ErrUnknownContainer, "container %s interface %s: the agent does not know it: %v", args.ContainerID, args.IfName, err)
		}
		if err != nil {
			return c.classify(ctx, err)
		}
		var found []error
		if !inForce {
			found = append(found, errors.New("its policy is not in force"))
		}
		found = append(found, c.delegateCheck(ctx))
		found = append(found, compareResult(args, prev, res), p.Network.CheckPodLink(podLink(args, res)))
		if err := errors.Join(found...); err != nil {
			return fail(CodeDiffers, "container %s interface %s: %v", args.ContainerID, args.IfName, err)
		}
		return nil
	})
}

// compareResult holds what ADD answered against what the agent has now.
func compareResult(args *skel.CmdArgs, prev *types100.Result, res ports.Reservation) error {
	index := slices.IndexFunc(prev.Interfaces, func(i *types100.Interface) bool {
		return i != nil && i.Name == args.IfName && i.Sandbox == args.Netns
	})
	if index < 0 {
		return fmt.Errorf("prevResult has no interface %s in %s", args.IfName, args.Netns)
	}
	var had []netip.Addr
	for _, ip := range prev.IPs {
		if ip == nil || ip.Interface == nil || *ip.Interface != index {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return fmt.Errorf("prevResult has the invalid address %s", ip.Address.IP)
		}
		had = append(had, a.Unmap())
	}
	have := slices.Clone(res.Addresses)
	slices.SortFunc(had, netip.Addr.Compare)
	slices.SortFunc(have, netip.Addr.Compare)
	if !slices.Equal(had, have) {
		return fmt.Errorf("prevResult has addresses %v, the agent %v", had, have)
	}
	return nil
}

// GC implements GC: only the attachments that the runtime names stay. Links go before addresses are
// freed, and links that no agent remembers go, too.
func (p *Plugin) GC(args *skel.CmdArgs) error {
	return p.do("GC", args, func(ctx context.Context, c *call) error {
		if !c.conf.hasValidAttachments {
			return fail(types.ErrInvalidNetworkConfig, "%s: is needed for GC; without it every pod would be cut off", validAttachmentsKey)
		}
		valid := make([]ports.ContainerInterface, 0, len(c.conf.ValidAttachments))
		keep := map[string]bool{}
		for i, a := range c.conf.ValidAttachments {
			if a.ContainerID == "" || a.IfName == "" {
				return fail(types.ErrInvalidNetworkConfig, "%s[%d]: containerID and ifname are needed", validAttachmentsKey, i)
			}
			valid = append(valid, ports.ContainerInterface{ContainerID: a.ContainerID, Interface: a.IfName})
			keep[datapath.HostDeviceName(a.ContainerID, a.IfName)] = true
		}
		links, err := p.Network.PodLinks()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range links {
			if keep[name] || !datapath.IsHostDeviceName(name) {
				continue
			}
			c.log.Info("delete leaked link", "device", name)
			errs = append(errs, p.Network.DeletePodLink(name))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		released, err := c.agent.Retain(ctx, valid)
		if err != nil {
			return c.classify(ctx, err)
		}
		for _, name := range released { // an agent may name its devices otherwise
			if !keep[name] {
				errs = append(errs, p.Network.DeletePodLink(name))
			}
		}
		return errors.Join(errs...)
	})
}

// Status implements STATUS: whether ADD would be served.
func (p *Plugin) Status(args *skel.CmdArgs) error {
	return p.do("STATUS", args, func(ctx context.Context, c *call) error {
		if err := c.agent.Ready(ctx); err != nil {
			return fail(types.ErrPluginNotAvailable, "agent: %v", err)
		}
		return nil
	})
}
