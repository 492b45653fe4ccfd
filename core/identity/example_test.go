package identity_test

import (
	"fmt"
	"time"

	"github.com/weirnet/weir/core/identity"
)

// A number is not given to another key while somebody may still mean the old one by it.
func ExamplePool() {
	start := time.Unix(0, 0)
	p := identity.NewPool(identity.MinCluster, identity.MinCluster+1, time.Minute)
	web, _, _ := p.Acquire("k8s:app=web;", start)
	db, _, _ := p.Acquire("k8s:app=db;", start)
	fmt.Println(web, db)

	p.Release("k8s:app=web;", start)
	_, _, err := p.Acquire("k8s:app=cache;", start.Add(time.Second))
	fmt.Println(err)
	cache, _, _ := p.Acquire("k8s:app=cache;", start.Add(time.Minute))
	fmt.Println(cache)
	// Output:
	// 256 257
	// no free identity between 256 and 257: 1 in use, 1 in quarantine for up to 1m0s after their last use
	// 256
}
