package k8s_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// exposed is the part of a Service that is served to the network.
type exposed struct {
	Spec struct {
		HealthCheckNodePort int
		Ports               []struct {
			Name     string
			NodePort int
		}
	}
}

// testNodePorts reaches one pod by its node's host port and by node ports: from outside, from pods and from nodes.
func (c *cluster) testNodePorts(t *testing.T) {
	c.remove(t, "nodeports")
	c.applyIn(t, "nodeports", "nodeport.yaml")
	c.kubectl(t, "-n", "nodeports", "wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
	c.workload(t, "nodeport-clients")
	clients := c.pods(t, "nodeport-clients", "app=echo")
	home := c.pods(t, "nodeports", "")[0].Spec.NodeName
	var everywhere, here exposed
	c.get(t, &everywhere, "-n", "nodeports", "service", "everywhere")
	c.get(t, &here, "-n", "nodeports", "service", "here")
	require.Len(t, everywhere.Spec.Ports, 2)
	require.NotZero(t, here.Spec.HealthCheckNodePort)
	tcp, udp, local := everywhere.Spec.Ports[0].NodePort, everywhere.Spec.Ports[1].NodePort, here.Spec.Ports[0].NodePort

	addresses := func(i int) []string { return []string{bed.NodeAddress(i).String(), bed.NodeAddress6(i).String()} }
	url := func(address string, port int, path string) string {
		return fmt.Sprintf("http://%s%s", net.JoinHostPort(address, fmt.Sprint(port)), path)
	}
	outside := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		cmd, err := c.OnControlPlane(ctx, append([]string{filepath.Join(c.programs, "workload")}, args...)...)
		require.NoError(t, err)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	node := func(i int) func(args ...string) (string, error) {
		return func(args ...string) (string, error) {
			cmd, err := c.OnNode(t.Context(), i, append([]string{filepath.Join(c.programs, "workload")}, args...)...)
			require.NoError(t, err)
			out, err := cmd.CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
	}
	pod := func(i int) func(args ...string) (string, error) {
		return func(args ...string) (string, error) {
			out, err := c.exec("nodeport-clients", onNode(clients, i).Metadata.Name, args...)
			return strings.TrimSpace(out), err
		}
	}
	callers := map[string]func(...string) (string, error){"outside": outside}
	for i := 1; i <= c.nodes; i++ {
		callers["a pod of "+bed.NodeName(i)], callers["node "+bed.NodeName(i)] = pod(i), node(i)
	}

	t.Run("every node serves everybody", func(t *testing.T) {
		for who, ask := range callers {
			for i := 1; i <= c.nodes; i++ {
				for _, a := range addresses(i) {
					eventually(t, 10*time.Second, who+" at "+a, func() error {
						got, err := ask("get", url(a, tcp, "/hostname"))
						if err == nil && got != "one" {
							err = fmt.Errorf("%q answers", got)
						}
						return err
					})
					got, err := ask("udp", net.JoinHostPort(a, fmt.Sprint(udp)))
					assert.NoError(t, err, "%s at %s by UDP", who, a)
					assert.True(t, strings.HasPrefix(got, "one"), got)
				}
			}
		}
	})
	t.Run("the host port is the pod's node's", func(t *testing.T) {
		for who, ask := range callers {
			for i := 1; i <= c.nodes; i++ {
				for _, a := range addresses(i) {
					got, err := ask("get", url(a, 4080, "/hostname"))
					if bed.NodeName(i) == home {
						assert.NoError(t, err, "%s at %s", who, a)
						assert.Equal(t, "one", got)
					} else {
						assert.Error(t, err, "%s at %s: %s", who, a, got)
					}
				}
			}
		}
	})
	t.Run("externalTrafficPolicy Local inside the cluster", func(t *testing.T) {
		for who, ask := range callers {
			for i := 1; i <= c.nodes; i++ {
				for family, a := range addresses(i) {
					got, err := ask("get", url(a, local, "/client"))
					own := strings.HasSuffix(who, bed.NodeName(i)) // a node's own pods reach all backends by it
					if bed.NodeName(i) != home && !own {
						assert.Error(t, err, "%s at %s: %s", who, a, got)
						continue
					}
					assert.NoError(t, err, "%s at %s", who, a)
					for j := 1; j <= c.nodes && !own; j++ {
						switch who {
						case "node " + bed.NodeName(j):
							assert.Equal(t, addresses(j)[family], got, "%s at %s: the pod sees who asks", who, a)
						case "a pod of " + bed.NodeName(j):
							assert.Contains(t, addressesOf(onNode(clients, j)), got, "%s at %s: the pod sees who asks", who, a)
						}
					}
				}
			}
		}
	})
	t.Run("externalTrafficPolicy Local", func(t *testing.T) {
		for i := 1; i <= c.nodes; i++ {
			for family, a := range addresses(i) {
				got, err := outside("get", url(a, local, "/client"))
				status, _ := outside("get", url(a, here.Spec.HealthCheckNodePort, "/"))
				if bed.NodeName(i) != home {
					assert.Error(t, err, "%s", a)
					assert.Contains(t, status, "503", a)
					continue
				}
				assert.NoError(t, err, a)
				assert.Equal(t, []string{bed.APIServer, "fd30::1"}[family], got, "the pod sees who asks")
				assert.Contains(t, status, `"localEndpoints":1`, a)
			}
		}
	})
}

func addressesOf(p pod) []string {
	var all []string
	for _, ip := range p.Status.PodIPs {
		all = append(all, ip.IP)
	}
	return all
}
