package manifest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkGroupChange changes a CIDR group of 100 prefixes, which ten policies use, beside others that use none and
// others that select other groups. What others there are must not show but for the selectors.
func BenchmarkGroupChange(b *testing.B) {
	for _, c := range []struct{ plain, choosing int }{{0, 0}, {10_000, 0}, {0, 1000}} {
		b.Run(fmt.Sprintf("plain=%d,selecting=%d", c.plain, c.choosing), func(b *testing.B) {
			a := NewAssembler()
			put := func(doc string) {
				o, findings := Decode("", []byte(doc))
				require.True(b, o.Valid(), "%v", findings)
				a.Put(o)
			}
			for i := range c.plain {
				put(groupUserDoc(fmt.Sprintf("plain%d", i), `{"cidr":"10.0.0.0/8"}`))
			}
			for i := range c.choosing {
				put(groupUserDoc(fmt.Sprintf("selecting%d", i), `{"cidrGroupSelector":{"matchLabels":{"a":"b"}}}`))
			}
			for i := range 10 {
				put(groupUserDoc(fmt.Sprintf("naming%d", i), `{"cidrGroupRef":"g"}`))
			}
			var states [2]Object
			for i := range states {
				cidrs := fmt.Sprintf(`"192.0.2.%d/32"`, i)
				for j := range 99 {
					cidrs += fmt.Sprintf(`,"10.0.%d.0/24"`, j)
				}
				states[i], _ = Decode("", []byte(groupDoc("g", ``, cidrs)))
				require.True(b, states[i].Valid())
			}
			n := 0
			for b.Loop() {
				n++
				if events := a.Put(states[n%2]); len(events) != 10 {
					b.Fatalf("%d events", len(events))
				}
			}
		})
	}
}
