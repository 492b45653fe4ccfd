package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript []byte

// modules that the tests make the kernel want, and the guest's own port for output.
var modules = []string{
	"virtio_mmio", "virtio_console", "veth", "vxlan", "bridge", "dummy", "sch_ingress", "cls_bpf",
}

const memoryMB = 1536

// guest is one machine that runs all suites once.
type guest struct {
	kernel  *kernel
	busybox string
	suites  *built
	dir     string
	options options
}

// run boots the machine and reads its output into the report until it ends.
func (g *guest) run(ctx context.Context, r *report) error {
	ctx, cancel := context.WithTimeout(ctx, g.options.limit)
	defer cancel()
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		return err
	}
	initrd, console := filepath.Join(g.dir, "initrd"), filepath.Join(g.dir, "console")
	if err := g.writeInitramfs(initrd); err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, qemu, arguments(g.kernel.image, initrd, console)...)
	cmd.ExtraFiles = []*os.File{write} // file descriptor 3
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		_ = write.Close()
		return err
	}
	_ = write.Close()
	in := io.Reader(read)
	if g.options.verbose {
		in = io.TeeReader(in, os.Stderr)
	}
	r.read(in)
	err = cmd.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %v: %w", g.options.limit, ctx.Err())
	} else if err == nil && !r.finished() {
		err = errors.New("the guest ended before its suites")
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s%s", err, complaints.String(), lastLines(console, 30))
}

// arguments of QEMU. With -icount the guest's clock advances by two nanoseconds for each instruction, and
// jumps to the next timer when there is nothing to do. The time stamp counter counts the nanoseconds, and
// is the only clock of this machine: its frequency has to be told.
//
// A processor with all features (-cpu max) is slower: it has fast string instructions, which emulation
// repeats byte by byte.
func arguments(image, initrd, console string) []string {
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "microvm,rtc=on,pic=on,pit=on", "-accel", "tcg,thread=single,tb-size=512", "-cpu", "qemu64",
		"-icount", "shift=1,sleep=off",
		"-smp", "1", "-m", fmt.Sprint(memoryMB),
		"-chardev", "file,id=console,path=" + console, "-serial", "chardev:console",
		"-chardev", "file,id=out,path=/dev/fd/3",
		"-device", "virtio-serial-device,id=ports", "-device", "virtserialport,chardev=out,name=weir,bus=ports.0",
		"-kernel", image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t nokaslr mitigations=off init_on_alloc=0 " +
			"audit=0 cryptomgr.notests nowatchdog rcupdate.rcu_expedited=1 random.trust_cpu=on net.ifnames=0 " +
			"tsc_early_khz=1000000 tsc=reliable",
	}
}

func (g *guest) writeInitramfs(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	a := newArchive(f)
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "root", "var", "etc"} {
		a.dir(d)
	}
	a.link("var/run", "/run")
	a.link("sbin", "bin")
	a.link("usr", ".")
	a.entry("init", modeProgram, initScript)
	a.file("etc/hosts", []byte("127.0.0.1 localhost\n::1 localhost\n"))
	a.file("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\n"))
	a.program("bin/busybox", g.busybox)
	applets, err := exec.Command(g.busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox: %w", err)
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "ip" && applet != "busybox" {
			a.link("bin/"+applet, "busybox")
		}
	}
	ip, libraries, err := withLibraries("ip")
	if err != nil {
		return err
	}
	a.program("bin/ip", ip)
	for _, l := range libraries {
		// /usr is / in the guest.
		a.program(strings.TrimPrefix(l, "/usr"), l)
	}
	loaded, err := g.kernel.load(modules)
	if err != nil {
		return err
	}
	order := ""
	for _, m := range loaded {
		a.file("modules/"+m.name+".ko", m.text)
		order += m.name + "\n"
	}
	a.file("modules/order", []byte(order))
	g.suites.put(a)
	if err := a.close(); err != nil {
		return err
	}
	return f.Close()
}

// lastLines is the end of a text file.
func lastLines(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(strings.ReplaceAll(string(text), "\r", ""), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
