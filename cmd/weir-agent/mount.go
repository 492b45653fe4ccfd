package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/adapters/mounts"
)

const procHelp = "directory below /proc of the machine's first process, whose namespaces are entered; empty: stay in this process's"

func mountCgroupCommand() *cobra.Command {
	return mountCommand("mount-cgroup", "cgroup v2 hierarchy", "/run/cilium/cgroupv2", mounts.Cgroup2)
}

func mountBPFFSCommand() *cobra.Command {
	return mountCommand("mount-bpffs", "bpf file system", "/sys/fs/bpf", mounts.BPF)
}

func mountCommand(name, what, where string, fs mounts.FileSystem) *cobra.Command {
	var proc, path string
	c := &cobra.Command{
		Use:   name,
		Short: "Mount the machine's " + what,
		Long: "Mount the " + what + `, for an init container: the mount is made in the machine's namespaces, is seen by all containers
and stays. What is mounted already is left alone.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			mounted, err := mounts.Ensure(fs, proc, path)
			if err != nil {
				return err
			}
			state := "is mounted already"
			if mounted {
				state = "is mounted"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "The %s %s at %s.\n", what, state, path)
			return err
		},
	}
	c.Flags().StringVar(&proc, "proc", "", procHelp)
	c.Flags().StringVar(&path, "path", where, "where, as the machine sees it")
	return c
}
