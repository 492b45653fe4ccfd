package main

import (
	"context"
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
			if s, err := g.agent().Status(ctx); err != nil {
				v.Error = err.Error()
			} else {
				v.Daemon = s.Version
			}
		}
		if out.json() {
			return printJSON(g.out, v)
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
