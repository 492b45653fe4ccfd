package kubernetes

import (
	"testing"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports/porttest"
)

// Kubernetes itself says where its API servers are, and the source passes it on.
func TestAPIServersOfTheCluster(t *testing.T) {
	w := porttest.WatchSource(t, server(t).open(Options{Node: "n1"}))
	w.Eventually(t, "the API server", func(porttest.Known) bool {
		var servers cluster.APIServers
		for _, e := range w.Events() {
			servers.Apply(e)
		}
		return len(servers.Addresses()) > 0
	})
	w.Stop(t)
}
