package rtnetlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctlRoot shows the settings of the reading thread's network namespace.
const sysctlRoot = "/proc/sys/net/"

// hostSysctlRoot shows the same, and may be written, in a container whose own /proc/sys may only be read.
const hostSysctlRoot = "/host/proc/sys/net/"

// sysctl is a setting below /proc/sys/net.
type sysctl struct {
	path     string // "ipv4/ip_forward"
	value    string
	optional bool // absent in some kernels, which then need no such setting
}

// setSysctls writes what differs; settings that are right already may be on a read-only file system.
// It acts on the namespace of the calling thread.
func setSysctls(ss []sysctl) error {
	for _, s := range ss {
		have, err := os.ReadFile(sysctlRoot + s.path)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && strings.TrimSpace(string(have)) == s.value {
			continue
		}
		if err == nil {
			err = os.WriteFile(sysctlRoot+s.path, []byte(s.value), 0o644)
		}
		if errors.Is(err, unix.EROFS) {
			if e := os.WriteFile(hostSysctlRoot+s.path, []byte(s.value), 0o644); !errors.Is(e, fs.ErrNotExist) {
				err = e
			}
		}
		if err != nil {
			return fmt.Errorf("sysctl net.%s = %s: %w", strings.ReplaceAll(s.path, "/", "."), s.value, err)
		}
	}
	return nil
}

// ipv6Available says whether the kernel has IPv6 at all.
func ipv6Available() bool {
	_, err := os.Stat(sysctlRoot + "ipv6/conf")
	return err == nil
}

// quietIPv6 keeps IPv6 from sending anything of its own on a device: no link-local address, no
// solicitations, no duplicate address detection.
func quietIPv6(device string) []sysctl {
	dir := "ipv6/conf/" + device + "/"
	return []sysctl{
		{path: dir + "addr_gen_mode", value: "1"},
		{path: dir + "accept_ra", value: "0"},
		{path: dir + "autoconf", value: "0"},
		{path: dir + "router_solicitations", value: "0"},
		{path: dir + "accept_dad", value: "0"},
	}
}

// hostDevice holds the settings of every device of ours on the node's side.
func hostDevice(device string, wantIPv6 bool) []sysctl {
	ss := []sysctl{
		// Answers to what the node sent through cilium_host come back through cilium_vxlan.
		{path: "ipv4/conf/" + device + "/rp_filter", value: "0"},
		{path: "ipv4/conf/" + device + "/accept_redirects", value: "0"},
		{path: "ipv4/conf/" + device + "/send_redirects", value: "0"},
	}
	if !ipv6Available() {
		return ss
	}
	ss = append(ss, quietIPv6(device)...)
	ss = append(ss,
		// A forwarding interface joins the all-routers group and reports it. Whether packets are forwarded
		// is decided by conf/all alone. Version 2 of MLD would report the leaving, too.
		sysctl{path: "ipv6/conf/" + device + "/force_mld_version", value: "1"},
		sysctl{path: "ipv6/conf/" + device + "/forwarding", value: "0"})
	if wantIPv6 {
		ss = append(ss, sysctl{path: "ipv6/conf/" + device + "/disable_ipv6", value: "0"})
	}
	return ss
}
