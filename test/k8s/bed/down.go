package bed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Down ends everything that belongs to the cluster's prefix and removes its traces, also those of an Up
// that was cut short or of a process that crashed. What is gone already is no error.
func (b *Bed) Down() error {
	ctx := context.Background()
	if err := poll(ctx, "cluster "+b.o.Prefix+": end its processes", b.killAll); err != nil {
		return err
	}
	b.mu.Lock()
	for _, p := range b.procs {
		<-p.done
	}
	clear(b.procs)
	b.mu.Unlock()
	for _, ns := range b.namespaces() {
		if err := b.ip([]string{"netns", "del", ns}); err != nil {
			return err
		}
	}
	if err := poll(ctx, "cluster "+b.o.Prefix, func() error { return b.removeCgroups("") }); err != nil {
		return err
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("cluster %s: %w", b.o.Prefix, err)
	}
	os.Remove(root) // unless other clusters are there
	return nil
}

// namespaces are the names of the cluster's network namespaces.
func (b *Bed) namespaces() []string {
	paths, _ := filepath.Glob(b.Namespace("*")) // the pattern is well-formed
	var out []string
	for _, p := range paths {
		out = append(out, filepath.Base(p))
	}
	return out
}

// Traces lists what a cluster of this prefix has on the machine; after Down there is nothing.
func (b *Bed) Traces() []string {
	out := append(b.namespaces(), b.cgroups("")...)
	if _, err := os.Stat(b.dir); err == nil {
		out = append(out, b.dir)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, b.dir+"/") || strings.Contains(line, "/"+b.o.Prefix+"-") {
			out = append(out, "mount "+strings.TrimSpace(line))
		}
	}
	return out
}
