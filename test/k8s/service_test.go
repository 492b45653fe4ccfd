package k8s_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/k8s/bed"
)

// workload starts the pods and Services of workload.yaml in a namespace that ends with the test.
func (c *cluster) workload(t *testing.T, namespace string) {
	t.Helper()
	c.remove(t, namespace)
	c.applyIn(t, namespace, "workload.yaml")
	c.rollout(t, namespace, "deploy/echo")
}

// service is the part of a Service that tests look at.
type service struct {
	Spec struct {
		ClusterIPs []string
	}
}

// testServices reaches Services from pods, from nodes and from outside.
func (c *cluster) testServices(t *testing.T) {
	c.workload(t, "services")
	pods := c.pods(t, "services", "app=echo")
	require.Len(t, pods, 2*c.nodes)
	var s service
	c.get(t, &s, "-n", "services", "service", "echo")

	t.Run("every backend answers, to every node", func(t *testing.T) {
		for i := 1; i <= c.nodes; i++ {
			client := onNode(pods, i)
			for _, ip := range s.Spec.ClusterIPs {
				url := "http://" + net.JoinHostPort(ip, "80") + "/hostname"
				seen, err := c.exec("services", client.Metadata.Name, "sample", url)
				require.NoError(t, err)
				assert.Len(t, strings.Fields(seen), len(pods), "%s from %s: %s", url, bed.NodeName(i), seen)
			}
		}
	})
	t.Run("UDP", func(t *testing.T) {
		for _, ip := range s.Spec.ClusterIPs {
			out, err := c.exec("services", pods[0].Metadata.Name, "udp", net.JoinHostPort(ip, "80"))
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(out, "echo-"), out)
		}
	})
	t.Run("by name and headless", func(t *testing.T) {
		for _, name := range []string{"echo.services:80", "headless:8080"} {
			out, err := c.exec("services", pods[0].Metadata.Name, "get", "http://"+name+"/hostname")
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(out, "echo-"), out)
		}
	})
	t.Run("the API server", func(t *testing.T) {
		// It answers 401 or 403, or refuses HTTP on a TLS port with 400: what counts is that it answers.
		for _, p := range pods {
			_, err := c.exec("services", p.Metadata.Name, "get", "http://10.96.0.1:443/")
			assert.ErrorContains(t, err, "400 Bad Request", "from %s", p.Spec.NodeName)
		}
	})
	t.Run("from nodes", func(t *testing.T) {
		for i := 1; i <= c.nodes; i++ {
			for _, ip := range s.Spec.ClusterIPs {
				cmd, err := c.OnNode(t.Context(), i, filepath.Join(c.programs, "workload"), "get", "http://"+net.JoinHostPort(ip, "80")+"/hostname")
				require.NoError(t, err)
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s from node %d: %s", ip, i, out)
			}
		}
	})
	t.Run("to the outside as the node", func(t *testing.T) {
		require.NoError(t, c.Start("outside", "cp", filepath.Join(c.programs, "workload"), "serve"))
		defer c.Stop("outside", os.Interrupt, 5*time.Second)
		for i := 1; i <= c.nodes; i++ {
			for out, want := range map[string]string{bed.Outside: bed.NodeAddress(i).String(), bed.Outside6: bed.NodeAddress6(i).String()} {
				var got string
				eventually(t, 5*time.Second, out+" from "+bed.NodeName(i), func() (err error) {
					got, err = c.exec("services", onNode(pods, i).Metadata.Name, "get", "http://"+net.JoinHostPort(out, "8080")+"/client")
					return err
				})
				assert.Equal(t, want, got)
			}
		}
	})
}

// onNode is one of the pods that runs on the i-th node.
func onNode(pods []pod, i int) pod {
	for _, p := range pods {
		if p.Spec.NodeName == bed.NodeName(i) {
			return p
		}
	}
	panic(fmt.Sprintf("no pod on node %d", i))
}
