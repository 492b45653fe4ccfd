// Package masquerade is a kernel's masquerading as far as ports.Masquerade shows it.
package masquerade

import (
	"fmt"
	"strings"
	"sync"

	"github.com/weirnet/weir/ports"
)

// Masquerade remembers rules. Any goroutine may use it.
type Masquerade struct {
	mu    sync.Mutex
	rules ports.MasqueradeRules
	syncs int
	fail  func() error
}

var _ ports.Masquerade = (*Masquerade)(nil)

// New returns one without rules.
func New() *Masquerade { return &Masquerade{} }

// Fail installs a function whose error becomes that of the next calls; nil removes it.
func (m *Masquerade) Fail(f func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

// Flush takes the rules away, as somebody with the right to do so might.
func (m *Masquerade) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = ports.MasqueradeRules{}
}

// Syncs counts the successful calls of SyncMasquerade.
func (m *Masquerade) Syncs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.syncs
}

// SyncMasquerade implements ports.Masquerade.
func (m *Masquerade) SyncMasquerade(r ports.MasqueradeRules) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return err
		}
	}
	for _, p := range append(r.Sources[:len(r.Sources):len(r.Sources)], r.Inside...) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("masquerade: %s: must be a valid prefix, IPv4 unmapped", p)
		}
	}
	for _, d := range r.Devices {
		name := strings.TrimSuffix(d, "+")
		if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t\n\"") {
			return fmt.Errorf("masquerade: device %q", d)
		}
	}
	m.rules = r.Normal()
	m.syncs++
	return nil
}

// Masqueraded implements ports.Masquerade.
func (m *Masquerade) Masqueraded() (ports.MasqueradeRules, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return ports.MasqueradeRules{}, err
		}
	}
	return m.rules, nil
}
