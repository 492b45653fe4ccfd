package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tree is a copy of the source in which mutants are made. The source itself is never touched.
type tree struct {
	root string
	kept map[string]bool // files of the source, below root
}

// copyTree copies what git knows of the source, or would if it were told, as it stands in the work tree.
func copyTree(source, root string) (*tree, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the source's files: git ls-files: %w", err)
	}
	t := &tree{root: root, kept: map[string]bool{}}
	for _, name := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if err := copyFile(filepath.Join(source, name), filepath.Join(root, name)); errors.Is(err, fs.ErrNotExist) {
			continue // deleted and not committed yet
		} else if err != nil {
			return nil, fmt.Errorf("copy the source: %w", err)
		}
		t.kept[name] = true
	}
	return t, nil
}

func copyFile(from, to string) error {
	st, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, st.Mode().Perm())
}

// mutate applies a mutant; undo brings the tree back to what it was, without anything that tests or
// compilers left behind.
func (t *tree) mutate(m mutant) (undo func() error, err error) {
	path := filepath.Join(t.root, m.file)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	changed, err := m.apply(string(text))
	if err != nil {
		return nil, err
	}
	saved := map[string][]byte{path: text}
	if strings.HasPrefix(m.file, "bpf/") {
		objects, err := filepath.Glob(filepath.Join(t.root, "bpf", "*_bpf*"))
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			if saved[o], err = os.ReadFile(o); err != nil {
				return nil, err
			}
		}
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		return nil, err
	}
	return func() error {
		for path, data := range saved {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				return fmt.Errorf("undo %s: %w", m.name, err)
			}
		}
		return t.sweep()
	}, nil
}

// sweep removes what is not of the source: a failing input that a test kept would be tried again, and held
// against the next mutant.
func (t *tree) sweep() error {
	return filepath.WalkDir(t.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(t.root, path)
		if err != nil || t.kept[rel] {
			return err
		}
		return os.Remove(path)
	})
}

// has says whether a package is there; a suite may name one that is yet to come.
func (t *tree) has(pkg string) bool {
	files, err := filepath.Glob(filepath.Join(t.root, filepath.FromSlash(pkg), "*_test.go"))
	return err == nil && len(files) > 0
}

// drawn says whether all packages of a step have properties that rapid checks, and so know its flags.
func (t *tree) drawn(s step) bool {
	for _, pkg := range s {
		if !strings.HasPrefix(pkg, "./") {
			continue
		}
		files, err := filepath.Glob(filepath.Join(t.root, filepath.FromSlash(pkg), "*_test.go"))
		if err != nil || !slices.ContainsFunc(files, func(f string) bool {
			text, err := os.ReadFile(f)
			return err == nil && strings.Contains(string(text), `"pgregory.net/rapid"`)
		}) {
			return false
		}
	}
	return true
}
