// Package filestore makes a directory a cluster: Kubernetes manifests (YAML or JSON) that people
// write, and beside them, under status/, the objects that agents publish. Several agents on one
// machine may share a directory; no server is needed, and cat shows everything.
//
//	DIR/**/*.yaml *.yml *.json        manifests: several documents a file, Lists, subdirectories
//	DIR/status/nodes/NODE.json        CiliumNode, written by the node's agent
//	DIR/status/endpoints/NS/POD.json  CiliumEndpoint, written by the pod's node
//	DIR/status/identities/ID.json     CiliumIdentity, written by whoever needed it first
//
// Files and directories whose names begin with a dot are not looked at.
//
// A mistake in one object costs that object alone: it is a finding, every other object takes effect,
// and the last good version of the broken one stays in force, with Options.StateDir also over a
// restart. A file that can't be read as YAML keeps all objects that it last defined. An object that is
// defined twice counts as the file that comes first by name says, and the other is a finding.
package filestore

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// Options of a Store.
type Options struct {
	// Dir is the directory. It is made if it is absent.
	Dir string
	// StateDir is where this process keeps the last good version of each manifest; it must not be
	// shared. Empty: in memory only.
	StateDir string
	// Rescan is how often everything is looked at again, in case a notification was lost. 0: every
	// 30 seconds.
	Rescan time.Duration
	// Now tells the time; nil: the system's clock. Identities in use are told from unused ones by it.
	Now func() time.Time
}

// Store is a directory as a cluster. It implements ports.Source, ports.Publisher and
// ports.Identities. All methods may be called at the same time, but there is one Watch at a time.
type Store struct {
	opts     Options
	ids      *identityCache
	mu       sync.Mutex
	watching bool
	state    *index // of the Watch that runs or ran last
}

var (
	_ ports.Source     = (*Store)(nil)
	_ ports.Publisher  = (*Store)(nil)
	_ ports.Identities = (*Store)(nil)
)

// Open makes the directories and returns the store. It starts nothing.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, fmt.Errorf("open file store: no directory given")
	}
	if o.Rescan <= 0 {
		o.Rescan = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open file store %s: %w", o.Dir, err)
	}
	o.Dir = dir
	for _, d := range []string{nodesDir, endpointsDir, identitiesDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("open file store: %w", err)
		}
	}
	if o.StateDir != "" {
		if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
			return nil, fmt.Errorf("open file store: %w", err)
		}
	}
	return &Store{opts: o, ids: newIdentityCache()}, nil
}

// Places below Options.Dir.
const (
	statusDir     = "status"
	nodesDir      = statusDir + "/nodes"
	endpointsDir  = statusDir + "/endpoints"
	identitiesDir = statusDir + "/identities"
)

// Findings implements ports.Source. Before the first Watch there are none.
func (s *Store) Findings() []cluster.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		return nil
	}
	return s.state.findings()
}

// ReadDir reads a directory of manifests once. The events describe every object that is in order, in
// an order that is safe to apply; the findings tell of the rest. The error is for a directory that
// can't be read at all; it is not made if it is absent.
func ReadDir(dir string) ([]cluster.Event, []cluster.Finding, error) {
	ix := newIndex(dir, nil)
	res, err := ix.scan()
	if err != nil {
		return nil, nil, fmt.Errorf("read manifests: %w", err)
	}
	return ix.update(res), ix.findings(), nil
}
