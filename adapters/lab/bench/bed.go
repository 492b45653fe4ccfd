package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// bed is a lab in a known state, and the plain networks beside it.
type bed struct {
	lab                    *lab.Lab
	routing                Routing
	client, server, remote lab.Place
	now                    state

	routed, tunnelled *lab.Plain // nil: not made yet
	pair              [2]lab.Place
	short             *lab.Plain

	proxied                 *lab.Plain // with kube-proxy; nil: not made yet
	proxy                   *kubeProxy // nil: none runs
	proxyProgram, proxyMode string

	followers sync.WaitGroup
	unfollow  context.CancelFunc // nil: nobody follows
	followErr error
}

// tuning of every namespace with a client, so that a run of short connections finds ports enough: a
// port whose connection is a second old is taken again.
var tuning = []lab.Setting{{Path: "ipv4/tcp_tw_reuse", Value: "1"}, {Path: "ipv4/ip_local_port_range", Value: "10000 65535"}}

// build makes the lab with its pods.
func build(ctx context.Context, l *lab.Lab, routing Routing) (*bed, error) {
	findings, err := l.Up(ctx, 2, podManifests())
	if err != nil {
		return nil, err
	}
	b := &bed{lab: l, routing: routing}
	if err := unrefused(findings, nil); err != nil {
		return b, err
	}
	for _, p := range []struct {
		place *lab.Place
		name  string
	}{{&b.client, clientPod}, {&b.server, serverPod}, {&b.remote, remotePod}} {
		if *p.place, err = l.PodPlace(podName(p.name)); err != nil {
			return b, err
		}
	}
	return b, b.client.Set(tuning...)
}

// plain gives the plain network with tunnels or routes between its nodes, and makes it at the first call.
func (b *bed) plain(vxlan bool) (*lab.Plain, error) {
	known, name := &b.routed, "r"
	if vxlan {
		known, name = &b.tunnelled, "v"
	}
	if *known != nil {
		return *known, nil
	}
	mtu := underlayMTU
	if vxlan == (b.routing == VXLAN) { // the lab is of the same sort: as its pods have it
		var err error
		if mtu, err = b.client.MTU(); err != nil {
			return nil, err
		}
	}
	p, err := b.lab.BuildPlain(name, lab.PlainOptions{MTU: mtu, VXLAN: vxlan})
	if err != nil {
		return nil, err
	}
	*known = p
	return p, p.A.Set(tuning...)
}

// underlayMTU is that of the links between nodes, in bytes.
const underlayMTU = 1500

func (b *bed) limit() (from, to lab.Place, err error) {
	if b.pair[0].Netns == "" {
		mtu, err := b.client.MTU()
		if err != nil {
			return from, to, err
		}
		if b.pair[0], b.pair[1], err = b.lab.BuildPair("p", mtu); err != nil {
			return from, to, err
		}
		if err := b.pair[0].Set(tuning...); err != nil {
			return from, to, err
		}
	}
	return b.pair[0], b.pair[1], nil
}

// shortcut gives a plain network whose nodes route, but have programs that do one lookup to spare them.
func (b *bed) shortcut() (*lab.Plain, error) {
	if b.short == nil {
		mtu, err := b.client.MTU()
		if err != nil {
			return nil, err
		}
		p, err := b.lab.BuildPlain("s", lab.PlainOptions{MTU: mtu, Shortcut: true})
		if err != nil {
			return nil, err
		}
		b.short = p
		return p, p.A.Set(tuning...)
	}
	return b.short, nil
}

func straight(from, to lab.Place, family int) ends {
	at := netip.AddrPortFrom(to.IP(family), port)
	return ends{from: from, to: to, listen: at, dial: at}
}

