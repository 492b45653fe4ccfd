package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/cluster"
)

// stateVersion changes when the record's form does.
const stateVersion = 1

// state is the record of a lab, in state.json. An entry stands there before the thing exists.
type state struct {
	Version int          `json:"version"`
	Name    string       `json:"name"`
	Cgroup  string       `json:"cgroup"`            // the lab's cgroup directory
	Routing string       `json:"routing,omitempty"` // "": by tunnel
	Nodes   []*nodeState `json:"nodes"`
}

// nodeState is a node.
type nodeState struct {
	Name      string         `json:"name"`
	Addresses []netip.Addr   `json:"addresses"` // in the underlay
	PodCIDRs  []netip.Prefix `json:"podCIDRs"`
	Agent     process        `json:"agent"`

	given bool // its manifest has the pod prefixes
}

// podState is a pod, in a file of its own.
type podState struct {
	Name        cluster.Name `json:"name"`
	Node        string       `json:"node"`
	UID         string       `json:"uid"`
	ContainerID string       `json:"containerID"`
	HostNetwork bool         `json:"hostNetwork,omitempty"`
	Ports       []uint16     `json:"ports"`
	Wanted      []netip.Addr `json:"wanted,omitempty"` // addresses its manifest asks for
	IPs         []netip.Addr `json:"ips,omitempty"`    // addresses it got; none: not attached yet
	Server      process      `json:"server"`
}

// sameShape says whether a running pod can serve as the other: only labels and the like differ.
func (p *podState) sameShape(q *podState) bool {
	return p.Node == q.Node && p.UID == q.UID && p.HostNetwork == q.HostNetwork &&
		slices.Equal(p.Ports, q.Ports) && slices.Equal(p.Wanted, q.Wanted)
}

func (l *Lab) statePath() string  { return filepath.Join(l.dir, "state.json") }
func (l *Lab) clusterDir() string { return filepath.Join(l.dir, "cluster") }
func (l *Lab) podsDir() string    { return filepath.Join(l.dir, "pods") }

func (l *Lab) nodeDir(node string) string    { return filepath.Join(l.dir, "nodes", node) }
func (l *Lab) agentLog(node string) string   { return filepath.Join(l.nodeDir(node), "agent.log") }
func (l *Lab) agentRun(node string) string   { return filepath.Join(l.nodeDir(node), "run") }
func (l *Lab) bpffs(node string) string      { return filepath.Join(l.nodeDir(node), "bpf") }
func (l *Lab) podFile(n cluster.Name) string { return filepath.Join(l.podsDir(), podKey(n)+".json") }
func (l *Lab) podLog(n cluster.Name) string  { return filepath.Join(l.podsDir(), podKey(n)+".log") }

// Socket is the path of a node's agent API.
func (l *Lab) Socket(node string) string { return filepath.Join(l.agentRun(node), "weir.sock") }

func (l *Lab) netnsPrefix() string            { return "weir-" + l.o.Name + "-" }
func (l *Lab) lanNetns() string               { return l.netnsPrefix() + "lan" }
func (l *Lab) nodeNetns(node string) string   { return l.netnsPrefix() + "node-" + node }
func (l *Lab) podNetns(n cluster.Name) string { return l.netnsPrefix() + "pod-" + podKey(n) }

// podKey joins namespace and name by a character that neither can hold.
func podKey(n cluster.Name) string { return n.Namespace + "_" + n.Name }

func (l *Lab) agentsCgroup() string { return filepath.Join(l.st.Cgroup, agentsCgroup) }

// nodeCgroup is what the node's agent attaches its socket programs to; hostCgroup below it holds
// what runs on the node itself.
func (l *Lab) nodeCgroup(node string) string { return filepath.Join(l.st.Cgroup, node) }
func (l *Lab) hostCgroup(node string) string { return filepath.Join(l.st.Cgroup, node, "host") }
func (l *Lab) podCgroup(node string, n cluster.Name) string {
	return filepath.Join(l.st.Cgroup, node, "pod-"+podKey(n))
}

func (l *Lab) saveState() error { return writeJSON(l.statePath(), l.st) }

// readState loads the record; os.ErrNotExist if there is no lab.
func readState(path string) (*state, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	st := &state{}
	if err := json.Unmarshal(b, st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("%s: version %d, this program knows %d", path, st.Version, stateVersion)
	}
	for i, n := range st.Nodes {
		if n == nil || !safeName(n.Name) {
			return nil, fmt.Errorf("%s: nodes[%d] has no name that a node can have", path, i)
		}
	}
	return st, nil
}

func (l *Lab) node(name string) *nodeState {
	for _, n := range l.st.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// pods reads the records of all pods, sorted by name. A record that cannot be read is an error.
func (l *Lab) pods() ([]*podState, error) {
	files, err := filepath.Glob(filepath.Join(l.podsDir(), "*.json"))
	if err != nil {
		return nil, err
	}
	var out []*podState
	for _, f := range files {
		p := &podState{}
		b, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(b, p)
		}
		if err == nil && l.podFile(p.Name) != f {
			err = fmt.Errorf("name: it is of pod %q, which has another file", p.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("pod record %s: %w", f, err)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *podState) int {
		return strings.Compare(a.Name.String(), b.Name.String())
	})
	return out, nil
}

func (l *Lab) savePod(p *podState) error { return writeJSON(l.podFile(p.Name), p) }

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile replaces a file in one step. Watchers of the directory see names with a leading dot come
// and go, and must pass them over.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// lock keeps other commands from changing the lab at the same time; a crash releases it. It waits
// while the context lasts.
func lock(dir string, wait func() error) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		if err := wait(); err != nil {
			f.Close()
			return nil, err
		}
	}
}
