package k8s_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// attempt is something that a pod of the namespace production does, and whether it may.
type attempt struct {
	from, to string
	port     int // TCP; 0 asks the cluster's DNS for to
	allowed  bool
}

func (a attempt) String() string {
	if a.port == 0 {
		return fmt.Sprintf("%s asks for the name %s", a.from, a.to)
	}
	return fmt.Sprintf("%s to %s port %d", a.from, a.to, a.port)
}

// testGuide applies the policies of the guide one after the other.
func (c *cluster) testGuide(t *testing.T) {
	c.remove(t, "production")
	c.applyFile(t, "production.yaml")
	c.kubectl(t, "-n", "production", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
	addresses := map[string][]string{}
	for _, p := range c.pods(t, "production", "") {
		for _, ip := range p.Status.PodIPs {
			addresses[p.Metadata.Name] = append(addresses[p.Metadata.Name], ip.IP)
		}
	}
	const name = "kube-dns.kube-system.svc.cluster.local"
	open := []attempt{
		{"frontend", "backend", 8080, true}, {"other", "backend", 8080, true}, {"frontend", "backend", 8081, true},
		{"backend", "other", 8080, true}, {"other", "frontend", 8080, true}, {"backend", name, 0, true},
	}
	frontendOnly := []attempt{
		{"frontend", "backend", 8080, true}, {"other", "backend", 8080, false}, {"frontend", "backend", 8081, false},
		{"backend", "other", 8080, true}, {"other", "frontend", 8080, true}, {"backend", name, 0, true},
	}
	nothing := []attempt{
		{"frontend", "backend", 8080, false}, {"other", "backend", 8080, false}, {"backend", "other", 8080, false},
		{"other", "frontend", 8080, false}, {"frontend", name, 0, false},
	}
	// The backend takes nothing while its HTTP rules can't be judged, and sends nothing but questions while its DNS
	// names can't.
	noHTTP := []attempt{
		{"frontend", "backend", 8080, false}, {"other", "backend", 8080, false}, {"frontend", "backend", 8081, false},
		{"backend", "other", 8080, true}, {"other", "frontend", 8080, true}, {"backend", name, 0, true},
	}
	dnsOnly := []attempt{
		{"frontend", "backend", 8080, true}, {"other", "backend", 8080, true}, {"backend", "other", 8080, false},
		{"other", "frontend", 8080, true}, {"backend", name, 0, true},
	}
	layered := []attempt{
		{"frontend", "backend", 8080, true}, {"frontend", name, 0, true}, {"other", "backend", 8080, false},
		{"frontend", "backend", 8081, false}, {"frontend", "other", 8080, false}, {"backend", "other", 8080, false},
		{"other", name, 0, false},
	}
	for _, step := range []struct {
		name string
		file string
		told string // part of what the policy's condition says; empty: it is in force in full
		keep bool   // for the next step
		want []attempt
	}{
		{name: "no policy", want: open},
		{name: "NetworkPolicy for the backend", file: "guide-backend-ingress.yaml", want: frontendOnly},
		// Rules that weir does not enforce fail closed and say so: the policy isolates, and they grant nothing.
		{name: "HTTP rules", file: "guide-backend-http.yaml", told: "spec.ingress[0].toPorts[0].rules: grants nothing", want: noHTTP},
		{name: "DNS names", file: "guide-egress-dns.yaml", told: "spec.egress[0].toFQDNs: grants nothing", want: dnsOnly},
		{name: "default deny", file: "guide-default-deny.yaml", keep: true, want: nothing},
		{name: "layers on the default deny", file: "layered-allow.yaml", want: layered},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.file != "" {
				c.applyFile(t, step.file)
				if !step.keep {
					defer c.kubectl(t, "-n", "production", "delete", "cnp,netpol", "--all")
				}
			}
			if step.told != "" {
				c.wantTold(t, step.told)
			} else if step.file != "" && !strings.Contains(step.file, "ingress") {
				c.wantValid(t)
			}
			for _, a := range step.want {
				c.try(t, a, addresses)
			}
			ready := c.kubectl(t, "-n", "production", "get", "pod", "backend", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}")
			assert.Equal(t, "True", ready, "the kubelet's probes pass every policy")
		})
	}
}

// try wants an attempt to end as it should, by both families, within the time that a policy may take
// to reach the nodes; what is allowed or refused then stays so.
func (c *cluster) try(t *testing.T, a attempt, addresses map[string][]string) {
	t.Helper()
	act := func(target string) error {
		if a.port == 0 {
			_, err := c.exec("production", a.from, "lookup", a.to)
			return err
		}
		_, err := c.exec("production", a.from, "get", "http://"+net.JoinHostPort(target, fmt.Sprint(a.port))+"/hostname")
		if err != nil && a.port == 8081 && strings.Contains(err.Error(), "malformed HTTP") {
			err = nil // that port echoes: the connection was made
		}
		return err
	}
	targets := addresses[a.to]
	if a.port == 0 {
		targets = []string{a.to}
	}
	require.NotEmpty(t, targets)
	for _, target := range targets {
		eventually(t, 20*time.Second, fmt.Sprintf("%v (%s), allowed: %t", a, target, a.allowed), func() error {
			err := act(target)
			switch {
			case a.allowed:
				return err
			case err == nil:
				return fmt.Errorf("it was answered")
			case !strings.Contains(err.Error(), "timeout") && !strings.Contains(err.Error(), "deadline exceeded"):
				return fmt.Errorf("want silence, got: %w", err)
			}
			return nil
		})
	}
}

// conditions are the Valid conditions of the namespace's policies, as STATUS:MESSAGE.
func (c *cluster) conditions() (string, error) {
	return c.Kubectl("-n", "production", "get", "cnp", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Valid")].status}:{.status.conditions[?(@.type=="Valid")].message}{"\n"}{end}`)
}

// wantTold waits until the policies are in force and say what of them is not.
func (c *cluster) wantTold(t *testing.T, what string) {
	t.Helper()
	eventually(t, 20*time.Second, "the policy's status", func() error {
		out, err := c.conditions()
		if err == nil && (!strings.Contains(out, "=True:") || strings.Contains(out, "=False:") || !strings.Contains(out, what)) {
			err = fmt.Errorf("conditions: %s", out)
		}
		return err
	})
}

func (c *cluster) wantValid(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "the policy's status", func() error {
		out, err := c.conditions()
		if err == nil && (!strings.Contains(out, "=True:") || strings.Contains(out, "=False:")) {
			err = fmt.Errorf("conditions: %s", out)
		}
		return err
	})
}
