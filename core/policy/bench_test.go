package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
)

// bigCompiler has n selectors in use, over 100 namespaces, and as many identities.
func bigCompiler(b *testing.B, n int) *Compiler {
	c := NewCompiler(0, 1)
	for i := range n {
		from := selecting(b, fmt.Sprintf("k8s:%s=ns%d", labels.KeyNamespace, i%100), fmt.Sprintf("any:app=app%d", i))
		p := policyOf(fmt.Sprintf("p%d", i), true, false, Rule{Peers: []Peer{{Selector: &from}}, Ports: []Port{{Proto: 6, First: 80, Last: 80}}})
		p.Specs[0].Subject = selecting(b, fmt.Sprintf("k8s:app=db%d", i%50))
		c.UpsertPolicy(p)
		c.UpsertIdentity(client(b, identity.ID(1000+i), i), nil)
	}
	for i := range 50 {
		c.UpsertSubject(datapath.EndpointID(i+1), setOf(b, fmt.Sprintf("k8s:app=db%d", i)), nil)
	}
	c.Flush()
	return c
}

func client(b *testing.B, id identity.ID, i int) identity.Identity {
	return identity.Identity{ID: id, Labels: setOf(b,
		fmt.Sprintf("k8s:%s=ns%d", labels.KeyNamespace, i%100), fmt.Sprintf("k8s:app=app%d", i), "k8s:version=2",
		"k8s:"+labels.KeyCluster+"=default", "k8s:"+labels.KeyServiceAccount+"=default",
	)}
}

// Goal: at most 50 µs, adding and removing.
func BenchmarkAddIdentity(b *testing.B) {
	const n = 10_000
	c := bigCompiler(b, n)
	known, stranger := client(b, 60_000, 4711), client(b, 60_001, n+1)
	for name, id := range map[string]identity.Identity{"KnownClass": known, "ClassZero": stranger} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.UpsertIdentity(id, nil)
				c.Flush()
				c.DeleteIdentity(id.ID)
				c.Flush()
			}
		})
	}
}

// A policy with a selector of its own comes and goes beside 10,000 others and as many identities.
func BenchmarkAddPolicy(b *testing.B) {
	c := bigCompiler(b, 10_000)
	from := selecting(b, "k8s:app=app17")
	p := policyOf("new", true, false, Rule{Peers: []Peer{{Selector: &from}}, AnyPort: true})
	p.Specs[0].Subject = selecting(b, "k8s:app=lonely")
	c.UpsertSubject(100, setOf(b, "k8s:app=lonely"), nil)
	c.Flush()
	b.ReportAllocs()
	for b.Loop() {
		c.UpsertPolicy(p)
		c.Flush()
		c.DeletePolicy(p.Ref)
		c.Flush()
	}
}

// A pod is replaced by one with the same labels beside 10,000 policies.
func BenchmarkAddReplica(b *testing.B) {
	c := bigCompiler(b, 10_000)
	ls := setOf(b, "k8s:app=db1", "k8s:x=y")
	b.ReportAllocs()
	for b.Loop() {
		c.UpsertSubject(100, ls, nil)
		c.Flush()
		c.DeleteSubject(100)
		c.Flush()
	}
}

// 1,000 rules with a port or a range each, for one class.
func BenchmarkResolve1000Rules(b *testing.B) {
	var cs []contender
	for i := range 1000 {
		first := uint16(i * 61)
		cs = append(cs, contender{
			spans:    []span{{6, first, first + uint16(i%5)*40}},
			decision: datapath.PolicyRow{Allow: i%4 != 0, Cookie: datapath.Cookie(i + 1)},
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(resolve(cs, datapath.PolicyRow{})) < 1000 {
			b.Fatal("rows are missing")
		}
	}
}

// Judging by the rules themselves, for comparison with the tables.
func BenchmarkEvaluate100Policies(b *testing.B) {
	var ps []Policy
	for i := range 100 {
		ps = append(ps, letIn(b, fmt.Sprintf("p%d", i), "k8s:app=db", fmt.Sprintf("k8s:app=app%d", i)))
	}
	db, web := pod(b, "k8s:app=db"), pod(b, "k8s:app=app99")
	for b.Loop() {
		require.True(b, Evaluate(ps, db, datapath.Ingress, web, 6, 80).Allowed)
	}
}
