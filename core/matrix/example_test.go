package matrix_test

import (
	"fmt"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/matrix"
	"github.com/weirnet/weir/core/policy"
)

func Example() {
	w := matrix.New([]cluster.Event{
		pod("shop/frontend", "n1"), pod("shop/backend", "n2"), pod("shop/batch", "n2"),
		allowIngress("backend-ingress", "backend", policy.Rule{Peers: fromApp("frontend"), AnyPort: true}),
	})
	for _, r := range w.Rows(matrix.Query{Port: 80, Proto: datapath.ProtoTCP}) {
		if r.To == "shop/backend" {
			fmt.Printf("%s: %s, %s\n", r.From, r.Verdict(), r.Ingress)
		}
	}
	// Output:
	// shop/batch: denied, default deny (NetworkPolicy shop/backend-ingress)
	// shop/frontend: allowed, NetworkPolicy shop/backend-ingress ingress[0]
}
