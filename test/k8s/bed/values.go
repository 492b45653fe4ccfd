package bed

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// InstallArgs are the arguments of weir that install it on a cluster of this bed, with more values, which win.
func InstallArgs(more ...string) ([]string, error) {
	all, err := values()
	if err != nil {
		return nil, err
	}
	args := []string{"install", "--wait"}
	for _, v := range append(all, more...) {
		args = append(args, "--set", v)
	}
	return args, nil
}

func values() ([]string, error) {
	v := []string{
		"kubeProxyReplacement=true", // the API server's address is found out
		"ipam.mode=kubernetes", "routingMode=tunnel", "tunnelProtocol=vxlan", "ipv6.enabled=true",
		"image.override=" + WeirImage, "operator.image.override=" + WeirImage,
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	_, bounding, _ := strings.Cut(string(status), "CapBnd:")
	bounding, _, _ = strings.Cut(bounding, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(bounding), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	// Some virtual machines do not have it, so that no container can be given it.
	if mask&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		const rest = "{NET_ADMIN,NET_RAW,BPF,PERFMON,SYS_ADMIN,IPC_LOCK,DAC_OVERRIDE,FOWNER,CHOWN}"
		v = append(v, "securityContext.capabilities.ciliumAgent="+rest, "securityContext.capabilities.cleanCiliumState="+rest)
	}
	return v, nil
}
