package datapath

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// HostDevicePrefix begins the names of all host sides of pod links.
const HostDevicePrefix = "lxc"

// HostDeviceName is the name of the host side of a pod's link: HostDevicePrefix and 12 hexadecimal
// digits, 15 bytes, which is as long as a device name can be. It depends only on what CNI calls the
// attachment, so that a plugin can find the device of an attachment when nobody remembers it.
func HostDeviceName(containerID, ifname string) string {
	sum := sha256.Sum256([]byte(containerID + "\x00" + ifname))
	return HostDevicePrefix + hex.EncodeToString(sum[:6])
}

// IsHostDeviceName says whether HostDeviceName could have made the name.
func IsHostDeviceName(name string) bool {
	digits, ok := strings.CutPrefix(name, HostDevicePrefix)
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 6 && digits == strings.ToLower(digits)
}
