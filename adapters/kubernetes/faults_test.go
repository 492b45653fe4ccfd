package kubernetes

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// wire is a store's connection to the server, to be cut, to be lied on, and to be listened to.
type wire struct {
	next http.RoundTripper

	mu      sync.Mutex
	cut     func(*http.Request) bool // these fail
	lie     func(*http.Request) *http.Response
	streams map[*cuttable]bool
	seen    []string // "verb resource", sorted, each once
}

var errCut = errors.New("the wire is cut")

// wired is the configuration of an administrator whose requests pass a wire.
func (a *api) wired() (*rest.Config, *wire) { return wired(a.cluster.Config) }

func wired(c *rest.Config) (*rest.Config, *wire) {
	w := &wire{streams: map[*cuttable]bool{}}
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		w.next = next
		return w
	})
	return c, w
}

// cuttable is the body of a watch.
type cuttable struct {
	io.ReadCloser
	w   *wire
	req *http.Request
}

func (s *cuttable) Close() error {
	s.w.mu.Lock()
	delete(s.w.streams, s)
	s.w.mu.Unlock()
	return s.ReadCloser.Close()
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	if what := describe(req); what != "" && !slices.Contains(w.seen, what) {
		w.seen = append(w.seen, what)
		slices.Sort(w.seen)
	}
	cut, lie := w.cut, w.lie
	w.mu.Unlock()
	if cut != nil && cut(req) {
		return nil, errCut
	}
	if lie != nil {
		if resp := lie(req); resp != nil {
			resp.Request = req
			return resp, nil
		}
	}
	resp, err := w.next.RoundTrip(req)
	if err == nil && watches(req) {
		s := &cuttable{resp.Body, w, req}
		w.mu.Lock()
		w.streams[s] = true
		w.mu.Unlock()
		resp.Body = s
	}
	return resp, err
}

// cutOff ends the streams of these requests and lets new ones fail. nil mends the wire.
func (w *wire) cutOff(which func(*http.Request) bool) {
	w.mu.Lock()
	w.cut = which
	var ends []*cuttable
	for s := range w.streams {
		if which != nil && which(s.req) {
			ends = append(ends, s)
		}
	}
	w.mu.Unlock()
	for _, s := range ends {
		s.Close()
	}
}

func (w *wire) lies(f func(*http.Request) *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lie = f
}

func watches(req *http.Request) bool { return req.URL.Query().Get("watch") != "" }

// watchesOf picks the watches of a resource.
func watchesOf(resource string) func(*http.Request) bool {
	return func(req *http.Request) bool { return watches(req) && strings.HasSuffix(req.URL.Path, "/"+resource) }
}

// forgetful answers watches that go on from where the first of their resource went on that this is too long ago.
func forgetful() func(*http.Request) *http.Response {
	var mu sync.Mutex
	refused := map[string]string{} // by path
	return func(req *http.Request) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		version := req.URL.Query().Get("resourceVersion")
		if !watches(req) || version == "" {
			return nil
		}
		if old, ok := refused[req.URL.Path]; ok && old != version {
			return nil
		}
		refused[req.URL.Path] = version
		return answer(http.StatusGone, "Expired", "too old resource version")
	}
}

func answer(code int, reason, message string) *http.Response {
	body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"` + reason + `","message":"` + message + `","code":` + strconv.Itoa(code) + `}`
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader([]byte(body))),
	}
}

// describe names a request by RBAC's verb and the resource; "" if it asks for none.
func describe(req *http.Request) string {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	if len(parts) < 3 {
		return ""
	}
	parts = parts[2:] // api/v1 or apis/group
	if strings.HasPrefix(req.URL.Path, "/apis/") {
		parts = parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	named := len(parts) > 1
	verb := map[string]string{"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[req.Method]
	switch {
	case watches(req):
		verb = "watch"
	case verb == "get" && !named:
		verb = "list"
	}
	return verb + " " + parts[0]
}

func TestDescribe(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/nodes": "list nodes", "/api/v1/nodes/n1": "get nodes", "/api/v1/namespaces?watch=true": "watch namespaces",
		"/api/v1/namespaces/shop":                                "get namespaces",
		"/apis/cilium.io/v2/namespaces/shop/ciliumendpoints/web": "get ciliumendpoints", "/readyz": "",
	} {
		req, err := http.NewRequest("GET", path, nil)
		if err != nil || describe(req) != want {
			t.Errorf("%s: %s, want %s (%v)", path, describe(req), want, err)
		}
	}
}
