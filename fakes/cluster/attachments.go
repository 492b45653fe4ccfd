package cluster

import (
	"fmt"
	"net/netip"
	"sort"

	"github.com/weirnet/weir/ports"
)

// Attachments is a node's memory of its endpoints. It outlives the agent.
type Attachments struct {
	n     *Node
	saved map[ports.ContainerInterface]ports.Attachment
}

var _ ports.Attachments = (*Attachments)(nil)

// NewAttachments makes an empty memory that fails as the node's other calls do.
func (n *Node) NewAttachments() *Attachments {
	return &Attachments{n: n, saved: map[ports.ContainerInterface]ports.Attachment{}}
}

// Save implements ports.Attachments.
func (a *Attachments) Save(at ports.Attachment) error {
	return a.n.do(OpSave, at.ContainerID, func() error {
		if at.ContainerID == "" || at.Interface == "" {
			return fmt.Errorf("container %q, interface %q: neither may be empty", at.ContainerID, at.Interface)
		}
		at.IPs = append([]netip.Addr(nil), at.IPs...)
		a.saved[ports.ContainerInterface{ContainerID: at.ContainerID, Interface: at.Interface}] = at
		return nil
	})
}

// Delete implements ports.Attachments.
func (a *Attachments) Delete(containerID, ifname string) error {
	return a.n.do(OpDelete, containerID, func() error {
		delete(a.saved, ports.ContainerInterface{ContainerID: containerID, Interface: ifname})
		return nil
	})
}

// Load implements ports.Attachments. The order is that of containers and interfaces.
func (a *Attachments) Load() ([]ports.Attachment, error) {
	var out []ports.Attachment
	err := a.n.do(OpLoad, "", func() error {
		for _, at := range a.saved {
			at.IPs = append([]netip.Addr(nil), at.IPs...)
			out = append(out, at)
		}
		sort.Slice(out, func(i, j int) bool {
			if out[i].ContainerID != out[j].ContainerID {
				return out[i].ContainerID < out[j].ContainerID
			}
			return out[i].Interface < out[j].Interface
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
