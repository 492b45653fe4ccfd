package health_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/health"
	"github.com/weirnet/weir/fakes/agent"
	"github.com/weirnet/weir/ports"
)

type inspector struct {
	ports.Inspector
	status ports.Status
	err    error
}

func (i inspector) Status(context.Context) (ports.Status, error) { return i.status, i.err }

func get(t *testing.T, url string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// The words are kube-proxy's: cloud load balancers and their probes know them.
func TestAnswersInKubeProxysPlace(t *testing.T) {
	eps := agent.NewEndpoints(netip.MustParsePrefix("10.1.0.0/24"))
	s := httptest.NewServer(health.ProxyHandler(eps, func() time.Time { return time.Unix(1_700_000_000, 0) }))
	defer s.Close()
	code, body := get(t, s.URL+"/healthz")
	assert.Equal(t, 200, code)
	assert.JSONEq(t, `{"lastUpdated":"2023-11-14T22:13:20Z","currentTime":"2023-11-14T22:13:20Z"}`, body)
	eps.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Ready" {
			return errors.New("not yet")
		}
		return nil
	})
	code, _ = get(t, s.URL+"/healthz")
	assert.Equal(t, 503, code)
}

func TestAnswers(t *testing.T) {
	eps := agent.NewEndpoints(netip.MustParsePrefix("10.1.0.0/24"))
	in := inspector{status: ports.Status{Problems: []string{"p1"}, Warnings: []string{"w1"}}}
	s := httptest.NewServer(health.Handler(eps, in))
	defer s.Close()
	url := s.URL + "/healthz"

	code, body := get(t, url)
	assert.Equal(t, 200, code)
	assert.Equal(t, "ok\nproblem: p1\nwarning: w1\n", body)
	code, body = get(t, url, "brief", "true")
	assert.Equal(t, 200, code)
	assert.Equal(t, "ok\n", body)

	// Waiting for the cluster: nobody is served, and the loop is well.
	eps.Hook(func(_ context.Context, op string, _ ports.ContainerInterface) error {
		if op == "Ready" {
			return errors.New("no podCIDR\nyet")
		}
		return nil
	})
	code, body = get(t, url, "brief", "true")
	assert.Equal(t, 503, code)
	assert.Equal(t, "not ready: no podCIDR; yet\n", body)
	code, body = get(t, url, "brief", "true", "require-k8s-connectivity", "false")
	assert.Equal(t, 200, code)
	assert.Equal(t, "ok\n", body)
	code, _ = get(t, url, "brief", "true", "require-k8s-connectivity", "true")
	assert.Equal(t, 503, code)

	// A loop that hangs.
	eps.Hook(func(ctx context.Context, _ string, _ ports.ContainerInterface) error {
		<-ctx.Done()
		return ctx.Err()
	})
	code, body = get(t, url, "brief", "true", "require-k8s-connectivity", "false")
	assert.Equal(t, 503, code)
	assert.Contains(t, body, "loop does not answer")

	code, _ = get(t, s.URL+"/")
	assert.Equal(t, 404, code)
}

func TestStatusThatFails(t *testing.T) {
	s := httptest.NewServer(health.Handler(agent.NewEndpoints(netip.MustParsePrefix("10.1.0.0/24")), inspector{err: errors.New("closed")}))
	defer s.Close()
	code, body := get(t, s.URL+"/healthz")
	assert.Equal(t, 200, code)
	assert.Equal(t, "ok\nstatus: closed\n", body)
}

func TestListensOnLoopbackOnly(t *testing.T) {
	ls, err := health.Listen(0)
	require.NoError(t, err)
	port := ls[0].Addr().(*net.TCPAddr).Port
	for _, l := range ls {
		defer l.Close()
		a := l.Addr().(*net.TCPAddr)
		assert.True(t, a.IP.IsLoopback(), a)
		assert.Equal(t, port, a.Port, "the same for both families")
	}
	_, err = health.Listen(uint16(port))
	assert.ErrorContains(t, err, fmt.Sprint(port))
}
