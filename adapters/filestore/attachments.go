package filestore

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirnet/weir/ports"
)

// Attachments keeps the endpoints of one node as files of a run directory: one JSON object each, named
// by container and interface. It implements ports.Attachments; methods may be called at the same time.
type Attachments struct{ dir string }

var _ ports.Attachments = (*Attachments)(nil)

// OpenAttachments makes the directory if it is absent.
func OpenAttachments(dir string) (*Attachments, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open attachments: %w", err)
	}
	return &Attachments{dir: dir}, nil
}

// path is readable for the names that runtimes give, and distinct for any.
func (a *Attachments) path(containerID, ifname string) string {
	name := containerID + "-" + ifname
	plain := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
	if !plain || len(name) > 120 {
		name = "long"
	}
	return filepath.Join(a.dir, fmt.Sprintf("%s-%.8x.json", name, sha256.Sum256([]byte(containerID+"\x00"+ifname))))
}

// Save implements ports.Attachments. It returns once the file would survive a power failure.
func (a *Attachments) Save(at ports.Attachment) error {
	if at.ContainerID == "" || at.Interface == "" {
		return fmt.Errorf("save attachment of %s: container %q, interface %q: neither may be empty", at.Pod, at.ContainerID, at.Interface)
	}
	data, err := json.MarshalIndent(at, "", "  ")
	if err == nil {
		err = writeFile(a.path(at.ContainerID, at.Interface), append(data, '\n'), true)
	}
	if err != nil {
		return fmt.Errorf("save attachment %s %s: %w", at.ContainerID, at.Interface, err)
	}
	return nil
}

// Delete implements ports.Attachments; what is absent is no error.
func (a *Attachments) Delete(containerID, ifname string) error {
	err := os.Remove(a.path(containerID, ifname))
	if err == nil {
		err = syncDir(a.dir)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete attachment %s %s: %w", containerID, ifname, err)
	}
	return nil
}

// Load implements ports.Attachments. A file that can't be read is an error that names it; the others
// are returned all the same. The order is that of the files' names.
func (a *Attachments) Load() ([]ports.Attachment, error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, fmt.Errorf("load attachments: %w", err)
	}
	var out []ports.Attachment
	var faults []error
	for _, e := range entries {
		if hidden(e.Name()) || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		path := filepath.Join(a.dir, e.Name())
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var at ports.Attachment
		if err == nil {
			err = json.Unmarshal(data, &at)
		}
		if err == nil && a.path(at.ContainerID, at.Interface) != path {
			err = fmt.Errorf("holds container %q, interface %q, which belong elsewhere", at.ContainerID, at.Interface)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("load attachment %s: %w", path, err))
			continue
		}
		out = append(out, at)
	}
	return out, errors.Join(faults...)
}
