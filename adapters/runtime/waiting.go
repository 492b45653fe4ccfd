package runtime

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/config"
)

// errNotOpen is the answer while the agent waits for its node object or its kernel.
var errNotOpen = errors.New("the agent is still waiting for its node object with podCIDRs")

// notOpen is errNotOpen with what is missing, and who has to see to it.
func (a *agent) notOpen() error {
	switch {
	case a.seen == nil:
		return fmt.Errorf("%w: there is no node %s in what the cluster has said so far", errNotOpen, a.cfg.Node)
	case len(a.seen.Addresses) == 0:
		return fmt.Errorf("%w: node %s has no address in its status", errNotOpen, a.cfg.Node)
	case a.cfg.IPAM == config.IPAMClusterPool:
		return fmt.Errorf("%w: waiting for podCIDR: the CiliumNode %s has none in spec.ipam.podCIDRs; weir-operator assigns it", errNotOpen, a.cfg.Node)
	}
	return fmt.Errorf("%w: waiting for podCIDR: node %s has none in spec.podCIDRs; kube-controller-manager assigns it when it runs with --allocate-node-cidrs=true and --cluster-cidr", errNotOpen, a.cfg.Node)
}

func (a *agent) delegated() bool { return a.cfg.IPAM == config.IPAMDelegated }

// ranges leaves out the families that are not wanted.
func (a *agent) ranges(ps []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(ps), func(p netip.Prefix) bool {
		return p.Addr().Is4() && a.cfg.NoIPv4 || p.Addr().Is6() && a.cfg.NoIPv6
	})
}
