package bed

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Image is a container image to be made from files of this machine.
type Image struct {
	Name       string // with registry and tag
	Entrypoint []string
	Files      []ImageFile
}

// ImageFile is one file of an image: a copy of From, or a symbolic link to Link, or Text.
type ImageFile struct {
	Path             string // absolute
	From, Link, Text string
	Mode             int64 // 0: 0755
}

// Program is a file of this machine's with the shared libraries it needs, at the places where the
// dynamic loader looks for them. A static program comes alone.
func Program(path, from string) ([]ImageFile, error) {
	files := []ImageFile{{Path: path, From: from}}
	out, err := exec.Command("ldd", from).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") || strings.Contains(string(out), "statically linked") {
			return files, nil
		}
		return nil, fmt.Errorf("libraries of %s: %w: %s", from, err, out)
	}
	for _, word := range strings.Fields(string(out)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		library, err := filepath.EvalSymlinks(word)
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", from, err)
		}
		files = append(files, ImageFile{Path: word, From: library})
	}
	return files, nil
}

// Write makes the image as an archive like those of `docker save`, with a single layer. The same files
// give the same bytes.
func (i Image) Write(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("image %s: %w", i.Name, err)
		}
	}()
	layer, err := os.CreateTemp(filepath.Dir(path), ".layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := i.layer(io.MultiWriter(layer, sum)); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Env": []string{"PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum.Sum(nil))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "Layers": []string{"layer.tar"}, "RepoTags": []string{i.Name}}})
	if err != nil {
		return err
	}
	out, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(path + ".new")
	defer out.Close()
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w := tar.NewWriter(out)
	for _, f := range []struct {
		name string
		size int64
		data io.Reader
	}{
		{"manifest.json", int64(len(manifest)), strings.NewReader(string(manifest))},
		{"config.json", int64(len(config)), strings.NewReader(string(config))},
		{"layer.tar", size, layer},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: f.size, Mode: 0o644}); err != nil {
			return err
		}
		if _, err := io.Copy(w, f.data); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// layer writes the files, each after the folders above it.
func (i Image) layer(out io.Writer) error {
	w := tar.NewWriter(out)
	done := map[string]bool{"/": true}
	for _, f := range i.Files {
		if err := folders(w, done, filepath.Dir(f.Path)); err != nil {
			return err
		}
		if done[f.Path] {
			continue // a library that two programs need
		}
		done[f.Path] = true
		if err := f.write(w); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := folders(w, done, "/tmp"); err != nil {
		return err
	}
	return w.Close()
}

func folders(w *tar.Writer, done map[string]bool, dir string) error {
	if done[dir] {
		return nil
	}
	if err := folders(w, done, filepath.Dir(dir)); err != nil {
		return err
	}
	done[dir] = true
	mode := int64(0o755)
	if dir == "/tmp" {
		mode = 0o1777
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: mode})
}

func (f ImageFile) write(w *tar.Writer) error {
	h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode}
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	if f.Link != "" {
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		return w.WriteHeader(h)
	}
	var data io.Reader = strings.NewReader(f.Text)
	h.Size = int64(len(f.Text))
	if f.From != "" {
		file, err := os.Open(f.From)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		data, h.Size = file, info.Size()
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w, data)
	return err
}
