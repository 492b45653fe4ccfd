package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// Any request gets an answer of the right form: JSON, an error with code and text unless the status is 200, and
// the status that belongs to the code.
func FuzzServer(f *testing.F) {
	f.Add("GET", "/v1/status", []byte(nil))
	f.Add("GET", "/v1/rules/7", []byte(nil))
	f.Add("GET", "/v1/rules/-1", []byte(nil))
	f.Add("GET", "/v1/rules/4294967296", []byte(nil))
	f.Add("DELETE", "/v1/flows", []byte(nil))
	f.Add("PATCH", "/v1/flows/../status", []byte(nil))
	f.Add("POST", "/v1/observe", []byte(`{"Last":3,"Allow":[{"SourcePod":["shop/"]}]}`))
	f.Add("POST", "/v1/observe", []byte(`{"Allow":[{"IPVersion":[5]}]}`))
	f.Add("POST", "/v1/observe", []byte(`{"First":1,"Last":1}`))
	f.Add("POST", "/v1/observe", []byte(`{"Follow":true}`))
	f.Add("POST", "/v1/attachments/reserve", []byte(`{"containerID":"c1","interface":"eth0","ips":["10.0.0.1"],"pod":{"namespace":"a","name":"b"}}`))
	f.Add("POST", "/v1/attachments/activate", []byte(`{"containerID":"c1","interface":"eth0","link":{"ifindex":-1,"mac":"00:00:00:00:00:01"}}`))
	f.Add("POST", "/v1/attachments/release", []byte(`{"containerID":1}`))
	f.Add("POST", "/v1/attachments/lookup", []byte(`{"containerID":"c1"}`))
	f.Add("POST", "/v1/attachments/retain", []byte(`[{"containerID":"c1"}]`))
	f.Add("POST", "/v1/attachments/retain", []byte(`{} {}`))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		r := &http.Request{Method: method, URL: &url.URL{Path: path}, Body: io.NopCloser(bytes.NewReader(body)), Header: http.Header{}}
		eps := &endpoints{}
		w := httptest.NewRecorder()
		handler(newHarness().Inspector, eps).ServeHTTP(w, r.WithContext(ctx))
		answer := w.Result()
		if answer.StatusCode == http.StatusMovedPermanently || answer.StatusCode == http.StatusTemporaryRedirect {
			return // a path with dots, from the standard library
		}
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/x-ndjson") {
			requireStream(t, w.Body)
			return
		}
		require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
		require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
		if answer.StatusCode == http.StatusOK {
			return
		}
		var e errorBody
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.NotNil(t, e.Error)
		require.NotEmpty(t, e.Error.Code)
		require.NotEmpty(t, e.Error.Message)
		require.Equal(t, e.Error.status(), answer.StatusCode)
		require.Nil(t, eps.retained, "a request that cannot be read retains nothing: that would cut off every pod")
	})
}

// requireStream checks that every line holds one thing and the last one the end.
func requireStream(t *testing.T, r io.Reader) {
	t.Helper()
	ended := false
	for dec := json.NewDecoder(r); ; {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.False(t, ended, "something after the end")
		ended = l.End != nil
	}
	require.True(t, ended)
}

// answers is a transport that says the same to everything.
type answers struct {
	status int
	body   []byte
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Request: r,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body))}, nil
}

// Whatever answers, the client does not fall over, takes no half answer for a whole one, and says what could
// not be understood.
func FuzzClient(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `[]`, `null`, `{"error":{"code":"not-found","message":"no"}}`, `{"error":null}`, `{"error":{}}`, `[{"id":1}]`, `{"rows":3}`,
		`{"flow":null}`, `{"end":{}}`, `{"end":{"error":{"code":"x","message":"y"}}}`, `{"flow":{"Time":"2024-05-01T12:00:00Z"}}{"end":{}}`,
		`{"endpoints":[{"key":"10.0.0.1","value":{"mac":"x"}}]}`, `{"reservation":{"addresses":["10.0.0.1"]},"inForce":true}`,
	} {
		f.Add(200, []byte(s))
		f.Add(404, []byte(s))
	}
	f.Add(307, []byte(`{}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		c := NewClient("/nonexistent/weir.sock")
		c.http.Transport = answers{status, body}
		ctx := context.Background()
		check := func(zero bool, err error) {
			t.Helper()
			if err == nil {
				require.Equal(t, http.StatusOK, status)
				return
			}
			require.True(t, zero, "an error and an answer")
			require.NotEmpty(t, err.Error(), "what was wrong")
		}
		st, err := c.Status(ctx)
		check(st.Node == "" && st.Tables == nil, err)
		eps, err := c.Endpoints(ctx)
		check(eps == nil, err)
		ids, err := c.Identities(ctx)
		check(ids == nil, err)
		svcs, err := c.Services(ctx)
		check(svcs == nil, err)
		nodes, err := c.Nodes(ctx)
		check(nodes == nil, err)
		pols, err := c.Policies(ctx)
		check(pols.Policies == nil, err)
		rule, err := c.Rule(ctx, 7)
		check(!rule.Allowed, err)
		tables, err := c.Tables(ctx)
		check(tables.Endpoints == nil && tables.Policy == nil, err)
		flows, err := c.Flows(ctx)
		check(flows == nil, err)
		n, err := c.FlushFlows(ctx)
		check(n == 0, err)
		res, err := c.Reserve(ctx, ports.ReserveRequest{})
		check(res.Addresses == nil, err)
		_, inForce, err := c.Lookup(ctx, "c1", "eth0")
		check(!inForce, err)
		names, err := c.Retain(ctx, nil)
		check(names == nil, err)
		check(true, c.Release(ctx, "c1", "eth0"))
		check(true, c.Activate(ctx, "c1", "eth0", ports.PodLinkState{}))
		check(true, c.Ready(ctx))
		err = c.Observe(ctx, flow.Query{}, func(e flow.Entry) error {
			require.True(t, (e.Flow == nil) != (e.Lost == nil), "an entry holds exactly one of the two")
			return nil
		})
		check(true, err)
	})
}
