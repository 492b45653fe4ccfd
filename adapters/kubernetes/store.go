// Package kubernetes makes a Kubernetes API server the cluster: what it holds reaches the engine through
// ports.Source, what a node says of itself is written through ports.Publisher, and identities are
// CiliumIdentity objects (ports.Identities). Every object goes through core/manifest, so that it means the
// same as in a file.
//
// Nothing is kept beside the engine's own view: an object is converted as it arrives and forgotten. Of each
// there remains its version, so that a list after an outage costs only what has changed. While the server is
// away nothing is delivered and what was said stays true; one small question now and then finds out when it is back.
//
// What the package asks of the server is listed by Rules.
package kubernetes

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/fx"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// Field managers under which weir's programs write.
const (
	ManagerAgent    = "weir-agent"
	ManagerOperator = "weir-operator"
)

// Options of a Store.
type Options struct {
	// Kubeconfig is the path of a configuration file. Empty: the pod's service account.
	Kubeconfig string
	// Server is the API server's URL (or host:port, meaning https) if it is not the one that the
	// configuration or the pod's environment names.
	Server string
	// Config, if not nil, is used in place of Kubeconfig and Server. It is not changed.
	Config *rest.Config
	// Node is the node whose pods are watched. Empty: the pods of all nodes.
	Node string
	// Manager is the field manager that writes are made as. Empty: ManagerAgent.
	Manager string
	// QPS and Burst bound the requests a second; watches don't count. 0: 10 and 20.
	QPS   float32
	Burst int
	// EndpointSlices says that other nodes' endpoints are read from CiliumEndpointSlices, which an operator
	// makes of the CiliumEndpoints.
	EndpointSlices bool
	// ClusterPool says that an operator writes pod ranges into CiliumNodes; else they are the Node's and
	// PublishNode writes them.
	ClusterPool bool
	// Operator says that this process collects identities. Elsewhere Collect does nothing.
	Operator bool
	// StateDir is where this process keeps the last good version of each policy over a restart; it must not
	// be shared. Empty: in memory only.
	StateDir string
	// Now tells the time; nil: the system's clock. Identities age by it.
	Now func() time.Time
	// Log takes what an administrator should know; nil: nothing is said.
	Log *slog.Logger
}

// Store is a Kubernetes cluster. It implements ports.Source, ports.Publisher and ports.Identities. All
// methods may be called at the same time, but there is one Watch at a time.
type Store struct {
	opts   Options
	config *rest.Config
	api    *clients

	// Of the identities the first and the last number, how many objects are asked for at once where lists
	// can't be streamed, and how long a pause between tries gets; tests narrow them.
	lowest, highest identity.ID
	pageSize        int64
	longestPause    time.Duration

	mu        sync.Mutex
	good      lastGood
	watching  bool
	assembler *manifest.Assembler // of the Watch that runs or ran last
	findings  map[manifest.Key][]cluster.Finding
	trouble   map[string]cluster.Finding // by kind: why nothing is heard of it
	handed    map[identity.ID]handed     // identities that Allocate gave out and Watch did not tell of yet
	nodeUID   types.UID                  // of Options.Node, once seen
	published map[cluster.Name][]byte    // CiliumEndpoints of Options.Node as the server has them
}

var (
	_ ports.Source     = (*Store)(nil)
	_ ports.Publisher  = (*Store)(nil)
	_ ports.Identities = (*Store)(nil)
)

// Module provides a Store, also as ports.Source, ports.Publisher and ports.Identities, and a Reporter. It needs
// Options, and for the Reporter ports.Inspector.
var Module = fx.Module("kubernetes",
	fx.Provide(
		Open,
		func(s *Store) (ports.Source, ports.Publisher, ports.Identities) { return s, s, s },
		NewReporter,
	),
)

// Open returns a store. It asks nothing of the server and starts nothing.
func Open(o Options) (*Store, error) {
	config, err := Connect(o)
	if err != nil {
		return nil, err
	}
	if o.Manager == "" {
		o.Manager = ManagerAgent
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.StateDir != "" {
		if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
			return nil, fmt.Errorf("open kubernetes: %w", err)
		}
	}
	api, err := newClients(config)
	if err != nil {
		return nil, fmt.Errorf("open kubernetes at %s: %w", config.Host, err)
	}
	return &Store{
		longestPause: longestPause,
		opts:         o, config: config, api: api, good: lastGood{dir: o.StateDir}, lowest: identity.MinCluster, highest: identity.MaxCluster, pageSize: 500,
		assembler: manifest.NewAssembler(), findings: map[manifest.Key][]cluster.Finding{},
		trouble: map[string]cluster.Finding{}, handed: map[identity.ID]handed{}, published: map[cluster.Name][]byte{},
	}, nil
}

// Config returns the configuration that the store uses; don't change it.
func (s *Store) Config() *rest.Config { return s.config }

// Where Kubernetes mounts a pod's service account.
const (
	tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	caFile    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

// Connect finds out how to reach the API server. It reads files and the environment, and asks the server
// nothing.
func Connect(o Options) (*rest.Config, error) {
	var config *rest.Config
	var err error
	switch {
	case o.Config != nil:
		config = rest.CopyConfig(o.Config)
	case o.Kubeconfig != "":
		if config, err = clientcmd.BuildConfigFromFlags(serverURL(o.Server), o.Kubeconfig); err != nil {
			return nil, fmt.Errorf("connect to kubernetes: kubeconfig %s: %w", o.Kubeconfig, err)
		}
	default:
		if config, err = inCluster(serverURL(o.Server)); err != nil {
			return nil, fmt.Errorf("connect to kubernetes: no kubeconfig is given, and as a pod: %w", err)
		}
	}
	config.QPS, config.Burst = o.QPS, o.Burst
	if config.QPS == 0 {
		config.QPS = 10
	}
	if config.Burst == 0 {
		config.Burst = max(20, int(config.QPS))
	}
	manager := o.Manager
	if manager == "" {
		manager = ManagerAgent
	}
	config.UserAgent = manager
	config.RateLimiter = nil
	return config, nil
}

// inCluster is the configuration of a pod, whose environment a server may override.
func inCluster(server string) (*rest.Config, error) {
	if server == "" {
		return rest.InClusterConfig()
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service account's token: %w", err)
	}
	return &rest.Config{
		Host: server, BearerToken: strings.TrimSpace(string(token)), BearerTokenFile: tokenFile,
		TLSClientConfig: rest.TLSClientConfig{CAFile: caFile},
	}, nil
}

func serverURL(server string) string {
	if server == "" || strings.Contains(server, "://") {
		return server
	}
	return "https://" + server
}
