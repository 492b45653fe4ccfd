package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=v1.2.3); without it the module's version counts.
var version string

// versionInfo is what `weir version -o json` prints.
type versionInfo struct {
	Client buildInfo `json:"client"`
	Daemon string    `json:"daemon,omitempty"`
	Error  string    `json:"error,omitempty"` // why the daemon's version is not known
}

type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (b buildInfo) String() string {
	s := b.Version
	if b.Commit != "" {
		s += " " + b.Commit
	}
	return fmt.Sprintf("%s go version %s %s", s, b.Go, b.Platform)
}

// short is version and commit.
func (b buildInfo) short() string { return strings.TrimSpace(b.Version + " " + b.Commit) }

func thisBuild() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			b.Commit = s.Value[:12]
		}
	}
	return b
}

func newVersionCommand(g *globals) *cobra.Command {
	var client bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of the agent",
		Long: `Print the versions of this program and of the agent. An agent that cannot be reached is no
failure here: its version is shown as unknown, with the reason.`,
		Example: "  weir version\n  weir version --client -o json",
		Args:    args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&client, "client", false, "print the version of this program only")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := versionInfo{Client: thisBuild()}
		if !client {
			ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
			defer cancel()
			var err error
			if v.Daemon, err = g.daemonVersion(ctx); err != nil {
				v.Error = err.Error()
			}
		}
		switch {
		case out.json():
			return printJSON(g.out, v)
		case g.program == ciliumProgram && (client || g.remote):
			return g.printClusterVersion(v, client)
		}
		fmt.Fprintf(g.out, "Client: %s\n", v.Client)
		switch {
		case client:
		case v.Error != "":
			fmt.Fprintf(g.out, "Daemon: unknown (%s)\n", v.Error)
		default:
			fmt.Fprintf(g.out, "Daemon: %s\n", v.Daemon)
		}
		return nil
	}
	return c
}

// daemonVersion is the agent's version, or the images of the cluster's agents.
func (g *globals) daemonVersion(ctx context.Context) (string, error) {
	if !g.remote {
		s, err := g.agent().Status(ctx)
		return s.Version, err
	}
	cl, err := g.cluster()
	if err != nil {
		return "", err
	}
	o, err := cl.Overview(ctx)
	if err != nil {
		return "", err
	}
	tags := map[string]bool{}
	for _, p := range agentPods(o.Components) {
		for _, image := range p.Images {
			tags[image[strings.LastIndexByte(image, '/')+1:]] = true
		}
	}
	if len(tags) == 0 {
		return "", errors.New("no agent runs in namespace " + cl.Namespace())
	}
	return strings.Join(sortedKeys(tags), ", "), nil
}

// printClusterVersion prints the lines of Cilium's cluster command line.
func (g *globals) printClusterVersion(v versionInfo, client bool) error {
	b := v.Client
	fmt.Fprintf(g.out, "cilium-cli: %s compiled with %s on %s\n", b.Version, b.Go, b.Platform)
	fmt.Fprintf(g.out, "cilium image (default): %s\ncilium image (stable): %s\n", b.Version, b.Version)
	if client {
		return nil
	}
	running := v.Daemon
	if v.Error != "" {
		running = "unknown. Unable to obtain cilium version. Reason: " + v.Error
	}
	_, err := fmt.Fprintf(g.out, "cilium image (running): %s\n", running)
	return err
}
