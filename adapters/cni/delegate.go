package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weirnet/weir/ports"
)

// A configuration with an ipam section has its addresses given by the plugin that the section names. The
// agent, in IPAM mode delegated-plugin, takes them.

func (c *call) delegates() bool { return c.conf.IPAM.Type != "" }

// delegateAdd asks for addresses; they become those that the agent is asked for.
func (c *call) delegateAdd(ctx context.Context, req *ports.ReserveRequest) error {
	r, err := invoke.DelegateAdd(ctx, c.conf.IPAM.Type, c.args.StdinData, c.Exec)
	if err != nil {
		return fmt.Errorf("ipam plugin %s: %w", c.conf.IPAM.Type, err)
	}
	ips, err := delegatedIPs(r)
	if err != nil {
		return errors.Join(fmt.Errorf("ipam plugin %s: %w", c.conf.IPAM.Type, err), c.delegateUndo())
	}
	req.IPs = ips
	return nil
}

func delegatedIPs(r types.Result) ([]netip.Addr, error) {
	res, err := types100.NewResultFromResult(r)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, ip := range res.IPs {
		if ip != nil {
			texts = append(texts, ip.Address.IP.String())
		}
	}
	if len(texts) == 0 {
		return nil, errors.New("it gave no address")
	}
	return parseIPs(texts)
}

// delegateUndo gives the addresses back after an ADD that failed, whose own time may have run out.
func (c *call) delegateUndo() error {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	if err := c.delegateDel(ctx); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}

// delegateDel gives the addresses back; without delegation there are none.
func (c *call) delegateDel(ctx context.Context) error {
	if !c.delegates() {
		return nil
	}
	if err := invoke.DelegateDel(ctx, c.conf.IPAM.Type, c.args.StdinData, c.Exec); err != nil {
		return fmt.Errorf("ipam plugin %s: %w", c.conf.IPAM.Type, err)
	}
	return nil
}

func (c *call) delegateCheck(ctx context.Context) error {
	if !c.delegates() {
		return nil
	}
	if err := invoke.DelegateCheck(ctx, c.conf.IPAM.Type, c.args.StdinData, c.Exec); err != nil {
		return fmt.Errorf("ipam plugin %s: %w", c.conf.IPAM.Type, err)
	}
	return nil
}
