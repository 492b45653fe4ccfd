package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

const qemu = "qemu-system-x86_64"

// packages hold the programs that are needed here.
var packages = []struct{ program, name string }{
	{qemu, "qemu-system-x86"},
	{"ip", "iproute2"}, // goes into the guest
	{"xz", "xz-utils"}, // modules are compressed
	{"dpkg", "dpkg"},
}

// needPrograms installs what is missing, if it may.
func needPrograms() error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return missingError("the kernels are Debian's, and there is no apt-get here to get them with")
	}
	var programs, names []string
	for _, p := range packages {
		if _, err := exec.LookPath(p.program); err != nil {
			programs, names = append(programs, p.program), append(names, p.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return missingError(fmt.Sprintf("%s is missing and only root can install it (apt-get install %s)",
			strings.Join(programs, ", "), strings.Join(names, " ")))
	}
	fmt.Printf("installing %s\n", strings.Join(names, ", "))
	_ = apt("update")
	if err := apt(append([]string{"install", "-y", "--no-install-recommends"}, names...)...); err != nil {
		return missingError(fmt.Sprintf("%s is missing and cannot be installed: %v", strings.Join(programs, ", "), err))
	}
	return nil
}

// apt runs apt-get and turns what it says into the error.
func apt(args ...string) error {
	cmd := exec.Command("apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "E:") {
			return fmt.Errorf("apt-get %s: %s", args[0], strings.TrimSpace(line))
		}
	}
	return fmt.Errorf("apt-get %s: %w", args[0], err)
}

var libraryPath = regexp.MustCompile(`/\S+`)

// withLibraries finds a program of the host and the shared libraries that it is linked with.
func withLibraries(program string) (path string, libraries []string, err error) {
	if path, err = exec.LookPath(program); err != nil {
		return "", nil, err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return path, nil, nil // it is static
	}
	libraries = libraryPath.FindAllString(string(out), -1)
	slices.Sort(libraries)
	return path, slices.Compact(libraries), nil
}
