package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/lab"
	"github.com/weirnet/weir/deploy/demo"
	"github.com/weirnet/weir/ports"
)

// demoName is the lab that the demo builds if it is not told another name.
const demoName = "demo"

// fakeLab builds a lab of fakes with n nodes and applies the manifests. Tests put their own here.
var fakeLab = newSimulation

func newDemoCommand(g *globals) *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a two-node cluster at work, step by step, and check each step",
		Long: `weir demo builds a lab of two nodes, loads a small shop, and shows: nodes and pods with identities and
addresses; who can reach whom before and after the policies; how connections to a Service spread; the
last drops with the rules that caused them; and traffic that runs on while the agents are killed and
started again.

Every step is checked. The exit status is 0 only if each showed what it should. With --keep (or KEEP=1
in the environment) the lab stays; weir lab down removes it.

With --routing native the nodes reach each other's pods without a tunnel. Where eBPF is not permitted the same story runs on the fake kernel; the first line says which.`,
		Example: "  weir demo\n  KEEP=1 weir demo",
		Args:    args(cobra.NoArgs),
	}
	c.Flags().BoolVar(&o.keep, "keep", false, "leave the lab up")
	c.Flags().StringVar(&o.name, "name", demoName, "the lab's name")
	c.Flags().BoolVar(&o.fake, "fake", false, "use the fake kernel even where eBPF is permitted")
	addRoutingFlag(c, &o.routing)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkRouting(o.routing); err != nil {
			return err
		}
		s := &story{out: g.out, colours: colourful(g), pause: 2 * time.Second}
		o.keep = o.keep || truthy(g.getenv("KEEP"))
		return runDemo(c.Context(), g, s, o)
	}
	return c
}

type demoOptions struct {
	name, routing string
	keep, fake    bool
}

// runDemo builds the lab, tells the story, and clears away.
func runDemo(ctx context.Context, g *globals, s *story, o demoOptions) (err error) {
	shop, err := demoManifests("shop")
	if err != nil {
		return err
	}
	if s.policies, err = demoManifests("policies"); err != nil {
		return err
	}
	why := lab.Check()
	if o.fake {
		why = errors.New("asked for by --fake")
	}
	begin := time.Now()
	var l ports.Lab
	if why == nil {
		fmt.Fprintf(s.out, "weir demo on eBPF: real packets through the kernel (Linux %s)\n", kernelRelease())
		l, err = realLab(ctx, g, o, shop)
	} else {
		fmt.Fprintf(s.out, "weir demo on the FAKE KERNEL: no packet leaves this process (%s)\n", oneLine(why))
		l, err = fakeLab(ctx, 2, shop)
	}
	if err != nil {
		return err
	}
	s.lab = l
	s.say("the shop is up after %s", round(time.Since(begin)))
	failed := s.tell(ctx)
	if o.keep && l.Datapath() == "ebpf" {
		s.say("\nThe lab stays (KEEP). Some things to try:\n"+
			"  weir lab status\n"+
			"  weir lab exec production/frontend -- sh\n"+
			"  weir lab probe --from visitors/stranger\n"+
			"  weir --socket %s observe --last 20\n"+
			"  weir lab down", lab.DefaultRoot+"/"+o.name+"/nodes/node1/run/weir.sock")
	} else if err := l.Down(context.WithoutCancel(ctx)); err != nil {
		failed = append(failed, "clearing away: "+err.Error())
	}
	return s.end(failed, time.Since(begin))
}

func realLab(ctx context.Context, g *globals, o demoOptions, shop []ports.LabManifest) (ports.Lab, error) {
	l, err := newLab(g, o.name, o.routing)
	if err != nil {
		return nil, err
	}
	findings, err := l.Up(ctx, 2, shop)
	if bad := printFindings(g.err, findings); err == nil && bad != nil {
		err = errors.Join(errors.New("the shop's own manifests have errors"), l.Down(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// demoManifests reads a folder of the embedded shop.
func demoManifests(dir string) ([]ports.LabManifest, error) {
	names, err := fs.Glob(demo.Files, dir+"/*.yaml")
	if err != nil {
		return nil, err
	}
	var out []ports.LabManifest
	for _, n := range names {
		b, err := demo.Files.ReadFile(n)
		if err != nil {
			return nil, err
		}
		out = append(out, ports.LabManifest{File: "deploy/demo/" + n, Content: b})
	}
	return out, nil
}

// colourful says whether the output is a terminal whose user did not ask for plain text.
func colourful(g *globals) bool {
	f, ok := g.out.(*os.File)
	if !ok || g.getenv("NO_COLOR") != "" || g.getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func truthy(s string) bool { return s != "" && s != "0" && s != "false" && s != "no" }

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
