package porttest

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/ports"
)

// ServiceHealthRig is an implementation under test, with the means to ask it from outside.
type ServiceHealthRig struct {
	Health ports.ServiceHealth
	// Ask sends a request to a port; false if nobody answers.
	Ask func(port uint16) (status int, a ports.HealthAnswer, ok bool)
	// Occupy has somebody else listen at a port.
	Occupy func(port uint16) (release func())
	// FreePort is a port that nobody has, a different one each time.
	FreePort func() uint16
}

// ServiceHealth is the contract of ports.ServiceHealth. Each call of the function gives one without answers.
func ServiceHealth(t *testing.T, fresh func(t *testing.T) ServiceHealthRig) {
	web, mail := lb.Name{Namespace: "shop", Name: "web"}, lb.Name{Namespace: "shop", Name: "mail"}
	answers := func(t *testing.T, r ServiceHealthRig, port uint16, n lb.Name, local int) {
		t.Helper()
		status, a, ok := r.Ask(port)
		require.True(t, ok, "nobody answers at port %d", port)
		want := http.StatusOK
		if local == 0 {
			want = http.StatusServiceUnavailable
		}
		assert.Equal(t, want, status)
		assert.Equal(t, ports.NewHealthAnswer(n, lb.HealthCheck{Local: local}), a)
		assert.True(t, a.ServiceProxyHealthy)
	}
	silent := func(t *testing.T, r ServiceHealthRig, port uint16) {
		t.Helper()
		_, a, ok := r.Ask(port)
		assert.False(t, ok, "port %d answers %+v", port, a)
	}

	t.Run("opened, changed, moved, closed", func(t *testing.T) {
		r := fresh(t)
		a, b := r.FreePort(), r.FreePort()
		checks := map[lb.Name]lb.HealthCheck{web: {Port: a, Local: 2}, mail: {Port: b}}
		require.NoError(t, r.Health.SyncServiceHealth(checks))
		answers(t, r, a, web, 2)
		answers(t, r, b, mail, 0)
		require.NoError(t, r.Health.SyncServiceHealth(checks))
		answers(t, r, a, web, 2)

		checks[web], checks[mail] = lb.HealthCheck{Port: a}, lb.HealthCheck{Port: b, Local: 1}
		answers(t, r, a, web, 2) // what the caller does with its map is its own affair
		require.NoError(t, r.Health.SyncServiceHealth(checks))
		answers(t, r, a, web, 0)
		answers(t, r, b, mail, 1)

		c := r.FreePort()
		require.NoError(t, r.Health.SyncServiceHealth(map[lb.Name]lb.HealthCheck{mail: {Port: c, Local: 1}}))
		silent(t, r, a)
		silent(t, r, b)
		answers(t, r, c, mail, 1)
		require.NoError(t, r.Health.SyncServiceHealth(nil))
		silent(t, r, c)
		require.NoError(t, r.Health.SyncServiceHealth(nil))
	})
	t.Run("a port goes from one service to another", func(t *testing.T) {
		r := fresh(t)
		a, b := r.FreePort(), r.FreePort()
		require.NoError(t, r.Health.SyncServiceHealth(map[lb.Name]lb.HealthCheck{web: {Port: a, Local: 1}, mail: {Port: b, Local: 2}}))
		require.NoError(t, r.Health.SyncServiceHealth(map[lb.Name]lb.HealthCheck{web: {Port: b, Local: 1}, mail: {Port: a, Local: 2}}))
		answers(t, r, a, mail, 2)
		answers(t, r, b, web, 1)
	})
	t.Run("a port that somebody else has", func(t *testing.T) {
		r := fresh(t)
		a, b := r.FreePort(), r.FreePort()
		release := r.Occupy(a)
		checks := map[lb.Name]lb.HealthCheck{web: {Port: a, Local: 1}, mail: {Port: b, Local: 1}}
		err := r.Health.SyncServiceHealth(checks)
		require.Error(t, err)
		assert.Contains(t, err.Error(), "shop/web")
		assert.NotContains(t, err.Error(), "shop/mail")
		answers(t, r, b, mail, 1)
		release()
		require.NoError(t, r.Health.SyncServiceHealth(checks))
		answers(t, r, a, web, 1)
	})
	t.Run("a port that two services want", func(t *testing.T) {
		r := fresh(t)
		a := r.FreePort()
		checks := map[lb.Name]lb.HealthCheck{web: {Port: a, Local: 1}}
		require.NoError(t, r.Health.SyncServiceHealth(checks))
		checks[mail] = lb.HealthCheck{Port: a, Local: 3}
		err := r.Health.SyncServiceHealth(checks)
		require.Error(t, err)
		assert.Contains(t, err.Error(), "shop/web")
		answers(t, r, a, mail, 3)
		delete(checks, mail)
		require.NoError(t, r.Health.SyncServiceHealth(checks))
		answers(t, r, a, web, 1)
	})
}
