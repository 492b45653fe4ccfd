package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/rtnetlink"
)

func TestLoopbackPlugin(t *testing.T) {
	pod := newNamespace(t, "loop")
	run := func(verb string) (string, error) {
		cmd := exec.Command(os.Args[0])
		cmd.Args[0] = "/opt/cni/bin/loopback"
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_PATH=/opt/cni/bin", "CNI_IFNAME=lo", "CNI_CONTAINERID=c1", "CNI_NETNS="+pod)
		cmd.Stdin = bytes.NewBufferString(`{"cniVersion": "0.4.0", "name": "cni-loopback", "type": "loopback"}`)
		out, err := cmd.Output()
		return string(out), err
	}
	require.NoError(t, rtnetlink.WithNetns(pod, exec.Command("ip", "link", "set", "lo", "down").Run))
	out, err := run("CHECK")
	require.Error(t, err)
	assert.Contains(t, out, "the loopback device is down")

	out, err = run("ADD")
	require.NoError(t, err, out)
	assert.JSONEq(t, `{"cniVersion": "0.4.0", "dns": {}, "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "`+pod+`"}],
		"ips": [{"version": "4", "interface": 0, "address": "127.0.0.1/8"}, {"version": "6", "interface": 0, "address": "::1/128"}]}`, out)
	_, err = run("CHECK")
	require.NoError(t, err)
	require.NoError(t, rtnetlink.WithNetns(pod, func() error {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			return err
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		return c.Close()
	}))

	pod += "-gone"
	_, err = run("DEL")
	assert.NoError(t, err, "a pod whose namespace is gone can be removed")
}
