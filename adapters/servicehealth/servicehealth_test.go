package servicehealth_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/adapters/servicehealth"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

// get asks as load balancers do: without keeping the connection.
func get(port uint16) (*http.Response, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return c.Get("http://127.0.0.1:" + strconv.Itoa(int(port)) + "/healthz")
}

func open(t *testing.T) *servicehealth.Server {
	s := servicehealth.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func freePort(t *testing.T) uint16 {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestContract(t *testing.T) {
	porttest.ServiceHealth(t, func(t *testing.T) porttest.ServiceHealthRig {
		return porttest.ServiceHealthRig{
			Health:   open(t),
			FreePort: func() uint16 { return freePort(t) },
			Occupy: func(port uint16) func() {
				l, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
				require.NoError(t, err)
				return func() { l.Close() }
			},
			Ask: func(port uint16) (int, ports.HealthAnswer, bool) {
				var a ports.HealthAnswer
				r, err := get(port)
				if err != nil {
					return 0, a, false
				}
				defer r.Body.Close()
				require.NoError(t, json.NewDecoder(r.Body).Decode(&a))
				return r.StatusCode, a, true
			},
		}
	})
}

// The words are those that load balancers' own programs look at.
func TestFormOfTheAnswer(t *testing.T) {
	s, port := open(t), freePort(t)
	name := lb.Name{Namespace: "shop", Name: "web"}
	require.NoError(t, s.SyncServiceHealth(map[lb.Name]lb.HealthCheck{name: {Port: port, Local: 2}}))
	r, err := get(port)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	assert.JSONEq(t, `{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}`, string(body))
	assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
	assert.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	assert.Equal(t, "2", r.Header.Get("X-Load-Balancing-Endpoint-Weight"))
}

func TestCloseEndsEverything(t *testing.T) {
	s, port := open(t), freePort(t)
	name := lb.Name{Namespace: "shop", Name: "web"}
	require.NoError(t, s.SyncServiceHealth(map[lb.Name]lb.HealthCheck{name: {Port: port, Local: 2}}))
	require.NoError(t, s.Close())
	_, err := get(port)
	require.Error(t, err)
	require.ErrorIs(t, s.SyncServiceHealth(nil), ports.ErrClosed)
	_, err = (&net.Dialer{}).DialContext(context.Background(), "tcp", "127.0.0.1:"+strconv.Itoa(int(port)))
	require.Error(t, err)
}
