package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/api"
	"github.com/weirnet/weir/adapters/ebpf"
	"github.com/weirnet/weir/adapters/nftables"
	"github.com/weirnet/weir/adapters/rtnetlink"
	"github.com/weirnet/weir/core/config"
	"github.com/weirnet/weir/ports"
)

func cleanupCommand() *cobra.Command {
	var force, whenConfigured bool
	var dir, nodeConfig string
	var given config.Settings
	c := &cobra.Command{
		Use:   "cleanup",
		Short: "Take everything of weir's off this node",
		Long: `Remove what weir leaves on a node so that traffic goes on without an agent: programs and tables, devices and
routes, masquerading, the CNI configuration and plugin, and the state of endpoints. Pods of this node lose
their network. It is refused while an agent runs.

Without --config-dir the directories are those of a node on which the chart was installed.

With --when-configured the command does what the keys clean-cilium-state and clean-cilium-bpf-state of the
configuration say (nothing, by default), for an init container. With clean-cilium-bpf-state alone only programs
and tables go; the next agent makes them anew.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := cleanupSettings(dir, nodeConfig, given)
			if err != nil {
				return err
			}
			all := force
			if whenConfigured {
				if !s.CleanState && !s.CleanBPFState {
					fmt.Fprintln(c.OutOrStdout(), "Nothing is to be cleaned up.")
					return nil
				}
				all = s.CleanState
			} else if !force {
				return errors.New("cleanup cuts this node's pods off: say --force to do it")
			}
			if force {
				err = os.Remove(filepath.Join(s.RunDir, "node-config.json"))
				if errors.Is(err, os.ErrNotExist) {
					err = nil
				}
			}
			return errors.Join(cleanup(s, all), err)
		},
	}
	f := c.Flags()
	f.BoolVar(&force, "force", false, "really do it")
	f.BoolVar(&whenConfigured, "when-configured", false, "do what the configuration says")
	f.StringVar(&dir, "config-dir", "", "directory with one file for each key of the configuration")
	f.StringVar(&nodeConfig, "node-config", "", "file that build-config writes")
	f.StringVar(&given.RunDir, "run-dir", "", "overrides the configuration")
	f.StringVar(&given.BPFFS, "bpffs", "", "overrides the configuration")
	f.StringVar(&given.CNI.ConfDir, "cni-conf-dir", "", "overrides the configuration")
	f.StringVar(&given.CNI.BinDir, "cni-bin-dir", "", "overrides the configuration")
	return c
}

// cleanupSettings are those of a folder with configuration, else those of a node on which the chart was installed,
// with what the command line gives.
func cleanupSettings(dir, nodeConfig string, given config.Settings) (config.Settings, error) {
	values := map[string]string{"cni-conf-dir": "/etc/cni/net.d", "cni-bin-dir": "/opt/cni/bin"}
	if dir != "" {
		l, err := readLayers(dir, nodeConfig, os.Getenv("K8S_NODE_NAME"))
		if err != nil {
			return config.Settings{}, err
		}
		values = maps.Clone(l.resolve(nil).Values)
	}
	for name, v := range map[string]string{"run-dir": given.RunDir, "bpffs": given.BPFFS, "cni-conf-dir": given.CNI.ConfDir, "cni-bin-dir": given.CNI.BinDir} {
		if v != "" {
			values[name] = v
		}
	}
	s, err := config.Parse(values)
	if err != nil {
		return s, fmt.Errorf("configuration: %w", err)
	}
	return s, nil
}

// cleanup removes programs and tables and, if all is asked for, everything else. It goes on after a failure
// and joins the errors.
func cleanup(s config.Settings, all bool) error {
	socket := filepath.Join(s.RunDir, "weir.sock")
	// Nobody else may work here meanwhile: the lock that agents hold is taken.
	l, err := api.Listen(socket)
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	defer l.Close()
	var errs []error
	if all {
		i := installOf(s.CNI, socket)
		network := rtnetlink.New(rtnetlink.Config{})
		// First nobody starts pods any more; the programs go last, so that no packet passes without policy.
		errs = append(errs, i.Remove(), network.Remove(), i.RemoveBinary(),
			nftables.New(nftables.Config{}).SyncMasquerade(ports.MasqueradeRules{}))
		for _, name := range []string{"endpoints", "last-good", "ipam-mode"} {
			errs = append(errs, os.RemoveAll(filepath.Join(s.RunDir, name)))
		}
	}
	errs = append(errs, ebpf.Destroy(s.BPFFS))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}
