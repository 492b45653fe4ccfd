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
	"runtime"
	"strings"
)

// image is a container image with one layer.
type image struct {
	names              []string
	command, arguments []string // what its containers start
	files              []entry
}

// writeImage makes an image of one static program. The program is at place in the image, and is what its containers
// start.
func writeImage(path, name, place, program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	return image{
		names: []string{name}, command: []string{place},
		files: []entry{{name: strings.TrimPrefix(place, "/"), content: string(data), mode: 0o755}},
	}.write(path)
}

// write makes an archive like those of `docker save`. The same image gives the same bytes.
func (i image) write(path string) error {
	err := func() error {
		var layer strings.Builder
		if err := archive(&layer, i.files...); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(layer.String()))
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{"Env": []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin"}, "Entrypoint": i.command, "Cmd": i.arguments},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
		})
		if err != nil {
			return err
		}
		manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "Layers": []string{"layer.tar"}, "RepoTags": i.names}})
		if err != nil {
			return err
		}
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		return errors.Join(archive(out, entry{name: "manifest.json", content: string(manifest), mode: 0o644}, entry{name: "config.json", content: string(config), mode: 0o644},
			entry{name: "layer.tar", content: layer.String(), mode: 0o644}), out.Close())
	}()
	if err != nil {
		return fmt.Errorf("image %s: %w", i.names[0], err)
	}
	return nil
}

// entry is a file of an archive, a link if it says to where, or a folder if the name ends with a slash.
type entry struct {
	name, content string
	link          string
	mode          int64
}

func archive(out io.Writer, entries ...entry) error {
	w := tar.NewWriter(out)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), Linkname: e.link}
		if e.link != "" {
			header.Typeflag, header.Mode = tar.TypeSymlink, 0o777
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			return err
		}
	}
	return w.Close()
}
