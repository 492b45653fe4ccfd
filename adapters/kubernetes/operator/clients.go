package operator

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/kubernetes"
)

// manager names the operator in metadata.managedFields.
const manager = kubernetes.ManagerOperator

// The kinds of group cilium.io that the operator reads and writes.
var (
	ciliumNodes            = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnodes"}
	ciliumEndpoints        = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumendpoints"}
	ciliumPolicies         = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnetworkpolicies"}
	ciliumClusterPolicies  = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumclusterwidenetworkpolicies"}
	ciliumCIDRGroups       = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumcidrgroups"}
	ciliumEndpointSlices   = schema.GroupVersionResource{Group: "cilium.io", Version: "v2alpha1", Resource: "ciliumendpointslices"}
	corePods               = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	errNotLeading          = errors.New("not the leader any more")
	protobuf, protobufJSON = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
)

// clients are the ways to the API server.
type clients struct {
	config   *rest.Config
	core     corev1client.CoreV1Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
}

// connect finds the API server.
func connect(c Config) (*rest.Config, error) {
	return kubernetes.Connect(kubernetes.Options{
		Kubeconfig: c.Kubeconfig, Server: c.Server, QPS: c.QPS, Burst: c.Burst, Manager: kubernetes.ManagerOperator,
	})
}

// newClients makes clients whose requests may be refused before they are sent: those that write, once
// mayWrite returns an error.
func newClients(config *rest.Config, mayWrite func() error) (*clients, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // they tell authors of objects about old forms
	if mayWrite != nil {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return fence{next, mayWrite} })
	}
	proto := rest.CopyConfig(config)
	proto.ContentType, proto.AcceptContentTypes = protobuf, protobufJSON
	c := &clients{config: config}
	var err error
	if c.core, err = corev1client.NewForConfig(proto); err != nil {
		return nil, fmt.Errorf("make clients: %w", err)
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make clients: %w", err)
	}
	if c.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make clients: %w", err)
	}
	return c, nil
}

// fence refuses the writes of an operator that has lost the lead, or may have: a process that was
// stopped for longer than its lease wakes up in the middle of what it did.
type fence struct {
	next     http.RoundTripper
	mayWrite func() error
}

// RoundTrip sends a request if it may be sent.
func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := f.mayWrite(); err != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, err
		}
	}
	return f.next.RoundTrip(r)
}

// isConflict says whether somebody else changed the object first.
func isConflict(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)
}
