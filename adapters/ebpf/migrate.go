package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// migration fills a map of a new layout with what the pinned map of the former one holds.
type migration struct {
	from string
	copy func(from, to *ebpf.Map) error
}

// migrations says what becomes of the rows of former layouts, by the name of the map that takes them.
var migrations = map[string]migration{mapServices: {"services_v1", servicesFromV1}}

// servicesFromV1 takes over services of a layout without scopes (all rows were for sockets) and flags.
func servicesFromV1(from, to *ebpf.Map) error {
	type service struct{ ID, Count, AffinityS uint32 }
	rows, err := dump[rawServiceKey, service](from)
	if err != nil {
		return err
	}
	for _, r := range rows {
		s := rawService{ID: r.value.ID, Count: r.value.Count, AffinityS: r.value.AffinityS}
		if err := to.Put(&r.key, &s); err != nil {
			return err
		}
	}
	return nil
}

// migrate fills a map that was just created and is not pinned yet, if there is one of a former layout.
func migrate(dir, name string, to *ebpf.Map) error {
	m, ok := migrations[name]
	if !ok {
		return nil
	}
	from, err := ebpf.LoadPinnedMap(filepath.Join(dir, m.from), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer from.Close()
		err = m.copy(from, to)
	}
	if err != nil {
		return fmt.Errorf("take over the rows of %s into %s: %w", m.from, name, err)
	}
	return nil
}

// forgetFormer removes the pins of former layouts. It is time when no attached program uses them any more.
func forgetFormer(dir string) error {
	for _, m := range migrations {
		if err := removePin(filepath.Join(dir, m.from)); err != nil {
			return fmt.Errorf("remove the pin of a former version: %w", err)
		}
	}
	return nil
}
