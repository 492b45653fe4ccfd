package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// shopLab behaves as the shop should, but for one fault.
type shopLab struct {
	fault   string
	applied bool
	traffic bool
	dead    int
	downs   int
}

var errFault = errors.New("injected")

func (l *shopLab) failing(name string) error {
	if l.fault == name {
		return errFault
	}
	return nil
}

func (l *shopLab) Datapath() string { return "fake" }

func (l *shopLab) Nodes(context.Context) ([]ports.LabNode, error) {
	nodes := []ports.LabNode{{Name: "node1", Ready: true}, {Name: "node2", Ready: l.fault != "unready node"}}
	return nodes, l.failing("nodes")
}

func (l *shopLab) Pods(context.Context) ([]ports.LabPod, error) {
	var out []ports.LabPod
	for i, n := range shopPods {
		p := ports.LabPod{Name: n, Node: "node1", Identity: identity.ID(300 + i), IPs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}), netip.MustParseAddr("fd00::1"),
		}}
		if strings.HasPrefix(n.Name, "backend") {
			p.Identity = 400
		}
		if n == backend2 && l.fault != "one node" {
			p.Node = "node2"
		}
		switch l.fault {
		case "own identities":
			p.Identity = identity.ID(300 + i)
		case "one identity":
			p.Identity = 300
		case "no identity":
			p.Identity = 0
		case "single stack":
			p.IPs = p.IPs[:1]
		}
		out = append(out, p)
	}
	if l.fault == "missing pod" {
		out = out[1:]
	}
	return out, l.failing("pods")
}

func (l *shopLab) Apply(_ context.Context, files []ports.LabManifest) ([]cluster.Finding, error) {
	l.applied = len(files) == 3 && l.fault != "policies ignored"
	if l.fault == "finding" {
		return []cluster.Finding{{Message: "injected"}}, nil
	}
	return nil, l.failing("apply")
}

func (l *shopLab) Delete(context.Context, []ports.LabManifest) ([]cluster.Finding, error) {
	return nil, nil
}

func (l *shopLab) Probe(_ context.Context, q ports.LabProbe) ([]ports.LabResult, error) {
	var out []ports.LabResult
	has := func(list []cluster.Name, n cluster.Name) bool {
		for _, x := range list {
			if x == n {
				return true
			}
		}
		return len(list) == 0
	}
	for _, from := range shopPods {
		for _, to := range shopPods {
			if from == to || !has(q.From, from) || !has(q.To, to) {
				continue
			}
			for _, p := range q.Protocols {
				r := ports.LabResult{From: from.String(), To: to.String(), Protocol: p, Verdict: ports.LabAllowed}
				if l.applied && !shopAllows(from, to, p) && !(l.fault == "open without agents" && l.dead > 0) {
					r.Verdict = ports.LabDenied
				}
				if l.fault == "note" && from == database {
					r.Note = "injected"
				}
				if l.fault == "hole" && from == database && to == stranger && p == "UDP" {
					continue
				}
				out = append(out, r)
			}
		}
	}
	return out, l.failing("probe")
}

func (l *shopLab) Connects(_ context.Context, _, _ cluster.Name, n int) (map[cluster.Name]int, error) {
	third := n / 3
	m := map[cluster.Name]int{backend1: third, backend2: third, backend3: n - 2*third}
	switch l.fault {
	case "failed connect":
		m[backend1]--
		m[cluster.Name{}]++
	case "uneven":
		m[backend1], m[backend2] = m[backend1]-100, m[backend2]+100
	case "wrong backend":
		m[backend1]--
		m[stranger]++
	}
	return m, l.failing("connects")
}

