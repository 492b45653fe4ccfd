package main

import (
	"fmt"

	"github.com/weirnet/weir/adapters/filestore"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/matrix"
)

// readManifests reads a directory of manifests once.
var readManifests func(dir string) ([]cluster.Event, []cluster.Finding, error) = filestore.ReadDir

// loadWorld reads a directory and prints the findings. broken says that an object does not take
// effect, so that the answers may not be what its author expects.
func (g *globals) loadWorld(dir string) (w *matrix.World, broken bool, err error) {
	if dir == "" {
		return nil, false, usagef("-f DIR is missing: the directory of manifests")
	}
	events, findings, err := readManifests(dir)
	if err != nil {
		return nil, false, err
	}
	for _, f := range findings {
		kind := "error"
		if f.Warning {
			kind = "warning"
		} else {
			broken = true
		}
		fmt.Fprintf(g.err, "%s: %s\n", kind, f)
	}
	return matrix.New(events), broken, nil
}
