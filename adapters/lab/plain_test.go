package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/lab/load"
	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// Everything in plain networks and pairs reaches its peer in both families with packets of full size, from the
// places' own processes; Down leaves nothing.
func TestPlain(t *testing.T) {
	l := newLab(t, "t4")
	first, _, _ := strings.Cut(twoPods, "---")
	_, err := l.Up(context.Background(), 1, manifests(first))
	require.NoError(t, err)
	pod, err := l.PodPlace(cluster.Name{Namespace: "shop", Name: "a"})
	require.NoError(t, err)
	_, err = l.PodPlace(cluster.Name{Namespace: "shop", Name: "zz"})
	require.ErrorIs(t, err, ports.ErrNotFound)
	mtu, err := pod.MTU()
	require.NoError(t, err)
	require.Equal(t, 1500, mtu)

	tunnelled, err := l.BuildPlain("v", PlainOptions{MTU: 1450, VXLAN: true})
	require.NoError(t, err)
	routed, err := l.BuildPlain("r", PlainOptions{MTU: 1500})
	require.NoError(t, err)
	short, err := l.BuildPlain("s", PlainOptions{MTU: 1500, Shortcut: true})
	if errors.Is(err, ports.ErrUnsupported) {
		short = routed // only newer kernels have what it takes
	} else {
		require.NoError(t, err)
		defer short.Close()
	}
	left, right, err := l.BuildPair("p", 1400)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		from, to Place
		mtu      int
	}{
		"same node":       {tunnelled.A, tunnelled.B, 1450},
		"tunnelled":       {tunnelled.A, tunnelled.Other, 1450},
		"tunnelled, back": {tunnelled.Other, tunnelled.A, 1450},
		"routed":          {routed.A, routed.Other, 1500},
		"shortcut":        {short.A, short.Other, 1500},
		"pair":            {left, right, 1400},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range []Place{tc.from, tc.to} {
				got, err := p.MTU()
				require.NoError(t, err)
				require.Equal(t, tc.mtu, got)
				require.NoError(t, p.Set(Setting{"ipv4/tcp_tw_reuse", "1"}))
			}
			for _, family := range []int{4, 6} {
				require.True(t, tc.to.IP(family).IsValid())
				r := streamBetween(t, l, tc.from, tc.to, netip.AddrPortFrom(tc.to.IP(family), 7000))
				require.Positive(t, r.Bytes)
			}
		})
	}
	require.Positive(t, sentBy(t, l.netnsPrefix()+"plain-v-node1", "vxlan0"), "what was to be tunnelled")
	require.Negative(t, sentBy(t, l.netnsPrefix()+"plain-r-node1", "vxlan0"), "no such device where nodes route")
	if short != routed {
		through := func() string {
			out, err := inspectStack(l.netnsPrefix() + "plain-s-node2")
			require.NoError(t, err)
			return out
		}
		before := through()
		streamBetween(t, l, short.A, short.Other, netip.AddrPortFrom(short.Other.IP(4), 7000))
		require.Equal(t, before, through(), "the nodes' stacks forward nothing")
	}
	require.False(t, Place{}.IP(4).IsValid())
	require.Error(t, left.Set(Setting{"ipv4/no_such_setting", "1"}))
}

// inspectStack tells how many packets a namespace's IPv4 stack forwarded.
func inspectStack(space string) (out string, err error) {
	err = netns.Do(netns.Path(space), func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		for _, line := range strings.Split(string(text), "\n") {
			if f := strings.Fields(line); len(f) > 6 && f[0] == "Ip:" {
				out = f[6] // the second such line has the numbers
			}
		}
		return err
	})
	return out, err
}

// sentBy gives the bytes that a device sent; -1 if there is none.
func sentBy(t *testing.T, space, device string) int64 {
	t.Helper()
	c, err := dialNetns(space)
	require.NoError(t, err)
	defer c.Close()
	links, err := c.Link.List()
	require.NoError(t, err)
	for _, l := range links {
		if l.Attributes.Name == device {
			return int64(l.Attributes.Stats64.TXBytes)
		}
	}
	return -1
}

// streamBetween runs both ends of a stream for a moment.
func streamBetween(t *testing.T, l *Lab, from, to Place, at netip.AddrPort) load.Report {
	t.Helper()
	type end struct {
		in     io.WriteCloser
		out    *bufio.Reader
		stderr *bytes.Buffer
		wait   func() error
	}
	start := func(p Place, j load.Job) end {
		cmd, dir, err := l.LoadCommand(p)
		require.NoError(t, err)
		defer dir.Close()
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		line, err := json.Marshal(j)
		require.NoError(t, err)
		_, err = in.Write(append(line, '\n'))
		require.NoError(t, err)
		return end{in, bufio.NewReader(out), &stderr, cmd.Wait}
	}
	job := load.Job{Role: load.Server, Kind: load.TCPStream, Addr: at, CPU: -1, Bound: 20 * time.Second}
	server := start(to, job)
	word, err := server.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, load.ReadyLine, word)
	job.Role, job.Duration = load.Client, 50*time.Millisecond
	client := start(from, job)
	var r load.Report
	derr := json.NewDecoder(client.out).Decode(&r)
	require.NoError(t, errors.Join(derr, client.wait()), client.stderr.String())
	require.NoError(t, server.in.Close())
	require.NoError(t, server.wait())
	return r
}
