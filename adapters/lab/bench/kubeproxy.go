package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/lab"
)

// Modes of kube-proxy.
const (
	ProxyNFTables = "nftables"
	ProxyIPTables = "iptables"
)

// ProxyModes are those that a run can have.
var ProxyModes = []string{ProxyNFTables, ProxyIPTables}

// proxyTimeout is how long kube-proxy may take until its rules are there. 1,000 services take it seconds.
const proxyTimeout = 2 * time.Minute

// kubeProxy is a running one, in front of the plain network that it serves.
type kubeProxy struct {
	services int
	cmd      *exec.Cmd
	api      *http.Server
	dir      string
	said     lockedBuffer
	ended    chan struct{} // closed when the process is gone
	fate     error         // how it ended
}

// lockedBuffer is written by a process and read by us.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) tail(lines int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := strings.Split(strings.TrimSpace(l.b.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// proxiedBy gives the plain network whose first node has kube-proxy with as many services as the lab.
func (b *bed) proxiedBy(ctx context.Context, services int) (*lab.Plain, error) {
	if b.proxyMode == "" {
		b.proxyMode = ProxyNFTables
	}
	if b.proxied == nil {
		mtu, err := b.client.MTU()
		if err != nil {
			return nil, err
		}
		p, err := b.lab.BuildPlain("k", lab.PlainOptions{MTU: mtu})
		if err != nil {
			return nil, err
		}
		if err := p.A.Set(tuning...); err != nil {
			return nil, err
		}
		b.proxied = p
	}
	if b.proxy != nil && b.proxy.services == services {
		return b.proxied, nil
	}
	b.stopProxy()
	proxy, err := b.startProxy(services)
	if err != nil {
		return nil, fmt.Errorf("kube-proxy: %w", err)
	}
	b.proxy = proxy
	if err := b.awaitProxy(ctx, services); err != nil {
		b.stopProxy()
		return nil, fmt.Errorf("kube-proxy: %w; %s", err, proxy.said.tail(5))
	}
	return b.proxied, nil
}

func (b *bed) stopProxy() {
	if b.proxy == nil {
		return
	}
	p := b.proxy
	b.proxy = nil
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	_ = p.api.Close()
	_ = os.RemoveAll(p.dir)
}

// proxyNode is the name of the node that kube-proxy serves.
const proxyNode = "node1"

// startProxy runs kube-proxy in the node of the plain network, with an API server of ours that knows what it asks for.
func (b *bed) startProxy(services int) (*kubeProxy, error) {
	node := b.proxied.Node
	p := &kubeProxy{services: services, ended: make(chan struct{})}
	var err error
	if p.dir, err = os.MkdirTemp("", "weir-bench-"); err != nil {
		return nil, err
	}
	var listener net.Listener
	err = node.Do(func() error {
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	p.api = &http.Server{Handler: newProxyAPI(node.IPs, b.proxied.B.IPs, services), ReadHeaderTimeout: time.Minute}
	go func() { _ = p.api.Serve(listener) }()
	undo := func(err error) error { return errors.Join(err, p.api.Close(), os.RemoveAll(p.dir)) }

	file := filepath.Join(p.dir, "config.yaml")
	if err := os.WriteFile(file, []byte(proxyConfig(p.dir, b.proxyMode, node.IPs)), 0o600); err != nil {
		return nil, undo(err)
	}
	kubeconfig := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"http://%s\"}}]\n"+
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", listener.Addr())
	if err := os.WriteFile(filepath.Join(p.dir, "kubeconfig"), []byte(kubeconfig), 0o600); err != nil {
		return nil, undo(err)
	}
	cmd, dir, err := b.lab.Command(node, b.proxyProgram, "--config", file, "--hostname-override", proxyNode)
	if err != nil {
		return nil, undo(err)
	}
	defer dir.Close()
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		return nil, undo(err)
	}
	p.cmd = cmd
	go func() {
		p.fate = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// proxyConfig leaves alone what is the machine's: its connection tracking has the size it has.
func proxyConfig(dir, mode string, nodeIPs []netip.Addr) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
bindAddress: %s
clientConnection: {kubeconfig: %s, contentType: application/json, acceptContentTypes: application/json}
detectLocalMode: ClusterCIDR
clusterCIDR: 10.251.0.0/16,fd00:10:251::/48
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, mode, nodeIPs[0], filepath.Join(dir, "kubeconfig"))
}

// awaitProxy returns once the service that is written last is reached in both families.
func (b *bed) awaitProxy(ctx context.Context, services int) error {
	last := nearService
	if services > 1 {
		last = 255 + services - 1
	}
	to := b.proxied.B
	for _, family := range []int{4, 6} {
		var listener net.Listener
		err := to.Do(func() (err error) {
			listener, err = net.Listen("tcp", netip.AddrPortFrom(to.IP(family), port).String())
			return err
		})
		if err != nil {
			return err
		}
		err = b.reach(ctx, netip.AddrPortFrom(clusterIP(last, family), port))
		if err = errors.Join(err, listener.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) reach(ctx context.Context, at netip.AddrPort) error {
	deadline := time.Now().Add(proxyTimeout)
	for {
		err := b.proxied.A.Do(func() error {
			c, err := net.DialTimeout("tcp", at.String(), 200*time.Millisecond)
			if err != nil {
				return err
			}
			return c.Close()
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.proxy.ended:
			return fmt.Errorf("it ended: %v", b.proxy.fate)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not reached after %s: %w", at, proxyTimeout, err)
		}
	}
}

// families orders addresses as the API does, IPv4 first.
func families(ips []netip.Addr) []netip.Addr {
	out := slices.Clone(ips)
	slices.SortFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return out
}