// paths gives where a case and its baseline run.
func (b *bed) ends(ctx context.Context, c Case) (own, baseline ends, err error) {
	vxlan := c.Place == PlaceVXLAN || c.Place == PlaceSame && c.routing() == VXLAN
	var raw *lab.Plain
	if c.Via != ViaService && c.Via != ViaKubeProxy {
		if raw, err = b.plain(vxlan); err != nil {
			return own, baseline, err
		}
	}
	switch {
	case c.Via == ViaLimit && c.Place == PlaceNative:
		short, err := b.shortcut()
		if err != nil {
			return own, baseline, err
		}
		return straight(short.A, short.Other, c.Family), straight(raw.A, raw.Other, c.Family), nil
	case c.Via == ViaLimit:
		from, to, err := b.limit()
		return straight(from, to, c.Family), straight(raw.A, raw.B, c.Family), err
	case c.Via == ViaPlain:
		return straight(raw.A, raw.Other, c.Family), straight(raw.A, raw.B, c.Family), nil
	}
	to, service := b.server, nearService
	if c.Place != PlaceSame {
		to, service = b.remote, farService
	}
	own = straight(b.client, to, c.Family)
	if c.Via == ViaService {
		baseline = own
		own.dial = netip.AddrPortFrom(clusterIP(service, c.Family), port)
		return own, baseline, nil
	}
	if c.Via == ViaKubeProxy {
		own.dial = netip.AddrPortFrom(clusterIP(service, c.Family), port)
		p, err := b.proxiedBy(ctx, c.Services)
		if err != nil {
			return own, baseline, err
		}
		baseline = straight(p.A, p.B, c.Family)
		baseline.dial = own.dial
		return own, baseline, nil
	}
	if c.Place == PlaceSame {
		return own, straight(raw.A, raw.B, c.Family), nil
	}
	return own, straight(raw.A, raw.Other, c.Family), nil
}

// set brings the lab into a state.
func (b *bed) set(ctx context.Context, want state) error {
	if want.policies != b.now.policies {
		// The new ones first: the pods are selected all the time. The names of the two sets differ.
		old := policyManifests(b.now.policies)
		if err := errors.Join(b.apply(ctx, policyManifests(want.policies)), b.remove(ctx, old)); err != nil {
			return fmt.Errorf("%d policies: %w", want.policies, err)
		}
		b.now.policies = want.policies
	}
	if want.services != b.now.services {
		more := serviceManifests(b.now.services, want.services)
		less := serviceManifests(want.services, b.now.services)
		if err := errors.Join(b.apply(ctx, more), b.remove(ctx, less)); err != nil {
			return fmt.Errorf("%d services: %w", want.services, err)
		}
		b.now.services = want.services
	}
	if b.now.export != want.export {
		if want.export {
			if err := b.follow(ctx); err != nil {
				return fmt.Errorf("follow flows: %w", err)
			}
		} else {
			b.stopFollowing()
		}
	}
	b.now.export = want.export
	return nil
}

// apply and remove take manifests of the bed's own; none are none to do.
func (b *bed) apply(ctx context.Context, files []ports.LabManifest) error {
	if len(files) == 0 {
		return nil
	}
	return unrefused(b.lab.Apply(ctx, files))
}

func (b *bed) remove(ctx context.Context, files []ports.LabManifest) error {
	if len(files) == 0 {
		return nil
	}
	return unrefused(b.lab.Delete(ctx, files))
}

func unrefused(findings []cluster.Finding, err error) error {
	if err == nil && lab.HasErrors(findings) {
		err = fmt.Errorf("the bed's own manifests are refused: %v", findings)
	}
	return err
}

// follow reads the flows of all nodes as they come, as weir observe -f does.
func (b *bed) follow(ctx context.Context) error {
	nodes, err := b.lab.Nodes(ctx)
	if err != nil {
		return err
	}
	ctx, b.unfollow = context.WithCancel(ctx)
	errs := make([]error, len(nodes))
	b.followErr = nil
	for i, n := range nodes {
		agent := b.lab.AgentOf(n.Name)
		b.followers.Go(func() {
			err := agent.Observe(ctx, flow.Query{Follow: true}, func(flow.Entry) error { return nil })
			if ctx.Err() == nil {
				errs[i] = fmt.Errorf("node %s: following its flows ended: %w", n.Name, err)
			}
		})
	}
	stop := b.unfollow
	b.unfollow = func() {
		stop()
		b.followers.Wait()
		b.followErr = errors.Join(errs...)
	}
	return nil
}

// stopFollowing returns once nobody follows.
func (b *bed) stopFollowing() {
	if b.unfollow != nil {
		b.unfollow()
		b.unfollow = nil
	}
}
