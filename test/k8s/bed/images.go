package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Names of the images that BuildImages makes.
const (
	WeirImage     = "docker.io/weirnet/weir:lab"
	WorkloadImage = "docker.io/weirnet/workload:lab" // also what holds a pod's namespaces
	CoreDNSImage  = "docker.io/weirnet/coredns:lab"
)

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

// BuildImages writes the images of a cluster into a folder: weir's, as deploy/image/build.sh makes it of the
// programs that Build put into programs; the workload; and CoreDNS from bin (left out if it is not there). The
// working directory must be in this module.
func BuildImages(ctx context.Context, programs, bin, dir string) error {
	module, err := Module(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(module, "deploy/image/build.sh"), filepath.Join(dir, "weir.tar"), WeirImage)
	cmd.Env = append(os.Environ(), "BIN="+programs, "FETCH=0")
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("image %s: %w", WeirImage, err)
	}
	if err := writeImage(filepath.Join(dir, "workload.tar"), WorkloadImage, "/workload", filepath.Join(programs, "workload")); err != nil {
		return err
	}
	if dns := filepath.Join(bin, "coredns"); exists(dns) {
		return writeImage(filepath.Join(dir, "coredns.tar"), CoreDNSImage, "/coredns", dns)
	}
	return nil
}

// Module is the folder of the module that the working directory is in.
func Module(ctx context.Context) (string, error) {
	dir, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}"))
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return dir, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
