package lab

import (
	"fmt"
	"os"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// Names of places that are no pods.
const (
	// NodeNamespace in front of a node's name means the node itself: "node/node1".
	NodeNamespace = "node"
	// OutsideName is the host outside the cluster.
	OutsideName = "outside"
)

// Exec replaces this process by a command in the namespace and cgroup of a pod ("namespace/name"), of a
// node ("node/NAME") or of the host outside the cluster ("outside"). It returns only if that fails:
// ports.ErrNotFound if there is no such place. ExitStatus tells the exit status for the error.
// The environment variable WEIR_SOCKET leads weir's own commands to the agent of the node.
func (l *Lab) Exec(place string, argv []string) error {
	if err := l.open(); err != nil {
		return err
	}
	if place == OutsideName {
		return enterAndExec(netns.Path(l.lanNetns()), l.agentsCgroup(), OutsideName, argv)
	}
	name, err := cluster.ParseName(place)
	if err != nil {
		return fmt.Errorf("%w: a pod (namespace/name), a node (node/NAME) or %q is allowed", err, OutsideName)
	}
	p, err := l.findPod(name)
	if err != nil {
		return err
	}
	if p != nil {
		os.Setenv("WEIR_SOCKET", l.Socket(p.Node))
		return enterAndExec(netns.Path(l.netnsOf(p)), l.podCgroup(p.Node, p.Name), p.Name.Name, argv)
	}
	if name.Namespace == NodeNamespace && l.node(name.Name) != nil {
		os.Setenv("WEIR_SOCKET", l.Socket(name.Name))
		return enterAndExec(netns.Path(l.nodeNetns(name.Name)), l.hostCgroup(name.Name), name.Name, argv)
	}
	return fmt.Errorf("lab %q: no pod %s: %w", l.o.Name, name, ports.ErrNotFound)
}

// ExitStatus is the exit status that shells would give for an error of Exec.
func ExitStatus(err error) int {
	if e, ok := asExitStatus(err); ok {
		return e.status
	}
	return 1
}