func (l *shopLab) LastDrops(context.Context, int) ([]flow.Flow, error) {
	drop := func(kind, name, path string, egress bool) flow.Flow {
		v := &policy.Verdict{Isolating: []policy.Ref{{Kind: kind, Namespace: "production", Name: name}}}
		reason := datapath.ReasonPolicyDenied
		if path != "" {
			v = &policy.Verdict{Rule: policy.RuleRef{Policy: v.Isolating[0], Path: path}}
			reason = datapath.ReasonPolicyDeny
		}
		f := flow.Flow{Event: datapath.Event{Type: datapath.EventDrop, Reason: reason, Proto: 6}, Ingress: v}
		if egress {
			f.Egress, f.Ingress = v, nil
		}
		return f
	}
	out := []flow.Flow{
		drop("NetworkPolicy", "backend-ingress", "", false),
		drop("CiliumNetworkPolicy", "db", "ingressDeny[0]", false),
		drop("CiliumNetworkPolicy", "frontend-egress", "", true),
		{Event: datapath.Event{Type: datapath.EventDrop, Reason: datapath.ReasonForbiddenICMPv6}},
	}
	switch l.fault {
	case "no drops":
		out = nil
	case "nameless drop":
		out[0].Ingress = nil
	case "drop missing":
		out = out[:2]
	}
	return out, l.failing("drops")
}

func (l *shopLab) StartTraffic(context.Context, []ports.LabStream) error {
	l.traffic = true
	return l.failing("traffic")
}

func (l *shopLab) StopTraffic(context.Context) ([]ports.LabTraffic, error) {
	out := []ports.LabTraffic{{Protocol: "TCP", Sent: 100}, {Protocol: "UDP", Sent: 100}, {Protocol: "CONNECT", Sent: 10}}
	switch l.fault {
	case "lost packet":
		out[1].Lost = 1
	case "broken connection":
		out[0].Broken = 1
	case "refused connection":
		out[2].Broken, out[2].Lost = 1, 1
	case "no traffic":
		out = nil
	}
	return out, l.failing("traffic report")
}

func (l *shopLab) KillAgent(context.Context, string) error  { l.dead++; return l.failing("kill") }
func (l *shopLab) StartAgent(context.Context, string) error { l.dead--; return l.failing("start") }
func (l *shopLab) Down(context.Context) error               { l.downs++; return l.failing("down") }

// tellShop runs the demo over a lab with a fault.
func tellShop(t *testing.T, fault string) (string, *shopLab, error) {
	t.Helper()
	l := &shopLab{fault: fault}
	old := fakeLab
	defer func() { fakeLab = old }()
	fakeLab = func(_ context.Context, n int, files []ports.LabManifest) (ports.Lab, error) {
		require.Equal(t, 2, n)
		require.Len(t, files, 3)
		return l, nil
	}
	var out bytes.Buffer
	g := newGlobals(strings.NewReader(""), &out, &out)
	err := runDemo(context.Background(), g, &story{out: &out, pause: time.Millisecond}, demoOptions{name: demoName, fake: true})
	return out.String(), l, err
}

func TestDemoTellsAndSucceeds(t *testing.T) {
	out, l, err := tellShop(t, "")
	require.NoError(t, err, out)
	require.True(t, strings.HasPrefix(out, "weir demo on the FAKE KERNEL"), out)
	require.Equal(t, 1, l.downs)
	require.Contains(t, out, "every step showed what it should")
	require.Contains(t, out, "default deny (NetworkPolicy production/backend-ingress)")
	require.Contains(t, out, "frontend    T..         T..         T..         ..I   -          ...")
	require.NotContains(t, out, "\x1b[", "no colours but on a terminal")
}

// Each fault has to be noticed: the demo is a check, not a show.
func TestDemoNoticesFaults(t *testing.T) {
	for _, fault := range []string{
		"nodes", "unready node", "pods", "own identities", "one identity", "no identity", "single stack", "missing pod",
		"apply", "finding", "policies ignored", "probe", "note", "hole", "open without agents",
		"connects", "failed connect", "uneven", "wrong backend", "one node",
		"drops", "no drops", "nameless drop", "drop missing",
		"traffic", "traffic report", "lost packet", "broken connection", "refused connection", "no traffic",
		"kill", "start", "down",
	} {
		t.Run(fault, func(t *testing.T) {
			out, l, err := tellShop(t, fault)
			require.Error(t, err, out)
			require.Contains(t, err.Error(), "checks failed")
			require.Equal(t, 1, l.downs, "it clears away all the same")
		})
	}
}
