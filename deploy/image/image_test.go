// Package image_test holds the two ways to build weir's image against each other and against the list of what
// is in it.
package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// line is one of the list's: tool ip iproute2.
type line struct{ kind, name, what string }

func content(t *testing.T) []line {
	t.Helper()
	data, err := os.ReadFile("content")
	require.NoError(t, err)
	var out []line
	for text := range strings.Lines(string(data)) {
		if f := strings.Fields(text); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			f = append(f, "")
			out = append(out, line{f[0], f[1], f[2]})
		}
	}
	return out
}

func TestListIsSound(t *testing.T) {
	programs := map[string]bool{}
	seen := map[string]bool{}
	for _, l := range content(t) {
		assert.False(t, seen[l.name], "%s is listed twice", l.name)
		seen[l.name] = true
		switch l.kind {
		case "program":
			programs[l.name] = true
			assert.DirExists(t, filepath.Join("../../cmd", l.name))
		case "link":
			assert.True(t, programs[l.what], "%s leads to %q, which is no program above it", l.name, l.what)
		case "tool", "extra":
			assert.NotEmpty(t, l.what, "%s has no package", l.name)
		default:
			t.Errorf("nobody reads lines of kind %q", l.kind)
		}
	}
}

// build runs build.sh with stand-ins for weir's programs, and gives the image's config and its layer: what a
// path is, its link's target, else "file".
func build(t *testing.T) (config map[string]any, layer []byte, paths map[string]string, said string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	bin, out := t.TempDir(), filepath.Join(t.TempDir(), "image.tar")
	for _, l := range content(t) {
		switch l.kind {
		case "program":
			require.NoError(t, os.WriteFile(filepath.Join(bin, l.name), []byte("#!/bin/sh\necho "+l.name+"\n"), 0o755))
		case "tool":
			if _, err := exec.LookPath(l.name); err != nil {
				lacking(t, l.name, "not on this machine (package "+l.what+"); the image needs it")
			}
		}
	}
	cmd := exec.Command("./build.sh", out, "example.org/weir:test")
	cmd.Env = append(os.Environ(), "BIN="+bin, "FETCH=0")
	printed, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", printed)

	archive, err := os.ReadFile(out)
	require.NoError(t, err)
	files := map[string][]byte{}
	each(t, archive, func(h *tar.Header, data []byte) { files[h.Name] = data })
	require.NoError(t, json.Unmarshal(files["config.json"], &config))
	layer = files["layer.tar"]
	paths = map[string]string{}
	each(t, layer, func(h *tar.Header, _ []byte) {
		kind := h.Linkname
		if kind == "" {
			kind = "file"
		}
		paths[strings.TrimPrefix(h.Name, ".")] = kind
		assert.Zero(t, h.Uid+h.Gid, h.Name)
	})
	return config, layer, paths, string(printed)
}

func each(t *testing.T, archive []byte, f func(*tar.Header, []byte)) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		f(h, data)
	}
}

func TestImageHoldsWhatIsListed(t *testing.T) {
	config, layer, paths, said := build(t)
	_, left, _ := strings.Cut(said, "left out, not on this machine:")
	left, _, _ = strings.Cut(left, "\n")
	missing := " " + left + " "
	assert.Contains(t, said, "example.org/weir:test")
	assert.Equal(t, []any{"weir-agent", "--help"}, config["config"].(map[string]any)["Cmd"])
	var run []string
	for _, l := range content(t) {
		want := "file"
		switch {
		case l.kind == "link":
			want = l.what
		case l.kind == "extra" && strings.Contains(missing, " "+l.name+" "):
			want = ""
		default:
			run = append(run, l.name)
		}
		assert.Equal(t, want, paths["/usr/bin/"+l.name], l.name)
	}
	assert.Equal(t, "../usr/bin/bash", paths["/bin/bash"])

	if os.Geteuid() != 0 {
		lacking(t, "root", "not root: cannot change the root directory to see that the image's programs find their libraries")
	}
	root := t.TempDir()
	unpack := exec.Command("tar", "-xf", "-", "-C", root)
	unpack.Stdin = bytes.NewReader(layer)
	out, err := unpack.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, name := range run {
		cmd := exec.Command("chroot", root, "timeout", "10", name, "--version")
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		out, err := cmd.CombinedOutput()
		assert.NotContains(t, string(out), "shared libraries", "%s: %v", name, err)
		if name == "weir-agent" {
			assert.Equal(t, "weir-agent\n", string(out))
		}
	}
}

// TestDockerfileMakesTheSame runs the parts of the Dockerfile that read the list.
func TestDockerfileMakesTheSame(t *testing.T) {
	data, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	file := string(data)
	assert.Contains(t, file, "COPY deploy/image/content /tmp/content\n")
	assert.Contains(t, file, `CMD ["weir-agent", "--help"]`)
	commands := regexp.MustCompile(`awk '[^']*' (?:deploy/image|/tmp)/content(?: \| sort -u| \| sh -e)?`).FindAllString(file, -1)
	require.Len(t, commands, 3)
	dir := t.TempDir()
	read := func(command string) []string {
		t.Helper()
		command = regexp.MustCompile(`\S+/content`).ReplaceAllString(command, "content")
		out, err := exec.Command("sh", "-c", strings.ReplaceAll(command, "/usr/bin/", dir+"/")).CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
		return strings.Fields(string(out))
	}
	var programs, packages []string
	links := map[string]string{}
	for _, l := range content(t) {
		switch l.kind {
		case "program":
			programs = append(programs, "./cmd/"+l.name)
		case "link":
			links[l.name] = l.what
		default:
			packages = append(packages, l.what)
		}
	}
	assert.Equal(t, programs, read(commands[0]))
	got := read(commands[1])
	assert.Subset(t, got, packages)
	assert.Subset(t, packages, got)
	assert.Empty(t, read(commands[2]))
	for name, target := range links {
		to, err := os.Readlink(filepath.Join(dir, name))
		assert.NoError(t, err)
		assert.Equal(t, target, to, name)
	}
}

// lacking skips a test for want of something that REQUIRE (a comma-separated list) may name; then it fails.
func lacking(t *testing.T, what, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), what) {
		t.Fatalf("REQUIRE names %s: %s", what, why)
	}
	t.Skipf("needs %s: %s", what, why)
}
