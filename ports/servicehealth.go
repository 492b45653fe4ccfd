package ports

import "github.com/weirnet/weir/core/lb"

// ServiceHealth answers load balancers that ask this node, over HTTP, whether it has backends of a service.
type ServiceHealth interface {
	// SyncServiceHealth makes the answers exactly these. The port of a service that is not named is closed. A
	// port that can't be opened hinders no other: the error joins what went wrong with each and ends when a
	// later call succeeds. Of two services with one port the least name has it.
	SyncServiceHealth(checks map[lb.Name]lb.HealthCheck) error
}

// HealthAnswer is the JSON body of an answer, in the form that kube-proxy gave it. The status is 200 with
// local endpoints, 503 without.
type HealthAnswer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints int `json:"localEndpoints"`
	// ServiceProxyHealthy is true: an agent that is not healthy answers nothing.
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// NewHealthAnswer is the answer about a service.
func NewHealthAnswer(n lb.Name, c lb.HealthCheck) HealthAnswer {
	a := HealthAnswer{LocalEndpoints: c.Local, ServiceProxyHealthy: true}
	a.Service.Namespace, a.Service.Name = n.Namespace, n.Name
	return a
}
