package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/test/authority"
)

// Programs of the machine that end-to-end tests run in their pods. What they call besides is busybox's.
var tools = []string{
	"bash", "curl", "dig", "host", "nslookup", "nc.openbsd", "wget", "ip", "ss", "socat", "conntrack", "getent",
	"nsenter", "mount", "umount", "timeout", "env", "xargs", "busybox",
}

// What the tests ask for by other names. Distributions link sh to another shell than that of agnhost's users,
// whose built-in commands hide the tools: bash has none of them.
var toolNames = map[string]string{"nc": "nc.openbsd", "sh": "bash"}

// E2EImages writes the images that the pods of Kubernetes' own network tests want into a folder, by the names that
// e2e.test from bin lists:
//
//   - agnhost, busybox, nginx and the others are one image, agnhost with the machine's tools: no test looks at what nginx does
//   - pause is the workload from programs
//   - a server that sends packets out of their window is an image of its own
//
// Any other image cannot be had here.
func E2EImages(ctx context.Context, programs, bin, dir string) error {
	out, err := output(exec.CommandContext(ctx, filepath.Join(bin, "e2e.test"), "--list-images"))
	if err != nil {
		return fmt.Errorf("names of images: %w", err)
	}
	toolbox, pause, boom := e2eNames(strings.Fields(out))
	if len(toolbox) == 0 || len(pause) == 0 || len(boom) == 0 {
		return fmt.Errorf("names of images: agnhost, pause or regression-issue-74839 is missing in %q", out)
	}
	files, err := toolboxFiles(ctx, bin)
	if err != nil {
		return fmt.Errorf("image %s: %w", toolbox[0], err)
	}
	return errors.Join(
		image{names: toolbox, command: []string{"/agnhost"}, arguments: []string{"pause"}, files: files}.write(filepath.Join(dir, "e2e.tar")),
		writeImage(filepath.Join(dir, "e2e-pause.tar"), pause[0], "/workload", filepath.Join(programs, "workload")),
		writeImage(filepath.Join(dir, "e2e-boom.tar"), boom[0], "/boom-server", filepath.Join(bin, "boom-server")))
}

// e2eNames picks those that this bed can make: what the one image with the tools stands for, pause, and the server.
func e2eNames(all []string) (toolbox, pause, boom []string) {
	for _, name := range all {
		base, _, _ := strings.Cut(path.Base(name), ":")
		switch base {
		case "agnhost", "busybox", "nginx", "glibc-dns-testing", "distroless-iptables":
			toolbox = append(toolbox, name)
		case "pause":
			pause = append(pause, name)
		case "regression-issue-74839":
			boom = append(boom, name)
		}
	}
	return toolbox, pause, boom
}

// toolboxFiles are agnhost, CoreDNS, the tools with the libraries they need, and the other commands by busybox.
func toolboxFiles(ctx context.Context, bin string) ([]entry, error) {
	files := []entry{
		{name: "tmp/", mode: 0o1777}, {name: "uploads/", mode: 0o777}, {name: "root/", mode: 0o700},
		{name: "etc/passwd", content: "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n", mode: 0o644},
		{name: "etc/group", content: "root:x:0:\nuser:x:1000:\n", mode: 0o644},
		{name: "etc/nsswitch.conf", content: "hosts: files dns\n", mode: 0o644},
		{name: "etc/wgetrc", content: "tries = 1\n", mode: 0o644}, // as busybox does, whose own crashes on -T in some releases
		{name: "agnhost-2", link: "agnhost"},
	}
	cert, key, err := certificate()
	if err != nil {
		return nil, err
	}
	files = append(files, entry{name: "localhost.crt", content: string(cert), mode: 0o644}, entry{name: "localhost.key", content: string(key), mode: 0o644})
	seen := map[string]bool{}
	add := func(place, from string) error {
		if seen[place] {
			return nil
		}
		seen[place] = true
		data, err := os.ReadFile(from)
		files = append(files, entry{name: strings.TrimPrefix(place, "/"), content: string(data), mode: 0o755})
		return err
	}
	for _, p := range []string{"agnhost", "coredns"} {
		if err := add("/"+p, filepath.Join(bin, p)); err != nil {
			return nil, err
		}
	}
	for _, t := range tools {
		from, err := find(t)
		if err != nil {
			return nil, err
		}
		if err := add("/bin/"+t, from); err != nil {
			return nil, err
		}
		libraries, err := librariesOf(ctx, from)
		if err != nil {
			return nil, err
		}
		for _, l := range libraries {
			if err := add(l, l); err != nil {
				return nil, err
			}
		}
	}
	// The resolver looks these up by name, so they are no dependency of anything.
	for _, pattern := range []string{"/lib/*-linux-gnu/libnss_dns.so.2", "/lib/*-linux-gnu/libnss_files.so.2", "/lib/*-linux-gnu/libresolv.so.2"} {
		found, _ := filepath.Glob(pattern)
		for _, l := range found {
			if err := add(l, l); err != nil {
				return nil, err
			}
		}
	}
	for name, to := range toolNames {
		seen["/bin/"+name] = true
		files = append(files, entry{name: "bin/" + name, link: to})
	}
	applets, err := output(exec.CommandContext(ctx, "busybox", "--list"))
	if err != nil {
		return nil, fmt.Errorf("busybox: %w", err)
	}
	for _, a := range strings.Fields(applets) {
		if !seen["/bin/"+a] {
			files = append(files, entry{name: "bin/" + a, link: "busybox"})
		}
	}
	slices.SortFunc(files, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// certificate is what agnhost's servers with TLS show; nobody looks whose it is.
func certificate() (cert, key []byte, err error) {
	a, err := authority.New("e2e-ca", 365*24*time.Hour)
	if err != nil {
		return nil, nil, err
	}
	return a.Server("localhost", []string{"localhost"}, nil)
}

// find is where a program is, also where only root looks.
func find(program string) (string, error) {
	from, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		from, err = exec.LookPath(filepath.Join(dir, program))
	}
	if err != nil {
		return "", fmt.Errorf("this machine has no %s, which build.sh e2e installs: %w", program, err)
	}
	return from, nil
}

// librariesOf are the paths of what a program is linked to.
func librariesOf(ctx context.Context, program string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, out)
	}
	var libraries []string
	for f := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(f, "/") && strings.Contains(f, ".so") {
			libraries = append(libraries, f)
		}
	}
	return libraries, nil
}
