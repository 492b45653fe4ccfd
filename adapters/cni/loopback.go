package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
)

// LoopbackName is the file name by which runtimes call the plugin for pods' loopback devices.
const LoopbackName = "loopback"

// RunLoopback is Run for the plugin by that name, which containerd before 2.0 and CRI-O call for every
// pod before they call the network's: it takes the loopback device up. No agent is asked.
func RunLoopback() int {
	e := skel.PluginMainFuncsWithError(skel.CNIFuncs{Add: loopbackAdd, Del: loopbackDel, Check: loopbackCheck},
		Versions, "weir loopback plugin: takes the loopback device up")
	if e == nil {
		return 0
	}
	if err := e.Print(); err != nil {
		fmt.Fprintln(os.Stderr, "print the error:", err)
	}
	return 1
}

// loopbackResult is what every ADD of this plugin ends with.
func loopbackResult(namespace string) *current.Result {
	device := 0
	return &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: "lo", Mac: "00:00:00:00:00:00", Sandbox: namespace}},
		IPs: []*current.IPConfig{
			{Interface: &device, Address: net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)}},
			{Interface: &device, Address: net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}},
		},
	}
}

func loopbackAdd(args *skel.CmdArgs) error {
	conf, err := loopbackConf(args)
	if err != nil {
		return err
	}
	err = netns.Do(args.Netns, func() error {
		return loopbackFlags(func(flags uint16) (uint16, error) { return flags | unix.IFF_UP, nil })
	})
	if err != nil {
		return fail(types.ErrInternal, "ADD: %v", err)
	}
	return types.PrintResult(loopbackResult(args.Netns), conf.CNIVersion)
}

// loopbackDel leaves the device up: it goes with its namespace, which may be gone already.
func loopbackDel(args *skel.CmdArgs) error {
	_, err := loopbackConf(args)
	return err
}

func loopbackCheck(args *skel.CmdArgs) error {
	if _, err := loopbackConf(args); err != nil {
		return err
	}
	err := netns.Do(args.Netns, func() error {
		return loopbackFlags(func(flags uint16) (uint16, error) {
			if flags&unix.IFF_UP == 0 {
				return 0, errors.New("the loopback device is down")
			}
			return flags, nil
		})
	})
	if err != nil {
		return fail(CodeDiffers, "CHECK: %v", err)
	}
	return nil
}

func loopbackConf(args *skel.CmdArgs) (types.NetConf, error) {
	var conf types.NetConf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return conf, fail(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	return conf, nil
}

// loopbackFlags changes the flags of the loopback device of the namespace that the thread is in.
func loopbackFlags(change func(uint16) (uint16, error)) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback device: socket: %w", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback device: %w", err)
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback device: read flags: %w", err)
	}
	flags, err := change(req.Uint16())
	if err != nil || flags == req.Uint16() {
		return err
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback device: take up: %w", err)
	}
	return nil
}

// linkLoopback lets the plugin answer to LoopbackName too, unless a plugin of that name is there.
func (i Install) linkLoopback(program string) error {
	err := os.Symlink(program, filepath.Join(i.BinDir, LoopbackName))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("install plugin %s: %w", LoopbackName, err)
	}
	return nil
}

// unlinkLoopback takes back what linkLoopback made; a plugin of others stays.
func (i Install) unlinkLoopback(program string) error {
	path := filepath.Join(i.BinDir, LoopbackName)
	if to, err := os.Readlink(path); err != nil || to != program {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove plugin %s: %w", LoopbackName, err)
	}
	return nil
}
