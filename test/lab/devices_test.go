package lab_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/ports"
)

// The agent follows devices and addresses that come, change and go while it runs, and while it does not.
func TestDevicesComeAndGo(t *testing.T) {
	n := name(t, "dev")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "np.yaml"), []byte(nodePortCluster), 0o644))
	must(t, "lab", "up", "--name", n, "-f", dir)
	node, outside := "weir-"+n+"-node-node1", "weir-"+n+"-lan"
	ip := func(batch ...string) {
		t.Helper()
		c := exec.Command("ip", "-n", node, "-batch", "-")
		c.Stdin = strings.NewReader(strings.Join(batch, "\n") + "\n")
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	client := []string{"addr add 203.0.113.2/24 dev wan", "addr add 2001:db8:113::2/64 dev wan nodad", "link set wan up"}
	wan := []string{
		"link add wan type veth peer name wan netns " + outside,
		"addr add 203.0.113.1/24 dev wan", "addr add 2001:db8:113::1/64 dev wan nodad", "link set wan up",
		"route add default via 203.0.113.2 dev wan metric 500 onlink",
	}
	plug := func() {
		t.Helper()
		ip(wan...)
		for _, args := range client {
			must(t, append([]string{"lab", "exec", "--name", n, "outside", "--", "ip"}, strings.Fields(args)...)...)
		}
	}
	status := func() (s ports.Status) {
		t.Helper()
		c := exec.Command(filepath.Join(bin, "weir"), "lab", "exec", "--name", n, "node/node1", "--", filepath.Join(bin, "weir"), "status", "-o", "json")
		out, _ := c.Output() // it exits with 1 when something is wrong
		require.NoError(t, json.Unmarshal(out, &s), "%s", out)
		return s
	}
	// devices waits until those in force are as they should be.
	devices := func(want ...string) {
		t.Helper()
		var got []string
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got = nil
			for _, d := range status().Services.Devices {
				got = append(got, fmt.Sprint(d.Name, d.Addresses))
			}
			if fmt.Sprint(got) == fmt.Sprint(want) {
				return
			}
			require.True(t, time.Now().Before(end), "devices are %q, must be %q", got, want)
		}
	}
	answers := func(addrs ...string) {
		t.Helper()
		want := map[string]string{}
		for _, a := range addrs {
			for _, network := range []string{"tcp/", "udp/"} {
				want[network+a+":30081"], want[network+a+":30082"] = "np/one", "np/two"
			}
		}
		requireAnswers(t, n, "outside", want)
	}
	const eth0, wanAddrs = "eth0[172.30.0.11 fd00:172:30::11]", "[203.0.113.1 2001:db8:113::1]"
	devices(eth0)
	ip("addr add 172.30.0.111/24 dev eth0", "addr add fd00:172:30::111/64 dev eth0 nodad")
	devices("eth0[172.30.0.11 172.30.0.111 fd00:172:30::11 fd00:172:30::111]")
	answers("172.30.0.111", "[fd00:172:30::111]")
	ip("addr del 172.30.0.111/24 dev eth0", "addr del fd00:172:30::111/64 dev eth0")
	devices(eth0)

	plug()
	devices(eth0, "wan"+wanAddrs)
	answers("203.0.113.1", "[2001:db8:113::1]", "172.30.0.11")
	ip("link set wan down")
	devices(eth0) // the default route is gone, too
	ip(append([]string{"link set wan name lan7", "link set lan7 up", "addr add 2001:db8:113::1/64 dev lan7 nodad"},
		"route add default via 203.0.113.2 dev lan7 metric 500 onlink")...)
	devices(eth0, "lan7"+wanAddrs)
	answers("203.0.113.1", "[2001:db8:113::1]")
	ip("link del lan7")
	devices(eth0)

	// A hundred times, and the agent is killed in the middle; who calls by another device notices nothing.
	keep := caller(n, "outside", "keep "+at("tcp", "node1", 0, 30081)+" "+at("udp", "node1", 1, 30082))
	in, err := keep.StdinPipe()
	require.NoError(t, err)
	var out, errs bytes.Buffer
	keep.Stdout, keep.Stderr = &out, &errs
	require.NoError(t, keep.Start())
	var flaps []string
	for range 50 {
		flaps = append(append(flaps, wan...), "link del wan")
	}
	ip(flaps...)
	killed := make(chan string, 1)
	go func() {
		b, err := exec.Command(filepath.Join(bin, "weir"), "lab", "agent", "kill", "--name", n, "node1").CombinedOutput()
		killed <- fmt.Sprintf("%v %s", err, b)
	}()
	ip(flaps...)
	require.Contains(t, <-killed, "<nil>")
	plug()
	must(t, "lab", "agent", "start", "--name", n, "node1")
	devices(eth0, "wan"+wanAddrs)
	answers("203.0.113.1", "[2001:db8:113::1]", "172.30.0.11")
	require.NoError(t, in.Close())
	require.NoError(t, keep.Wait(), errs.String())
	var got []calls
	require.NoError(t, json.Unmarshal(out.Bytes(), &got), out.String())
	for _, c := range got {
		assert.Zero(t, c.Lost, "%+v", c)
		assert.Positive(t, c.Sent, "%+v", c)
	}

	ip("link del wan")
	devices(eth0)
	pins, err := filepath.Glob(filepath.Join("/run/weir/lab", n, "nodes/node1/bpf/links/*_network_*"))
	require.NoError(t, err)
	if status().Attach == "TCX" {
		assert.Len(t, pins, 2, "nothing is left of a hundred devices: %v", pins)
	}
	own := must(t, "lab", "exec", "--name", n, "node/node1", "--", filepath.Join(bin, "weir"), "bpf", "endpoint", "list")
	assert.NotContains(t, own, "113")
	assert.Contains(t, own, "172.30.0.11")

	ip("addr del 172.30.0.11/24 dev eth0")
	devices("eth0[fd00:172:30::11]")
	assert.Contains(t, strings.Join(status().Problems, "\n"), "no device has the node's address 172.30.0.11")
}
