// Package configdir reads and watches a directory with one file a key, as the kubelet mounts a
// ConfigMap: the files are links into a directory that is exchanged as a whole.
package configdir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxValue bounds what is read of a file, in bytes; a ConfigMap holds no more.
const maxValue = 1 << 20

// Read returns the directory's files by name, with blanks around their contents taken off. Names that
// begin with a dot, and directories, are none.
func Read(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	values := map[string]string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if info.IsDir() {
			continue
		}
		if info.Size() > maxValue {
			return nil, fmt.Errorf("read configuration: %s: %d bytes are more than the %d that a ConfigMap may have", path, info.Size(), maxValue)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		values[e.Name()] = strings.TrimSpace(string(b))
	}
	return values, nil
}

// dataLink is what the kubelet exchanges.
const dataLink = "..data"

// readWhole reads the files as they were at one time: when the kubelet exchanges them meanwhile, it reads
// again.
func readWhole(dir string) (map[string]string, error) {
	for range 10 {
		before, _ := os.Readlink(filepath.Join(dir, dataLink))
		values, err := Read(dir)
		after, _ := os.Readlink(filepath.Join(dir, dataLink))
		if before == after {
			return values, err
		}
	}
	return nil, errors.New("read configuration: it changes all the time")
}

// Watch looks at the directory every so often and tells when its contents are other than the values it
// was given, until the context ends. What cannot be read is told once, and looked at again.
func Watch(ctx context.Context, dir string, every time.Duration, values map[string]string, changed func(map[string]string), failed func(error)) {
	known, told := maps.Clone(values), ""
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := readWhole(dir)
		if err != nil {
			if told != err.Error() {
				told = err.Error()
				failed(err)
			}
			continue
		}
		told = ""
		if !maps.Equal(now, known) {
			known = now
			changed(maps.Clone(now))
		}
	}
}
