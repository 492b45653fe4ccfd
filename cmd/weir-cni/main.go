// Command weir-cni is the CNI plugin: container runtimes call it to attach and detach pods. It is
// told everything by its environment and standard input; see package adapters/cni. By the name loopback
// it is the plugin that takes pods' loopback devices up.
package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/cni"
	"github.com/weirnet/weir/adapters/rtnetlink"
	"github.com/weirnet/weir/ports"
)

func main() {
	if filepath.Base(os.Args[0]) == cni.LoopbackName {
		os.Exit(cni.RunLoopback())
	}
	plugin := cni.New(cni.Config{
		Dial:          func(socket string) ports.Endpoints { return api.NewClient(socket) },
		Unreachable:   func(err error) bool { return errors.Is(err, api.ErrUnreachable) },
		Network:       rtnetlink.New(rtnetlink.Config{}),
		DefaultSocket: api.DefaultSocket,
	})
	os.Exit(plugin.Run("weir CNI plugin: attaches pods to the network of the weir agent"))
}
