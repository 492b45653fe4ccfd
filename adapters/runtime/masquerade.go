package runtime

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/ports"
)

// masqueradeInterval is how often the rules are compared with what they should be.
const masqueradeInterval = 3 * time.Second

// masquerade keeps the rules in force. The loop says what they are; a goroutine of its own writes them.
type masquerade struct {
	settings config.Masquerade
	stale    bool // rules have to be made anew of what the engine knows
	checked  time.Time

	mu    sync.Mutex
	busy  bool
	rules ports.MasqueradeRules
	done  ports.MasqueradeRules // written last
	err   error
}

// keepMasquerade makes rules of what the cluster consists of, and has them compared with the kernel's.
func (a *agent) keepMasquerade(now time.Time) {
	m := &a.masq
	if a.deps.Masquerade == nil || !a.engine.Live() || (!m.stale && now.Sub(m.checked) < masqueradeInterval) {
		return
	}
	m.mu.Lock()
	if m.busy {
		m.mu.Unlock()
		return // what is stale now is so at the next tick
	}
	if m.stale {
		m.stale = false
		m.rules = a.masqueradeRules()
	}
	m.busy, m.checked = true, now
	rules := m.rules
	m.mu.Unlock()
	a.aside(func() {
		err := a.deps.Masquerade.SyncMasquerade(rules)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil && (m.err == nil || m.err.Error() != err.Error()) {
			a.deps.Log.Error("masquerade", "err", err)
		}
		m.busy, m.err = false, err
		if err == nil {
			m.done = rules
		}
	})
}

// masqueradeRules hide this node's pods from everybody but pods and the destinations that are to see them.
func (a *agent) masqueradeRules() ports.MasqueradeRules {
	s := a.masq.settings
	r := ports.MasqueradeRules{Devices: s.Devices, Inside: append([]netip.Prefix(nil), s.NativeCIDRs...)}
	pods := a.self.PodCIDRs
	if a.delegated() {
		pods = nil
		for _, att := range a.attached {
			for _, ip := range att.IPs {
				pods = append(pods, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
		r.Inside = append(r.Inside, pods...)
	}
	for _, p := range pods {
		if p.Addr().Is4() && s.IPv4 || p.Addr().Is6() && s.IPv6 {
			r.Sources = append(r.Sources, p)
		}
	}
	for _, n := range a.engine.Nodes() {
		r.Inside = append(r.Inside, n.PodCIDRs...)
	}
	return r
}

// problem says why the rules are not in force; empty if they are.
func (m *masquerade) problem() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		return ""
	}
	return m.err.Error()
}

// describe is for `weir status`.
func (m *masquerade) describe() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	v4, v6 := "Disabled", "Disabled"
	for _, p := range m.done.Sources {
		if p.Addr().Is4() {
			v4 = "Enabled"
		} else {
			v6 = "Enabled"
		}
	}
	if len(m.done.Sources) == 0 {
		return ""
	}
	return fmt.Sprintf("nftables [IPv4: %s, IPv6: %s]", v4, v6)
}

// Masquerade changes what is masqueraded. It returns when the agent has taken note.
func (a *Agent) Masquerade(ctx context.Context, s config.Masquerade) error {
	err := tell(ctx, a, func() error {
		a.masq.settings, a.masq.stale = s, true
		if a.engine != nil {
			a.keepMasquerade(a.deps.Clock.Now())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("change masquerading: %w", err)
	}
	return nil
}
