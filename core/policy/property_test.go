package policy

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTablesEqualRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine()
		m.seed()
		ls, ports := drawPod(t)
		m.upsertSubject(1, ls, ports)
		m.check(t, newWorld())
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			old := m.w.clone()
			for range rapid.IntRange(1, 4).Draw(t, "events") {
				m.step(t)
			}
			m.check(t, old)
		}

		scratch := NewCompiler(0, 1)
		for _, p := range m.w.policies {
			scratch.UpsertPolicy(p)
		}
		for _, id := range m.w.identities {
			scratch.UpsertIdentity(id.Identity, id.ports)
		}
		for ep, s := range m.w.subjects {
			scratch.UpsertSubject(ep, s.Labels, s.Ports)
		}
		scratch.Flush()
		for _, q := range m.w.questions(packets(m.w.list())) {
			require.Equal(t, m.c.Decide(q.ep, q.dir, q.peer, q.proto, q.port), scratch.Decide(q.ep, q.dir, q.peer, q.proto, q.port), "%+v", q)
		}
		require.Equal(t, scratch.rowCount(), m.c.rowCount(), "incremental and fresh tables have the same number of rows")
		require.Equal(t, len(scratch.classes), len(m.c.classes), "and of classes")
		require.Equal(t, len(m.t.rows), m.c.rowCount(), "what the compiler believes is what the ops made")

		m.replay(t)
		m.empty(t)
	})
}

// replay makes the same calls again: the ops must be the same, in the same order.
func (m *machine) replay(t require.TestingT) {
	a, b := NewCompiler(2, 100), NewCompiler(2, 100)
	for i, call := range m.calls {
		require.Equal(t, call(a), call(b), "call %d of %d", i+1, len(m.calls))
	}
}
