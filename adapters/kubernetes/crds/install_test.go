package crds

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/internal/kubetest"
)

var quiet = slog.New(slog.DiscardHandler)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func clientOf(t *testing.T, config *rest.Config) dynamic.Interface {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = 1000, 1000
	client, err := dynamic.NewForConfig(c)
	require.NoError(t, err)
	return client
}

func TestInstallTwice(t *testing.T) {
	ctx, c := testContext(t), kubetest.Start(t)
	require.NoError(t, Install(ctx, c.Config, quiet))
	client := clientOf(t, c.Config).Resource(resource)
	before := map[string]string{}
	for _, name := range Names() {
		d, err := get(ctx, client, name)
		require.NoError(t, err)
		require.NotNil(t, d, name)
		ok, why := state(d)
		assert.True(t, ok, "%s: %s", name, why)
		assert.Equal(t, SchemaVersion, d.Labels[VersionLabel], name)
		for _, cond := range d.Status.Conditions {
			assert.NotEqual(t, "NonStructuralSchema", string(cond.Type), "%s: %s", name, cond.Message)
		}
		before[name] = d.ResourceVersion
	}
	require.NoError(t, Install(ctx, c.Config, quiet))
	for _, name := range Names() {
		d, err := get(ctx, client, name)
		require.NoError(t, err)
		assert.Equal(t, before[name], d.ResourceVersion, "installing %s again changes nothing", name)
	}
}
