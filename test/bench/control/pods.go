package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attached is a pod with a network namespace and an address.
type attached struct {
	namespace, name string
	ns              *os.File
	ip              netip.Addr
}

// add calls the CNI plugin for a pod that the cluster knows, and returns the time that the call took.
func (b *bed) add(namespace, name string) (*attached, time.Duration, error) {
	ns, err := newNetns()
	if err != nil {
		return nil, 0, err
	}
	p := &attached{namespace: namespace, name: name, ns: ns}
	out, took, err := b.cni("ADD", p)
	if err != nil {
		return nil, 0, err
	}
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &result); err != nil || len(result.IPs) == 0 {
		return nil, 0, fmt.Errorf("CNI ADD of %s/%s: no address in %q (%w)", namespace, name, out, err)
	}
	p.ip = result.IPs[0].Address.Addr()
	return p, took, nil
}

func (b *bed) cni(verb string, p *attached) ([]byte, time.Duration, error) {
	conf, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": "cilium", "type": "weir-cni", "agentSocket": b.socket()})
	if err != nil {
		return nil, 0, err
	}
	group, err := os.OpenFile(filepath.Join(b.cgroup, "agents"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer group.Close()
	c := exec.Command(filepath.Join(b.bin, "weir-cni"))
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(conf), &stdout, &stderr
	c.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.namespace + "-" + p.name, "CNI_IFNAME=eth0", "CNI_PATH=" + b.bin,
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), p.ns.Fd()),
		fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=uid-%s-%s", p.namespace, p.name, p.namespace, p.name),
	}
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	start := time.Now()
	if err := within(b.node, c.Start); err != nil {
		return nil, 0, err
	}
	err = c.Wait()
	took := time.Since(start)
	if err != nil {
		return nil, 0, fmt.Errorf("CNI %s of %s/%s: %w: %s%s", verb, p.namespace, p.name, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), took, nil
}

// serve answers in a pod: over TCP with one byte to whoever connects, over UDP with the datagram.
func (p *attached) serve(port uint16, answer byte) error {
	return within(p.ns, func() error {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: int(port)})
		if err != nil {
			return err
		}
		u, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte{answer})
				_ = c.Close()
			}
		}()
		go func() {
			buf := make([]byte, 64)
			for {
				n, from, err := u.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				_, _ = u.WriteToUDPAddrPort(buf[:n], from)
			}
		}()
		return nil
	})
}
