package nodeconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads what Save wrote for a node. Without a file, or with one that is about another node or namespace,
// nothing is known, and the second result is false. The error names a file that can't be read; one that holds
// something else counts as none, for who wrote it is gone.
func Load(file, node, namespace string) (Known, bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Known{}, false, nil
	}
	if err != nil {
		return Known{}, false, fmt.Errorf("read the CiliumNodeConfigs known last: %w", err)
	}
	var k Known
	if json.Unmarshal(data, &k) != nil || k.Node != node || k.Namespace != namespace {
		return Known{}, false, nil
	}
	return k, true, nil
}

// Save writes a file, as a whole or not at all.
func Save(file string, k Known) error {
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("keep the CiliumNodeConfigs of node %s: %w", k.Node, err) }
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fail(err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
