package cni

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// BackupSuffix is put behind the names of other networks' configurations, as Cilium does.
const BackupSuffix = ".cilium_bak"

// Install is what an agent puts into a container runtime's directories, and keeps there. All methods are
// idempotent; one caller at a time.
type Install struct {
	Binary  string // the plugin's program to copy
	BinDir  string // "": the program is not installed
	ConfDir string // "": the configuration is not installed
	// Custom is the path of a configuration to install in place of Conflist.
	Custom   string
	Conflist Conflist
	// Exclusive puts the configurations of others aside: a runtime takes the first that it finds.
	Exclusive bool
}

// name is the file name of the program in BinDir.
func (i Install) name() string {
	if i.Conflist.Type == "" {
		return DefaultType
	}
	return i.Conflist.Type
}

// InstallBinary copies the program, and has it stand in for the loopback plugin where that is missing. Who calls it
// meanwhile gets the old one or the new one, whole; a file that is the same already is left alone.
func (i Install) InstallBinary() error {
	if i.BinDir == "" {
		return nil
	}
	to := filepath.Join(i.BinDir, i.name())
	same, err := sameContent(i.Binary, to)
	if err != nil {
		return fmt.Errorf("install plugin %s: %w", to, err)
	}
	if same {
		return i.linkLoopback(i.name())
	}
	from, err := os.Open(i.Binary)
	if err != nil {
		return fmt.Errorf("install plugin %s: %w", to, err)
	}
	defer from.Close()
	if err := writeFile(to, from, 0o755); err != nil {
		return fmt.Errorf("install plugin %s: %w", to, err)
	}
	return i.linkLoopback(i.name())
}

// sameContent says whether both files are there with the same bytes, and the second can be executed.
func sameContent(a, b string) (bool, error) {
	ia, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	ib, err := os.Lstat(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ia.Size() != ib.Size() || !ib.Mode().IsRegular() || ib.Mode().Perm()&0o111 != 0o111 {
		return false, nil
	}
	ha, err := hash(a)
	if err != nil {
		return false, err
	}
	hb, err := hash(b)
	return ha == hb, err
}

func hash(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// InstallConflist writes the configuration and puts those of others aside if it is exclusive. From then on
// the runtime starts pods: it is for an agent that can serve them.
func (i Install) InstallConflist() error {
	if i.ConfDir == "" {
		return nil
	}
	text, err := i.text()
	if err != nil {
		return err
	}
	if err := putConflist(i.ConfDir, text); err != nil {
		return err
	}
	if !i.Exclusive {
		return nil
	}
	others, err := i.others("")
	if err != nil {
		return err
	}
	for _, name := range others {
		path := filepath.Join(i.ConfDir, name)
		if err := os.Rename(path, path+BackupSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put network configuration aside: %w", err)
		}
	}
	return nil
}

func (i Install) text() ([]byte, error) {
	if i.Custom == "" {
		return i.Conflist.Marshal()
	}
	text, err := os.ReadFile(i.Custom)
	if err != nil {
		return nil, fmt.Errorf("custom conflist: %w", err)
	}
	var c struct {
		Name    string            `json:"name"`
		Plugins []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("custom conflist %s: %w", i.Custom, err)
	}
	if c.Name == "" || len(c.Plugins) == 0 {
		return nil, fmt.Errorf("custom conflist %s: name and plugins must not be empty", i.Custom)
	}
	return text, nil
}

// others lists the files that a runtime would take for network configurations and that are not ours, if
// their names end in suffix beyond that.
func (i Install) others(suffix string) ([]string, error) {
	entries, err := os.ReadDir(i.ConfDir)
	if err != nil {
		return nil, fmt.Errorf("network configurations: %w", err)
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || e.IsDir() || name == ConflistName || strings.HasPrefix(name, ".") {
			continue
		}
		switch filepath.Ext(name) {
		case ".conf", ".conflist", ".json":
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Remove takes the configuration away and brings those of others back. What was never there is no error.
func (i Install) Remove() error {
	if i.ConfDir == "" {
		return nil
	}
	aside, err := i.others(BackupSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	// Back first, or a runtime would see a directory with nothing in it.
	for _, name := range aside {
		old := filepath.Join(i.ConfDir, strings.TrimSuffix(name, BackupSuffix))
		if _, err := os.Lstat(old); err == nil {
			continue
		}
		errs = append(errs, os.Rename(filepath.Join(i.ConfDir, name), old))
	}
	if err := os.Remove(filepath.Join(i.ConfDir, ConflistName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove network configuration: %w", err)
	}
	return nil
}

// RemoveBinary takes the program away. Pods that were attached by it cannot be detached after that.
func (i Install) RemoveBinary() error {
	if i.BinDir == "" {
		return nil
	}
	if err := i.unlinkLoopback(i.name()); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(i.BinDir, i.name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove plugin: %w", err)
	}
	return nil
}

func putConflist(dir string, text []byte) error {
	path := filepath.Join(dir, ConflistName)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	if err := writeFile(path, bytes.NewReader(text), 0o644); err != nil {
		return fmt.Errorf("conflist: %w", err)
	}
	return nil
}
