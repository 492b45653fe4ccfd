// Command bed keeps a Kubernetes cluster on this machine, to try things by hand:
//
//	bed [-prefix P] [-nodes N] [-ipv4] up       build what is missing, start the cluster
//	bed [-prefix P] install WEIR ARGUMENT...    run that program's install, with the values for this cluster
//	bed [-prefix P] kubectl ARGUMENT...         as the administrator
//	bed [-prefix P] run PROGRAM ARGUMENT...     in the control plane's network, with KUBECONFIG set
//	bed [-prefix P] node I PROGRAM ARGUMENT...  on the I-th node
//	bed [-prefix P] kill I                      cut the I-th node's power
//	bed [-prefix P] boot I                      and start it again
//	bed [-prefix P] down                        remove every trace
//	bed check                                   say why this machine cannot have a cluster, if so
//
// The nodes become Ready once a network is installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weirnet/weir/test/k8s/bed"
)

func main() {
	o := bed.Options{Log: os.Stderr}
	flag.StringVar(&o.Prefix, "prefix", "bed", "what the names of everything on this machine begin with")
	flag.IntVar(&o.Nodes, "nodes", 3, "how many nodes to start")
	flag.BoolVar(&o.IPv4Only, "ipv4", false, "without IPv6")
	flag.Parse()
	if err := run(o, flag.Args()); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode()) // the program has said why
		}
		fmt.Fprintln(os.Stderr, "bed:", err)
		os.Exit(1)
	}
}

func run(o bed.Options, args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do: up, down, install, kubectl, run, node, kill, boot or check")
	}
	ctx := context.Background()
	switch verb, rest := args[0], args[1:]; verb {
	case "up":
		return up(ctx, o)
	case "down":
		b, err := bed.Open(o)
		if err != nil {
			return err
		}
		return b.Down()
	case "check":
		return bed.CheckMachine()
	case "kill", "boot":
		return power(ctx, o, verb == "boot", rest)
	case "install":
		if len(rest) == 0 {
			return errors.New("install: say which program of weir")
		}
		args, err := bed.InstallArgs()
		if err != nil {
			return err
		}
		return enter(ctx, o, false, slices.Concat(rest[:1], args, rest[1:]))
	case "kubectl", "run", "node":
		if verb == "kubectl" {
			rest = append([]string{"kubectl"}, rest...)
		}
		return enter(ctx, o, verb == "node", rest)
	default:
		return fmt.Errorf("%q is nothing to do: allowed are up, down, install, kubectl, run, node, kill, boot and check", verb)
	}
}

func up(ctx context.Context, o bed.Options) error {
	module, err := bed.Module(ctx)
	if err != nil {
		return err
	}
	build := exec.Command(filepath.Join(module, "test/k8s/build.sh"), "cluster")
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		return fmt.Errorf("build.sh: %w", err)
	}
	o.Bin = strings.TrimSpace(string(out))
	dir, err := os.MkdirTemp("", "weir-bed-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := bed.Build(ctx, module, os.Getenv("WEIR_BIN"), dir); err != nil {
		return err
	}
	o.Programs = dir
	b, err := bed.Open(o)
	if err != nil {
		return err
	}
	return b.Up(ctx)
}

// power stops a node of a running cluster or starts it.
func power(ctx context.Context, o bed.Options, on bool, args []string) error {
	if len(args) != 1 {
		return errors.New("say which node")
	}
	i, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("node %q: must be a number", args[0])
	}
	b, err := bed.Open(o)
	if err != nil {
		return err
	}
	if on {
		return b.StartNode(ctx, i)
	}
	return b.KillNode(i)
}

// enter runs a program in the namespaces of a running cluster.
func enter(ctx context.Context, o bed.Options, node bool, argv []string) error {
	b := bed.Find(o.Prefix)
	var cmd *exec.Cmd
	var err error
	if node {
		if len(argv) < 2 {
			return errors.New("node: say which, and what to run")
		}
		i, e := strconv.Atoi(argv[0])
		if e != nil {
			return fmt.Errorf("node %q: must be a number", argv[0])
		}
		cmd, err = b.OnNode(ctx, i, argv[1:]...)
	} else {
		cmd, err = b.OnControlPlane(ctx, argv...)
	}
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
