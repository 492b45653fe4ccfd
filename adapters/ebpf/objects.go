package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/bpf"
)

// loadSpecs reads the compiled objects, by file.
func loadSpecs() (map[string]*ebpf.CollectionSpec, error) {
	specs := map[string]*ebpf.CollectionSpec{}
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"from_pod": bpf.LoadFromPod, "to_pod": bpf.LoadToPod, "from_overlay": bpf.LoadFromOverlay,
		"from_host": bpf.LoadFromHost, "from_network": bpf.LoadFromNetwork, "to_network": bpf.LoadToNetwork, "sock": bpf.LoadSock,
	} {
		spec, err := load()
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", name, err)
		}
		specs[name] = spec
	}
	return specs, nil
}

// sharedMaps is the union of the objects' maps but those that hold one object's constants.
func sharedMaps(specs map[string]*ebpf.CollectionSpec) map[string]*ebpf.MapSpec {
	shared := map[string]*ebpf.MapSpec{}
	for _, spec := range specs {
		for name, m := range spec.Maps {
			if !strings.HasPrefix(name, ".") && shared[name] == nil {
				shared[name] = m.Copy()
			}
		}
	}
	return shared
}

// openMaps opens the pinned maps of a directory and creates those that are missing. If a pinned map has
// another layout or size, nothing is created, and the error names every difference.
func openMaps(dir string, specs map[string]*ebpf.MapSpec) (_ map[string]*ebpf.Map, err error) {
	opened := map[string]*ebpf.Map{}
	defer func() {
		if err != nil {
			closeMaps(opened)
		}
	}()
	var differences []error
	for _, name := range sortedKeys(specs) {
		if specs[name].Pinning != ebpf.PinByName {
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return opened, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		opened[name] = m
		if err := specs[name].Compatible(m); err != nil {
			differences = append(differences, fmt.Errorf("map %s: %w", name, err))
		}
	}
	if len(differences) > 0 {
		return opened, fmt.Errorf("pinned maps in %s do not fit this version or configuration; "+
			"remove them to start with empty tables: %w", dir, errors.Join(differences...))
	}
	for _, name := range sortedKeys(specs) {
		if opened[name] != nil {
			continue
		}
		spec := specs[name].Copy()
		spec.Pinning = ebpf.PinNone
		m, err := ebpf.NewMap(spec)
		if err != nil {
			return opened, fmt.Errorf("create map %s of %d entries: %w", name, spec.MaxEntries, err)
		}
		opened[name] = m
		if specs[name].Pinning != ebpf.PinByName {
			continue
		}
		if err := migrate(dir, name, m); err != nil {
			return opened, err
		}
		if err := m.Pin(filepath.Join(dir, name)); err != nil {
			return opened, fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return opened, nil
}

// loadPrograms loads all programs over the shared maps. Without sockets the socket programs stay out.
func loadPrograms(specs map[string]*ebpf.CollectionSpec, shared map[string]*ebpf.Map,
	constants map[string]any, opts ebpf.ProgramOptions,
) (_ map[string]*ebpf.Program, err error) {
	progs := map[string]*ebpf.Program{}
	defer func() {
		if err != nil {
			closePrograms(progs)
		}
	}()
	// The verifier is most of the start, and works on as many programs at once as there are processors.
	names := sortedKeys(specs)
	loaded, errs := make([]map[string]*ebpf.Program, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { loaded[i], errs[i] = loadObject(name, specs[name].Copy(), shared, constants, opts) })
	}
	wg.Wait()
	for _, of := range loaded {
		maps.Copy(progs, of)
	}
	return progs, errors.Join(errs...)
}

// loadObject loads the programs of one object.
func loadObject(name string, spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, constants map[string]any,
	opts ebpf.ProgramOptions,
) (map[string]*ebpf.Program, error) {
	for c, v := range constants {
		if variable := spec.Variables[c]; variable != nil {
			if err := variable.Set(v); err != nil {
				return nil, fmt.Errorf("object %s: set %s: %w", name, c, err)
			}
		}
	}
	replace := map[string]*ebpf.Map{}
	for m, ms := range spec.Maps {
		ms.Pinning = ebpf.PinNone
		if shared[m] != nil {
			replace[m] = shared[m]
			ms.MaxEntries = shared[m].MaxEntries()
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		MapReplacements: replace, Programs: opts,
	})
	if err != nil {
		return nil, fmt.Errorf("load object %s: %w", name, err)
	}
	defer coll.Close()
	progs := map[string]*ebpf.Program{}
	for p := range coll.Programs {
		progs[p] = coll.DetachProgram(p)
	}
	return progs, nil
}

func closeMaps(m map[string]*ebpf.Map) {
	for _, x := range m {
		_ = x.Close()
	}
}

func closePrograms(m map[string]*ebpf.Program) {
	for _, x := range m {
		_ = x.Close()
	}
}
