package lab_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// transferEnv makes this test binary one end of a transfer: "receive ADDRESS" or "send ADDRESS".
const transferEnv = "WEIR_TEST_TRANSFER"

const (
	transferSize    = 48 << 20
	transferTimeout = 40 * time.Second
)

// transfer is one end: it prints the hash of what it received or sent.
func transfer(order string) error {
	role, address, _ := strings.Cut(order, " ")
	hash := sha256.New()
	if role == "receive" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(transferTimeout))
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(transferTimeout))
		if _, err := io.Copy(hash, c); err != nil {
			return err
		}
	} else {
		var c net.Conn
		var err error
		for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			if c, err = net.DialTimeout("tcp", address, time.Second); err == nil || time.Since(begin) > 10*time.Second {
				break
			}
		}
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(transferTimeout))
		rng := rand.NewChaCha8([32]byte{1})
		if _, err := io.CopyN(io.MultiWriter(c, hash), rng, transferSize); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	fmt.Printf("%x\n", hash.Sum(nil))
	return nil
}

// requireTransfers sends a lot of bytes between two pods on different nodes, in both families: segments far larger
// than packets go through the datapath, and everything arrives as it was.
func requireTransfers(t *testing.T, lab, from, to string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	var status struct {
		Pods []struct {
			Name string   `json:"name"`
			IPs  []string `json:"ips"`
		} `json:"pods"`
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "lab", "status", "--name", lab, "-o", "json")), &status))
	var ips []string
	for _, p := range status.Pods {
		if p.Name == to {
			ips = p.IPs
		}
	}
	require.Len(t, ips, 2, "pod %s", to)
	for i, ip := range ips {
		address := net.JoinHostPort(ip, fmt.Sprint(9500+i))
		run := func(pod, order string) (*exec.Cmd, *bytes.Buffer) {
			c := exec.Command(filepath.Join(bin, "weir"), "lab", "exec", "--name", lab, pod, "--", self)
			c.Env = append(os.Environ(), transferEnv+"="+order)
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			require.NoError(t, c.Start())
			return c, &out
		}
		server, received := run(to, "receive "+address)
		client, sent := run(from, "send "+address)
		require.NoError(t, client.Wait(), "%s: %s", address, sent)
		require.NoError(t, server.Wait(), "%s: %s", address, received)
		require.Equal(t, sent.String(), received.String())
		require.Len(t, strings.TrimSpace(sent.String()), 64)
	}
}
