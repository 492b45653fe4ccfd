package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Names of the images that BuildImages makes.
const (
	WeirImage     = "docker.io/weirnet/weir:lab"
	WorkloadImage = "docker.io/weirnet/workload:lab" // also what holds a pod's namespaces
	CoreDNSImage  = "docker.io/weirnet/coredns:lab"
)

// links are the names by which the programs of the weir image are called besides their own.
var links = map[string]string{
	"cilium": "weir", "cilium-dbg": "weir", "hubble": "weir",
	"cilium-agent": "weir-agent", "cilium-operator-generic": "weir-operator",
}

// tools are programs of this machine in the weir image; those that are not here are left out.
var tools = []string{"bash", "ip", "tc", "bpftool", "cat", "ls", "cp", "mkdir", "mount", "nsenter", "sleep", "rm", "sysctl", "grep"}

// Build puts the programs of the images into a folder: this module's commands, or links to those that
// are in commands already unless that is empty, and the workload. dir is any folder of the module.
func Build(ctx context.Context, dir, commands, out string) error {
	args := []string{"build", "-buildvcs=false", "-o", out + "/", "github.com/weirnet/weir/test/k8s/workload"}
	if commands == "" {
		args = append(args, "github.com/weirnet/weir/cmd/...")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, msg)
	}
	if commands == "" {
		return nil
	}
	ours, err := filepath.Glob(filepath.Join(commands, "weir*"))
	if err != nil || len(ours) == 0 {
		return fmt.Errorf("no programs in %s: %w", commands, errors.Join(err, os.ErrNotExist))
	}
	for _, p := range ours {
		if p, err = filepath.Abs(p); err != nil {
			return err
		}
		if err := os.Symlink(p, filepath.Join(out, filepath.Base(p))); err != nil {
			return err
		}
	}
	return nil
}

// BuildImages writes the images of a cluster into a folder: weir's from the
// programs that Build put into programs, and CoreDNS' from bin (left out if it is not there).
func BuildImages(programs, bin, dir string) error {
	weir := Image{Name: WeirImage, Files: []ImageFile{
		{Path: "/bin", Link: "usr/bin"}, {Path: "/sbin", Link: "usr/sbin"}, {Path: "/usr/bin/sh", Link: "bash"},
		{Path: "/etc/passwd", Text: "root:x:0:0:root:/root:/bin/sh\n", Mode: 0o644},
	}}
	ours, err := filepath.Glob(filepath.Join(programs, "weir*"))
	if err != nil {
		return err
	}
	for _, p := range ours {
		weir.Files = append(weir.Files, ImageFile{Path: "/usr/bin/" + filepath.Base(p), From: p})
	}
	for name, target := range links {
		weir.Files = append(weir.Files, ImageFile{Path: "/usr/bin/" + name, Link: target})
	}
	for _, name := range tools {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
		files, err := Program("/usr/bin/"+name, path)
		if err != nil {
			return err
		}
		weir.Files = append(weir.Files, files...)
	}
	images := []Image{weir, {
		Name: WorkloadImage, Entrypoint: []string{"/workload"},
		Files: []ImageFile{{Path: "/workload", From: filepath.Join(programs, "workload")}},
	}}
	if dns := filepath.Join(bin, "coredns"); exists(dns) {
		images = append(images, Image{Name: CoreDNSImage, Entrypoint: []string{"/coredns"}, Files: []ImageFile{{Path: "/coredns", From: dns}}})
	}
	for _, i := range images {
		base, _, _ := strings.Cut(filepath.Base(i.Name), ":")
		if err := i.Write(filepath.Join(dir, base+".tar")); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
