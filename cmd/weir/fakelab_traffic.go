package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes"
	"github.com/weirnet/weir/ports"
)

// simTraffic is traffic that runs.
type simTraffic struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	done []ports.LabTraffic
}

// StartTraffic implements ports.Lab. The traffic ends with StopTraffic or Down.
func (l *simulation) StartTraffic(_ context.Context, streams []ports.LabStream) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.traffic != nil {
		return fmt.Errorf("traffic: %w: it runs already", ports.ErrConflict)
	}
	ctx, stop := context.WithCancel(context.Background())
	t := &simTraffic{stop: stop}
	var jobs []func()
	for _, s := range streams {
		more, err := l.planStream(ctx, t, s)
		if err != nil {
			stop()
			return fmt.Errorf("traffic %s to %s: %w", s.From, s.To, err)
		}
		jobs = append(jobs, more...)
	}
	for _, j := range jobs {
		t.wg.Go(j)
	}
	l.traffic = t
	return nil
}

func (l *simulation) planStream(ctx context.Context, t *simTraffic, s ports.LabStream) ([]func(), error) {
	protocols, err := simProtocols(s.Protocols)
	if err != nil {
		return nil, err
	}
	if s.Interval == 0 {
		s.Interval = 5 * time.Millisecond
	}
	pods := l.c.Pods()
	find := func(n cluster.Name) int {
		return slices.IndexFunc(pods, func(p fakes.PodInfo) bool { return p.Name == n && p.Running })
	}
	from, to := find(s.From), find(s.To)
	if from < 0 || to < 0 {
		return nil, ports.ErrNotFound
	}
	var jobs []func()
	add := func(f func() ports.LabTraffic) {
		jobs = append(jobs, func() {
			n := f()
			t.mu.Lock()
			defer t.mu.Unlock()
			t.done = append(t.done, n)
		})
	}
	for _, a := range sameFamilies(pods[from], pods[to].IPs) {
		target := netip.AddrPortFrom(a, s.Port)
		for _, p := range protocols {
			switch p {
			case "TCP":
				add(l.messages(ctx, s, target, "TCP", datapath.ProtoTCP))
				add(func() ports.LabTraffic { return l.connections(ctx, s, target) })
			case "UDP":
				add(l.messages(ctx, s, target, "UDP", datapath.ProtoUDP))
			}
		}
	}
	return jobs, nil
}

// StopTraffic implements ports.Lab. Without traffic it returns nothing.
func (l *simulation) StopTraffic(context.Context) ([]ports.LabTraffic, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.traffic
	if t == nil {
		return nil, nil
	}
	l.traffic = nil
	t.stop()
	t.wg.Wait()
	slices.SortFunc(t.done, byStream)
	return t.done, nil
}

// messages opens a connection at once; what it returns sends numbered messages over it and counts the
// answers.
func (l *simulation) messages(ctx context.Context, s ports.LabStream, to netip.AddrPort, protocol string, proto uint8) func() ports.LabTraffic {
	n := ports.LabTraffic{From: s.From, To: s.To, Addr: to.Addr(), Protocol: protocol}
	conn, a, _ := l.c.Fabric().Open(s.From.String(), proto, to.Addr(), to.Port())
	if !a.Connected {
		n.Broken, n.Error = 1, "not connected"
		return func() ports.LabTraffic { return n }
	}
	return func() ports.LabTraffic {
		defer conn.Close()
		last := time.Now()
		every(ctx, s.Interval, func() bool {
			n.Sent++
			number := strconv.Itoa(n.Sent)
			a, _ := conn.Send(number)
			if a.Connected && strings.HasSuffix(a.Data, ": "+number) {
				n.Gap = max(n.Gap, time.Since(last))
				last = time.Now()
			} else {
				n.Lost++
				n.Error = "no answer to message " + number
			}
			if proto == datapath.ProtoTCP && a.Refused {
				n.Broken, n.Error = 1, "reset"
				return false
			}
			return true
		})
		return n
	}
}

// connections opens one new connection after the other.
func (l *simulation) connections(ctx context.Context, s ports.LabStream, to netip.AddrPort) ports.LabTraffic {
	n := ports.LabTraffic{From: s.From, To: s.To, Addr: to.Addr(), Protocol: "CONNECT"}
	every(ctx, 4*s.Interval, func() bool {
		n.Sent++
		begin := time.Now()
		conn, a, _ := l.c.Fabric().Open(s.From.String(), datapath.ProtoTCP, to.Addr(), to.Port())
		n.Gap = max(n.Gap, time.Since(begin))
		if !a.Connected {
			n.Lost++
			n.Broken++
			n.Error = "not connected"
			return true
		}
		conn.Close()
		return true
	})
	return n
}

// every does something at once and then again and again, until it says no or the context ends.
func every(ctx context.Context, interval time.Duration, f func() bool) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for f() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
