package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
)

// publishLock is held while the files below status/endpoints change, so that a node never removes
// what another has just put in the place of its own.
const publishLock = endpointsDir + "/.lock"

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.opts.Dir}, parts...)...)
}

// PublishNode implements ports.Publisher.
func (s *Store) PublishNode(_ context.Context, n cluster.Node) error {
	data, err := manifest.EncodeNode(n)
	if err == nil {
		err = s.put(s.path(nodesDir, n.Name+".json"), data)
	}
	if err != nil {
		return fmt.Errorf("publish node %s: %w", n.Name, err)
	}
	return nil
}

// put writes a file unless it holds the data already, and makes its directory if that is missing.
func (s *Store) put(path string, data []byte) error {
	err := writeIfChanged(path, data, false)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = writeIfChanged(path, data, false)
		}
	}
	return err
}

// PublishEndpoint implements ports.Publisher.
func (s *Store) PublishEndpoint(ctx context.Context, e cluster.Endpoint) error {
	wrap := func(err error) error { return fmt.Errorf("publish endpoint %s: %w", e.Name, err) }
	data, err := manifest.EncodeEndpoint(e, s.labelsOf(e.Identity))
	if err != nil {
		return wrap(err)
	}
	if err := s.used(ctx, e.Identity); err != nil {
		return wrap(err)
	}
	unlock, err := lock(ctx, s.path(publishLock))
	if err != nil {
		return wrap(err)
	}
	defer unlock()
	if err := s.put(s.endpointPath(e.Name), data); err != nil {
		return wrap(err)
	}
	return nil
}

// WithdrawEndpoint implements ports.Publisher.
func (s *Store) WithdrawEndpoint(ctx context.Context, name cluster.Name, node string) error {
	wrap := func(err error) error { return fmt.Errorf("withdraw endpoint %s: %w", name, err) }
	if _, err := manifest.EncodeEndpoint(cluster.Endpoint{Name: name}, labels.Set{}); err != nil {
		return wrap(err)
	}
	unlock, err := lock(ctx, s.path(publishLock))
	if err != nil {
		return wrap(err)
	}
	defer unlock()
	path := s.endpointPath(name)
	e, err := readEndpoint(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return wrap(err)
	case e.Node != node:
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return wrap(err)
	}
	return nil
}

func (s *Store) endpointPath(n cluster.Name) string {
	return s.path(endpointsDir, n.Namespace, n.Name+".json")
}

// readEndpoint reads one CiliumEndpoint.
func readEndpoint(path string) (cluster.Endpoint, error) {
	data, err := new(content).read(path)
	if err != nil {
		return cluster.Endpoint{}, err
	}
	o, findings := manifest.Decode(path, data)
	for _, e := range o.Upserts() {
		if up, ok := e.(cluster.EndpointUpsert); ok {
			return up.Endpoint, nil
		}
	}
	return cluster.Endpoint{}, fmt.Errorf("%s: not a CiliumEndpoint: %v", path, findings)
}

// labelsOf returns the labels of an identity, none if they can't be told: they are for readers only.
func (s *Store) labelsOf(id identity.ID) labels.Set {
	if !id.IsCluster() {
		return labels.Set{}
	}
	ls, err := readIdentity(s.path(identitiesDir, identityFile(id)))
	if err != nil {
		return labels.Set{}
	}
	return ls
}
