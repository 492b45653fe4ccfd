package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive writes an initramfs: a cpio archive of the "newc" form, whose files belong to root. Folders
// appear by themselves. The first error sticks and is returned by close.
type archive struct {
	w    *bufio.Writer
	n    int // inode numbers handed out
	dirs map[string]bool
	err  error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{".": true}}
}

const (
	modeDir     = 0o040755
	modeFile    = 0o100644
	modeProgram = 0o100755
	modeLink    = 0o120777
)

func (a *archive) entry(name string, mode int, content []byte) {
	if a.err != nil {
		return
	}
	name = strings.TrimPrefix(path.Clean(name), "/")
	a.dir(path.Dir(name))
	a.n++
	a.write([]byte(fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.n, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)))
	a.write(content)
}

// write pads to four bytes.
func (a *archive) write(b []byte) {
	for _, part := range [][]byte{b, make([]byte, -len(b)&3)} {
		if _, err := a.w.Write(part); err != nil && a.err == nil {
			a.err = err
		}
	}
}

func (a *archive) dir(name string) {
	if name = strings.TrimPrefix(path.Clean(name), "/"); !a.dirs[name] {
		a.dirs[name] = true
		a.entry(name, modeDir, nil)
	}
}

func (a *archive) file(name string, content []byte) { a.entry(name, modeFile, content) }
func (a *archive) link(name, target string)         { a.entry(name, modeLink, []byte(target)) }

// program copies an executable file of the host, following links.
func (a *archive) program(name, source string) {
	content, err := os.ReadFile(source)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.entry(name, modeProgram, content)
}

// tree copies a file or folder of the host.
func (a *archive) tree(name, source string) {
	err := filepath.WalkDir(source, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rest, err := filepath.Rel(source, p)
		if err == nil {
			a.program(path.Join(name, filepath.ToSlash(rest)), p)
		}
		return err
	})
	if err != nil && a.err == nil {
		a.err = err
	}
}

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	if a.err == nil {
		a.err = a.w.Flush()
	}
	return a.err
}
