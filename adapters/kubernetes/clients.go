package kubernetes

import (
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// API groups that the package speaks to.
var (
	groupCore       = schema.GroupVersion{Version: "v1"}
	groupDiscovery  = discoveryv1.SchemeGroupVersion
	groupNetworking = schema.GroupVersion{Group: "networking.k8s.io", Version: "v1"}
	groupAdmin      = schema.GroupVersion{Group: "policy.networking.k8s.io", Version: "v1alpha2"}
	groupAdminOld   = schema.GroupVersion{Group: "policy.networking.k8s.io", Version: "v1alpha1"}
	groupEvents     = schema.GroupVersion{Group: "events.k8s.io", Version: "v1"}
	groupCilium     = schema.GroupVersion{Group: "cilium.io", Version: "v2"}
	groupCiliumNew  = schema.GroupVersion{Group: "cilium.io", Version: "v2alpha1"}
)

// clients speak to the API server over one set of connections: in protobuf where Go types are read, else in
// JSON.
type clients struct {
	typed, plain map[schema.GroupVersion]*rest.RESTClient
	http         *http.Client
}

// scheme knows the types that are read as protobuf, and no others: client-go's own scheme would bring in
// every API there is.
var scheme = newScheme()

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err) // two types of one name
		}
	}
	metav1.AddToGroupVersion(s, groupCore)
	for _, gv := range []schema.GroupVersion{groupNetworking, groupAdmin, groupAdminOld, groupEvents, groupCilium, groupCiliumNew} {
		metav1.AddToGroupVersion(s, gv)
	}
	return s
}

var parameters = runtime.NewParameterCodec(scheme)

func newClients(config *rest.Config) (*clients, error) {
	connections, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	limit := flowcontrol.NewTokenBucketRateLimiter(config.QPS, config.Burst)
	c := &clients{
		typed: map[schema.GroupVersion]*rest.RESTClient{}, plain: map[schema.GroupVersion]*rest.RESTClient{}, http: connections,
	}
	client := func(gv schema.GroupVersion, content string) (*rest.RESTClient, error) {
		one := rest.CopyConfig(config)
		one.GroupVersion, one.RateLimiter = &gv, limit
		one.WarningHandler = rest.NoWarnings{} // they are about our requests, which no administrator can change
		one.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		one.ContentType, one.AcceptContentTypes = content, content
		if one.APIPath = "/apis"; gv.Group == "" {
			one.APIPath = "/api"
		}
		r, err := rest.RESTClientForConfigAndClient(one, connections)
		if err != nil {
			return nil, fmt.Errorf("client of %s: %w", gv, err)
		}
		return r, nil
	}
	for _, gv := range []schema.GroupVersion{groupCore, groupDiscovery} {
		if c.typed[gv], err = client(gv, runtime.ContentTypeProtobuf); err != nil {
			return nil, err
		}
	}
	for _, gv := range []schema.GroupVersion{groupCore, groupNetworking, groupAdmin, groupAdminOld, groupEvents, groupCilium, groupCiliumNew} {
		if c.plain[gv], err = client(gv, runtime.ContentTypeJSON); err != nil {
			return nil, err
		}
	}
	return c, nil
}
