package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// What kube-proxy is told is what weir is told: the same services at the same addresses.
func TestProxyAPITellsTheServicesOfTheLab(t *testing.T) {
	api := newProxyAPI(
		[]netip.Addr{netip.MustParseAddr("172.31.0.1"), netip.MustParseAddr("fd00:172:31::1")},
		[]netip.Addr{netip.MustParseAddr("fd00:10:251:1::b"), netip.MustParseAddr("10.251.1.11")}, 3)
	server := httptest.NewServer(api)
	defer server.Close()
	get := func(path string) (int, []byte) {
		r, err := http.Get(server.URL + path)
		require.NoError(t, err)
		defer r.Body.Close()
		var text json.RawMessage
		require.NoError(t, json.NewDecoder(r.Body).Decode(&text))
		return r.StatusCode, text
	}
	code, text := get("/api/v1/services")
	require.Equal(t, http.StatusOK, code)
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ ClusterIPs []string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &list))
	require.Len(t, list.Items, 3)
	want := map[string][]string{}
	for _, f := range serviceManifests(0, 3) {
		for _, doc := range bytes.Split(f.Content, []byte("---\n"))[1:] {
			var s struct {
				Metadata struct{ Name string }
				Spec     struct{ ClusterIPs []string }
			}
			require.NoError(t, yaml.Unmarshal(doc, &s))
			want[s.Metadata.Name] = s.Spec.ClusterIPs
		}
	}
	for _, s := range list.Items {
		require.Equal(t, want[s.Metadata.Name], s.Spec.ClusterIPs, s.Metadata.Name)
	}

	code, _ = get("/api/v1/services?watch=true&sendInitialEvents=true")
	require.Equal(t, http.StatusUnprocessableEntity, code)
	code, _ = get("/api/v1/secrets")
	require.Equal(t, http.StatusNotFound, code)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1/nodes?watch=true", nil)
	require.NoError(t, err)
	r, err := http.DefaultClient.Do(q)
	require.NoError(t, err)
	defer r.Body.Close()
	_, err = r.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, context.DeadlineExceeded, "a watch says nothing and does not end")
}
