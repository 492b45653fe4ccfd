package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func (b *Bed) bin(name string) string { return filepath.Join(b.dir, "bin", name) }

func (b *Bed) startEtcd() error {
	const url = "http://127.0.0.1:2379"
	return b.Start("etcd", "cp", b.bin("etcd"), "--data-dir", filepath.Join(b.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "warn")
}

// StartControlPlane starts everything but etcd and waits until the API server is ready and, unless
// APIOnly, the controllers have made the default namespace's ServiceAccount.
func (b *Bed) StartControlPlane(ctx context.Context) error {
	err := b.Start("kube-apiserver", "cp", b.bin("kube-apiserver"),
		"--etcd-servers", "http://127.0.0.1:2379", "--etcd-compaction-interval", "0",
		"--advertise-address", APIServer, "--secure-port", fmt.Sprint(APIPort),
		"--tls-cert-file", b.pki("server.crt"), "--tls-private-key-file", b.pki("server.key"), "--client-ca-file", b.pki("ca.crt"),
		"--token-auth-file", b.pki("tokens.csv"), "--authorization-mode", "Node,RBAC", "--allow-privileged=true",
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", b.pki("sa.key"), "--service-account-signing-key-file", b.pki("sa.key"),
		"--service-cluster-ip-range", b.ranges(ServiceRange4, ServiceRange6),
		// There is no DNS that knows the nodes' names: exec and logs go to the addresses.
		"--kubelet-preferred-address-types", "InternalIP")
	if err != nil {
		return err
	}
	if err := b.waitAPI(ctx); err != nil {
		return err
	}
	if b.o.APIOnly {
		return nil
	}
	// The default limit of 20 requests a second costs five seconds at the start alone.
	limits := []string{"--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=500"}
	err = b.Start("kube-controller-manager", "cp", append([]string{b.bin("kube-controller-manager"),
		"--kubeconfig", b.pki("kube-controller-manager.kubeconfig"), "--use-service-account-credentials",
		"--service-account-private-key-file", b.pki("sa.key"), "--root-ca-file", b.pki("ca.crt"),
		"--cluster-signing-cert-file", b.pki("ca.crt"), "--cluster-signing-key-file", b.pki("ca.key"),
		"--allocate-node-cidrs", "--cluster-cidr", b.ranges(PodRanges4, PodRanges6),
		"--service-cluster-ip-range", b.ranges(ServiceRange4, ServiceRange6),
		"--node-monitor-period=2s", "--node-monitor-grace-period=12s"}, limits...)...)
	if err != nil {
		return err
	}
	err = b.Start("kube-scheduler", "cp", append([]string{b.bin("kube-scheduler"), "--kubeconfig", b.pki("kube-scheduler.kubeconfig")}, limits...)...)
	if err != nil {
		return err
	}
	return poll(ctx, "controllers", func() error {
		if err := errors.Join(b.alive("kube-controller-manager"), b.alive("kube-scheduler")); err != nil {
			return err
		}
		_, err := b.Kubectl("-n", "default", "get", "serviceaccount", "default")
		return err
	})
}

func (b *Bed) waitAPI(ctx context.Context) error {
	return poll(ctx, "API server", func() error {
		if err := errors.Join(b.alive("etcd"), b.alive("kube-apiserver")); err != nil {
			return err
		}
		out, err := b.Kubectl("get", "--raw", "/readyz")
		if err == nil && out != "ok" {
			err = errors.New(out)
		}
		return err
	})
}

// StopControlPlane kills everything but etcd, as the loss of the machine would. The controllers go
// too: one that merely cannot reach the API server finds every node's report overdue when it can again,
// and takes the nodes' pods out of their Services.
func (b *Bed) StopControlPlane() {
	for _, name := range []string{"kube-scheduler", "kube-controller-manager", "kube-apiserver"} {
		b.Stop(name, os.Kill, time.Minute)
	}
}

// RoutePods gives the control plane routes to the pods of all nodes that have registered, for tests in which the API server is a
// proxy to pods, or calls them.
func (b *Bed) RoutePods() error {
	for i := 1; i <= b.o.Nodes; i++ {
		ranges, err := b.Kubectl("get", "node", NodeName(i), "-o", "jsonpath={.spec.podCIDRs[*]}")
		if err != nil {
			return err
		}
		for _, r := range strings.Fields(ranges) {
			via := NodeAddress(i).String()
			if strings.Contains(r, ":") {
				via = NodeAddress6(i).String()
			}
			if err := b.ip([]string{"-n", b.namespace("cp"), "route", "replace", r, "via", via}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Kubectl runs kubectl as the administrator and gives its output without the last newline; the error
// holds what it printed.
func (b *Bed) Kubectl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd, err := b.OnControlPlane(ctx, append([]string{"kubectl"}, args...)...)
	if err != nil {
		return "", err
	}
	out, err := output(cmd)
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out, err
}

// OnControlPlane is a command that runs in the control plane's network, as the administrator
// (KUBECONFIG), with the cluster's binaries first in PATH.
func (b *Bed) OnControlPlane(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	if !exists(b.Namespace("cp")) {
		return nil, fmt.Errorf("cluster %s is not up", b.o.Prefix)
	}
	args := append([]string{"--net=" + b.Namespace("cp"), "env", "KUBECONFIG=" + b.Kubeconfig(), "PATH=" + b.bin("") + ":" + os.Getenv("PATH")}, argv...)
	return exec.CommandContext(ctx, "nsenter", args...), nil
}
