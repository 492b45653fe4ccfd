package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/cluster"
)

// serverTimeout bounds the wait for a pod's server to listen.
const serverTimeout = 10 * time.Second

// podManifest is what the lab reads of a Pod.
type podManifest struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Spec struct {
		NodeName       string      `json:"nodeName"`
		HostNetwork    bool        `json:"hostNetwork"`
		Containers     []container `json:"containers"`
		InitContainers []container `json:"initContainers"`
	} `json:"spec"`
	Status struct {
		Phase  string `json:"phase"`
		PodIP  string `json:"podIP"`
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
	} `json:"status"`
}

type container struct {
	RestartPolicy string `json:"restartPolicy"` // "Always" makes an init container a sidecar
	Ports         []struct {
		ContainerPort int `json:"containerPort"`
	} `json:"ports"`
}

// finished says whether the pod owns no address any more.
func (m *podManifest) finished() bool {
	return m.Status.Phase == "Succeeded" || m.Status.Phase == "Failed"
}

// ports are the numbers of all declared container ports, sorted, each once.
func (m *podManifest) ports() []uint16 {
	out := []uint16{}
	for _, c := range append(slices.Clone(m.Spec.Containers), m.Spec.InitContainers...) {
		for _, p := range c.Ports {
			if p.ContainerPort > 0 && p.ContainerPort <= 65535 {
				out = append(out, uint16(p.ContainerPort))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wanted are the addresses that the manifest asks for, one a family.
func (m *podManifest) wanted() []netip.Addr {
	var out []netip.Addr
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil && !hasFamily(out, a) {
			out = append(out, a.Unmap())
		}
	}
	add(m.Status.PodIP)
	for _, p := range m.Status.PodIPs {
		add(p.IP)
	}
	return out
}

// planPod reads a Pod object, completes it (node, uid) and tells how the pod shall be. Nil without
// findings: nothing is to run for it.
func (l *Lab) planPod(o *object, load map[string]int, running *podState) (*podState, []cluster.Finding) {
	var m podManifest
	if err := o.decode(&m); err != nil {
		return nil, []cluster.Finding{o.finding("", "cannot be read as a Pod: %v", err)}
	}
	if m.finished() {
		return nil, nil
	}
	p := &podState{Name: o.podName(), HostNetwork: m.Spec.HostNetwork, Ports: m.ports()}
	if !p.HostNetwork { // a host network pod has its node's addresses, whatever it says
		p.Wanted = m.wanted()
	}
	switch {
	case m.Spec.NodeName != "":
		if l.node(m.Spec.NodeName) == nil {
			return nil, []cluster.Finding{o.finding("spec.nodeName", "%q is no node of the lab; there are %s", m.Spec.NodeName, nodeNames(l.st.Nodes))}
		}
		p.Node = m.Spec.NodeName
	case running != nil:
		p.Node = running.Node
	default:
		p.Node = place(l.st.Nodes, load, p.Wanted).Name
	}
	switch {
	case m.Metadata.UID != "":
		p.UID = m.Metadata.UID
	case running != nil:
		p.UID = running.UID
	default:
		p.UID = newUID()
	}
	p.ContainerID = newContainerID()
	o.set(p.UID, "metadata", "uid")
	o.set(p.Node, "spec", "nodeName")
	return p, nil
}

// setStatus writes what a kubelet would report: the addresses, or "Pending" without any.
func (l *Lab) setStatus(o *object, p *podState) {
	phase, ready := "Pending", "False"
	delete(o.tree, "status")
	if len(p.IPs) > 0 {
		phase, ready = "Running", "True"
		var ips []any
		for _, ip := range p.IPs {
			ips = append(ips, map[string]any{"ip": ip.String()})
		}
		o.set(p.IPs[0].String(), "status", "podIP")
		o.set(ips, "status", "podIPs")
	}
	if n := l.node(p.Node); n != nil && len(n.Addresses) > 0 {
		o.set(n.Addresses[0].String(), "status", "hostIP")
	}
	o.set(phase, "status", "phase")
	o.set([]any{
		map[string]any{"type": "Ready", "status": ready},
		map[string]any{"type": "ContainersReady", "status": ready},
	}, "status", "conditions")
}

// createPod attaches a pod and starts its server. The object is already stored, as Pending; it is
// stored again once the pod has its addresses. After an error nothing of the pod is left but its object.
func (l *Lab) createPod(ctx context.Context, o *object, p *podState) (err error) {
	if err := l.savePod(p); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.removePod(context.WithoutCancel(ctx), p))
		}
	}()
	if err := makeCgroup(l.podCgroup(p.Node, p.Name)); err != nil {
		return err
	}
	if p.HostNetwork {
		p.IPs = l.node(p.Node).Addresses
	} else {
		if _, err := netns.Create(l.podNetns(p.Name)); err != nil {
			return err
		}
		if err := enableIPv6(l.podNetns(p.Name)); err != nil {
			return err
		}
		if p.IPs, err = l.cniAdd(ctx, p); err != nil {
			return err
		}
	}
	if err := l.savePod(p); err != nil {
		return err
	}
	if err := l.startServer(ctx, p); err != nil {
		return err
	}
	l.setStatus(o, p)
	_, err = l.write(o)
	return err
}

// netnsOf is the namespace that a pod's processes run in.
func (l *Lab) netnsOf(p *podState) string {
	if p.HostNetwork {
		return l.nodeNetns(p.Node)
	}
	return l.podNetns(p.Name)
}

// startServer runs the pod's process and waits until it listens.
func (l *Lab) startServer(ctx context.Context, p *podState) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	server, err := l.startDaemon(l.netnsOf(p), l.podCgroup(p.Node, p.Name), l.podLog(p.Name), []*os.File{w},
		l.o.Self, helperServe, "--name", p.Name.String(), "--ports", joinPorts(p.Ports))
	w.Close()
	p.Server = server
	if err := errors.Join(err, l.savePod(p)); err != nil {
		return err
	}
	deadline := time.Now().Add(serverTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := r.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	b := make([]byte, 16)
	if n, err := r.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "ready") {
		return fmt.Errorf("pod %s: its server does not listen: %w: %s", p.Name, err, tail(l.podLog(p.Name), 3))
	}
	return nil
}

// removePod undoes createPod; it may have been left at any point. Absent is no error.
func (l *Lab) removePod(ctx context.Context, p *podState) error {
	var errs []error
	errs = append(errs, p.Server.stop(0))
	if l.st != nil && l.st.Cgroup != "" {
		errs = append(errs, removeCgroup(l.podCgroup(p.Node, p.Name), 5*time.Second))
	}
	if !p.HostNetwork {
		errs = append(errs, l.cniDel(ctx, p), netns.Delete(l.podNetns(p.Name)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pod %s: remove: %w", p.Name, err)
	}
	return errors.Join(removeFile(l.podFile(p.Name)), removeFile(l.podLog(p.Name)))
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// newUID makes a random (version 4) UUID.
func newUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newContainerID makes an id of the form that container runtimes use.
func newContainerID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
