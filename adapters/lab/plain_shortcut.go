package lab

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/shortcut"
)

// takeShortcuts lets all pods of a plain network send and receive past the stacks of its nodes.
func (b *plainBuilder) takeShortcuts(nodes [2]*netConn, links [2]uint32, p *Plain) error {
	p.shortcut = &shortcut.Shortcut{}
	var pods, others [2]shortcut.Hops
	for i := range nodes {
		pods[i], others[i] = shortcut.Hops{}, shortcut.Hops{}
	}
	for i, x := range []struct {
		place Place
		node  int
	}{{p.A, 0}, {p.B, 0}, {p.Other, 1}} {
		name := string(rune('a' + i))
		outer, err := nodes[x.node].side("pod" + name)
		if err != nil {
			return err
		}
		inside, err := b.conns["pod-"+name].side(podInterface)
		if err != nil {
			return err
		}
		dst := x.place.IP(4).As4()
		local := shortcut.Hop{Ifindex: outer.index}
		copy(local.Address[:], inside.mac)
		copy(local.Address[6:], outer.mac)
		pods[x.node][dst] = local
		remote := shortcut.Hop{Family: unix.AF_INET, Ifindex: links[1-x.node]}
		copy(remote.Address[:], plainNode[x.node][0].AsSlice())
		others[1-x.node][dst] = remote
	}
	for i := range nodes {
		err := netns.Do(netns.Path(nodes[i].name), func() error { return p.shortcut.Attach(links[i], pods[i], others[i]) })
		if err != nil {
			p.shortcut.Close()
			return fmt.Errorf("%s: shortcut: %w", nodes[i].name, err)
		}
	}
	return nil
}
