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

// writeImage makes a container image of one static program, as an archive like those of `docker save`. The program is
// at place in the image, and is what its containers start. The same program gives the same bytes.
func writeImage(path, name, place, program string) error {
	err := func() error {
		data, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		var layer strings.Builder
		if err := archive(&layer, entry{strings.TrimPrefix(place, "/"), string(data), 0o755}); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(layer.String()))
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{"Entrypoint": []string{place}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
		})
		if err != nil {
			return err
		}
		manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "Layers": []string{"layer.tar"}, "RepoTags": []string{name}}})
		if err != nil {
			return err
		}
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		return errors.Join(archive(out, entry{"manifest.json", string(manifest), 0o644}, entry{"config.json", string(config), 0o644},
			entry{"layer.tar", layer.String(), 0o644}), out.Close())
	}()
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	return nil
}

// entry is a file of an archive.
type entry struct {
	name, content string
	mode          int64
}

func archive(out io.Writer, entries ...entry) error {
	w := tar.NewWriter(out)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content))}); err != nil {
			return err
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			return err
		}
	}
	return w.Close()
}
