package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirnet/weir/ports"
)

// ipamFile remembers in the run directory who gave this node's pods their addresses.
const ipamFile = "ipam-mode"

// keepIPAM refuses another IPAM mode than that by which living pods got their addresses: nobody would keep
// the new ones from meeting the old. A node without pods takes the new mode.
func keepIPAM(dir, mode string, attachments ports.Attachments) error {
	path := filepath.Join(dir, ipamFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ipam mode of before: %w", err)
	}
	was := strings.TrimSpace(string(b))
	if was == mode {
		return nil
	}
	if was != "" {
		pods, err := attachments.Load()
		if err != nil {
			return fmt.Errorf("ipam: pods of before: %w", err)
		}
		if len(pods) > 0 {
			return fmt.Errorf("ipam: %q is refused: %d pods of this node (%s among them) have addresses by mode %q; drain the node and start the agent again, or set ipam back to %q",
				mode, len(pods), pods[0].Pod, was, was)
		}
	}
	if err := os.WriteFile(path, []byte(mode+"\n"), 0o644); err != nil {
		return fmt.Errorf("remember the ipam mode: %w", err)
	}
	return nil
}
