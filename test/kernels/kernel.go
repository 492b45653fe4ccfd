package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cache is the folder of unpacked packages. One process at a time changes it.
type cache struct {
	dir  string
	lock *os.File
}

func openCache() (*cache, error) {
	dir := os.Getenv("WEIR_KERNEL_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cache folder: %w; WEIR_KERNEL_CACHE names another", err)
		}
		dir = filepath.Join(user, "weir-kernels")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	return &cache{dir, lock}, nil
}

func (c *cache) unlock() { _ = c.lock.Close() }

// download unpacks a package into a folder of the cache, and returns that.
func (c *cache) download(name string) (string, error) {
	dir := filepath.Join(c.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Printf("fetching %s\n", name)
	tmp, err := os.MkdirTemp(c.dir, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	get := func() error {
		cmd := exec.Command("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name)
		cmd.Dir = tmp
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := get(); err != nil && os.Geteuid() == 0 {
		_ = apt("update") // the lists may be old
		err = get()
		if err != nil {
			return "", missingError(fmt.Sprintf("package %s cannot be downloaded: %v", name, err))
		}
	} else if err != nil {
		return "", missingError(fmt.Sprintf("package %s cannot be downloaded (apt-get update first?): %v", name, err))
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("download of %s left %d packages: %w", name, len(debs), err)
	}
	root := filepath.Join(tmp, "root")
	if out, err := exec.Command("dpkg", "-x", debs[0], root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s", name, err, out)
	}
	if err := os.Rename(root, dir); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	return dir, nil
}

// busybox is the path of a static busybox.
func (c *cache) busybox() (string, error) {
	dir, err := c.download("busybox-static")
	if err != nil {
		return "", err
	}
	for _, path := range []string{"bin/busybox", "usr/bin/busybox"} {
		if path = filepath.Join(dir, path); exists(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s holds no busybox", dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// kernel is an unpacked kernel package.
type kernel struct {
	series, release string
	image           string
	modules         map[string]string // path by name, for what is not built in
	builtin         map[string]bool
}

// kernel finds the newest kernel of a series, or the cached one unless a new one is asked for.
func (c *cache) kernel(series string, newest bool) (*kernel, error) {
	note := filepath.Join(c.dir, "series-"+series)
	name, err := os.ReadFile(note)
	if err != nil || newest {
		found, err := findPackage(series)
		if err != nil {
			return nil, err
		}
		name = []byte(found)
	}
	dir, err := c.download(strings.TrimSpace(string(name)))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(note, name, 0o644); err != nil {
		return nil, fmt.Errorf("cache folder: %w", err)
	}
	return openKernel(series, dir)
}

// findPackage names the newest kernel package of a series, of those for virtual machines.
func findPackage(series string) (string, error) {
	for _, update := range []bool{false, true} {
		if update {
			_ = apt("update")
		}
		out, err := exec.Command("apt-cache", "pkgnames", "linux-image-"+series+".").Output()
		if err != nil {
			return "", fmt.Errorf("look for kernel packages: %w", err)
		}
		if name := newestPackage(series, strings.Fields(string(out))); name != "" {
			return name, nil
		}
	}
	return "", missingError("no package of a Linux " + series + " kernel is known to apt")
}

// newestPackage chooses by version, number by number.
func newestPackage(series string, names []string) string {
	form := regexp.MustCompile(`^linux-image-` + regexp.QuoteMeta(series) + `\.([0-9+.a-z]+(-[0-9]+)?)-cloud-amd64$`)
	best, version := "", []int(nil)
	for _, n := range names {
		m := form.FindStringSubmatch(n)
		if m == nil {
			continue
		}
		var v []int
		for _, s := range regexp.MustCompile(`[0-9]+`).FindAllString(m[1], -1) {
			i, _ := strconv.Atoi(s)
			v = append(v, i)
		}
		if best == "" || slices.Compare(v, version) > 0 {
			best, version = n, v
		}
	}
	return best
}

func openKernel(series, dir string) (*kernel, error) {
	k := &kernel{series: series, modules: map[string]string{}, builtin: map[string]bool{}}
	images, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%s: %d kernel images: %w", dir, len(images), err)
	}
	k.image = images[0]
	k.release = strings.TrimPrefix(filepath.Base(k.image), "vmlinuz-")
	for _, root := range []string{"lib/modules", "usr/lib/modules"} {
		top := filepath.Join(dir, root, k.release)
		if !exists(top) {
			continue
		}
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			if name, rest, ok := strings.Cut(filepath.Base(path), ".ko"); ok && (rest == "" || rest == ".xz") {
				k.modules[moduleName(name)] = path
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list modules: %w", err)
		}
		list, err := os.ReadFile(filepath.Join(top, "modules.builtin"))
		if err != nil {
			return nil, fmt.Errorf("list modules: %w", err)
		}
		for _, path := range strings.Fields(string(list)) {
			k.builtin[moduleName(strings.TrimSuffix(filepath.Base(path), ".ko"))] = true
		}
	}
	return k, nil
}

// moduleName is the kernel's spelling: files may have dashes.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// module is one to be loaded.
type module struct {
	name string
	text []byte
}

// load reads modules and those they depend on, in the order in which they can be inserted. Those built
// into the kernel are left out.
func (k *kernel) load(names []string) ([]module, error) {
	var out []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] || k.builtin[name] {
			return nil
		}
		seen[name] = true
		path, ok := k.modules[name]
		if !ok {
			return fmt.Errorf("kernel %s has no module %s", k.release, name)
		}
		text, err := readModule(path)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		needs, err := dependencies(text)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		out = append(out, module{name, text})
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readModule(path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		return exec.Command("xz", "-dc", path).Output()
	}
	return os.ReadFile(path)
}

// dependencies reads the names that a module's own description lists.
func dependencies(text []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
