package kubetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"k8s.io/client-go/rest"
)

// As gives the configuration of a user with these groups, who may do what RBAC allows and no more. A
// node is user system:node:NAME in group system:nodes.
func (c *Cluster) As(t testing.TB, user string, groups ...string) *rest.Config {
	t.Helper()
	config, err := c.config(user, groups...)
	if err != nil {
		t.Fatalf("kubetest: user %s: %v", user, err)
	}
	return config
}

// ServiceAccount makes a service account, and its namespace if that is missing, and gives the
// configuration of who holds its token. What it may do is up to the role bindings of the test.
func (c *Cluster) ServiceAccount(t testing.TB, namespace, name string) *rest.Config {
	t.Helper()
	c.Namespace(t, namespace)
	accounts := "/api/v1/namespaces/" + namespace + "/serviceaccounts"
	if _, err := c.request(http.MethodPost, accounts, object("v1", "ServiceAccount", name)); err != nil && !isConflict(err) {
		t.Fatalf("kubetest: service account %s/%s: %v", namespace, name, err)
	}
	answer, err := c.request(http.MethodPost, accounts+"/"+name+"/token",
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{}})
	if err != nil {
		t.Fatalf("kubetest: token for service account %s/%s: %v", namespace, name, err)
	}
	var token struct{ Status struct{ Token string } }
	if err := json.Unmarshal(answer, &token); err != nil || token.Status.Token == "" {
		t.Fatalf("kubetest: token for service account %s/%s: %q: %v", namespace, name, answer, err)
	}
	config := c.anonymous()
	config.BearerToken = token.Status.Token
	return config
}

// Namespace makes a namespace if it is missing.
func (c *Cluster) Namespace(t testing.TB, name string) {
	t.Helper()
	if _, err := c.request(http.MethodPost, "/api/v1/namespaces", object("v1", "Namespace", name)); err != nil && !isConflict(err) {
		t.Fatalf("kubetest: namespace %s: %v", name, err)
	}
}

func object(version, kind, name string) map[string]any {
	return map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": name}}
}

// anonymous is a configuration that trusts the server and says nothing of the client.
func (c *Cluster) anonymous() *rest.Config {
	return &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", c.apiPort),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.Cert},
		QPS:             -1,
	}
}

// config is a configuration with a client certificate.
func (c *Cluster) config(user string, groups ...string) (*rest.Config, error) {
	cert, key, err := c.pki.Client(user, groups...)
	if err != nil {
		return nil, err
	}
	config := c.anonymous()
	config.CertData, config.KeyData = cert, key
	return config, nil
}

// statusError is an answer of the API server that is not a success.
type statusError struct {
	code int
	body []byte
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.code, e.body) }

func isConflict(err error) bool {
	e, ok := err.(*statusError)
	return ok && e.code == http.StatusConflict
}

// request speaks to the API server as the administrator; body is sent as JSON.
func (c *Cluster) request(method, path string, body any) ([]byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, c.Config.Host+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = &statusError{resp.StatusCode, answer}
	}
	return answer, err
}
