// Package nodeconfig finds the CiliumNodeConfigs that select a node: once, before the agent starts, and as
// they change while it runs. What was found last is kept in a file, so that an agent starts with it when the
// API server is away.
package nodeconfig

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/adapters/kubernetes"
	ciliumv2 "github.com/weirnet/weir/adapters/kubernetes/apis/cilium/v2"
	"github.com/weirnet/weir/core/config"
)

const resource = "ciliumnodeconfigs"

// Known is what selects a node.
type Known struct {
	Node      string           `json:"node"`
	Namespace string           `json:"namespace"`
	Overlays  []config.Overlay `json:"configs"`            // by name, ascending: the last counts most
	Problems  []string         `json:"problems,omitempty"` // objects that are not understood, which select nothing
}

// Equal says whether two say the same.
func (k Known) Equal(o Known) bool {
	return k.Node == o.Node && k.Namespace == o.Namespace && slices.Equal(k.Problems, o.Problems) &&
		slices.EqualFunc(k.Overlays, o.Overlays, func(a, b config.Overlay) bool {
			return a.Name == b.Name && maps.Equal(a.Values, b.Values)
		})
}

// Rules lists what an agent asks of the API server for this: in the namespace of its CiliumNodeConfigs. Besides, it
// reads its Node, which kubernetes.Rules has.
func Rules() []kubernetes.Rule {
	return []kubernetes.Rule{{Group: ciliumv2.GroupVersion.Group, Resource: resource, Verbs: []string{"list", "watch"}}}
}

// Client reads from an API server. It may be used by several goroutines.
type Client struct {
	configs         *rest.RESTClient
	nodes           metadata.Interface
	node, namespace string
}

var (
	scheme     = newScheme()
	parameters = runtime.NewParameterCodec(scheme)
	nodes      = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := ciliumv2.AddToScheme(s); err != nil {
		panic(err) // two types of one name
	}
	return s
}

// New makes a client for a node, of the CiliumNodeConfigs of a namespace. It sends nothing yet.
func New(c *rest.Config, node, namespace string) (*Client, error) {
	out := &Client{node: node, namespace: namespace}
	fail := func(err error) (*Client, error) { return nil, fmt.Errorf("client of CiliumNodeConfigs: %w", err) }
	one := rest.CopyConfig(c)
	one.WarningHandler = rest.NoWarnings{} // they tell authors of objects about old forms
	connections, err := rest.HTTPClientFor(one)
	if err != nil {
		return fail(err)
	}
	if out.nodes, err = metadata.NewForConfigAndClient(metadata.ConfigFor(one), connections); err != nil {
		return fail(err)
	}
	gv := ciliumv2.GroupVersion
	one.GroupVersion, one.APIPath = &gv, "/apis"
	one.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if out.configs, err = rest.RESTClientForConfigAndClient(one, connections); err != nil {
		return fail(err)
	}
	return out, nil
}

// Read asks the server. Where nobody has defined the kind yet there are none. The error names what could not be
// read, and the right that is missing if one is.
func (c *Client) Read(ctx context.Context) (Known, error) {
	list, err := c.list(ctx)
	if err != nil {
		return Known{}, err
	}
	n, err := c.nodes.Resource(nodes).Get(ctx, c.node, metav1.GetOptions{})
	if err != nil {
		return Known{}, fmt.Errorf("read labels of Node %s: %w", c.node, err)
	}
	return c.selecting(list.Items, n.Labels), nil
}

// List returns all objects of the namespace, by name.
func (c *Client) List(ctx context.Context) ([]ciliumv2.CiliumNodeConfig, error) {
	list, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b ciliumv2.CiliumNodeConfig) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

func (c *Client) list(ctx context.Context) (*ciliumv2.CiliumNodeConfigList, error) {
	list := &ciliumv2.CiliumNodeConfigList{}
	err := c.configs.Get().Namespace(c.namespace).Resource(resource).Do(ctx).Into(list)
	if undefined(err) {
		return list, nil
	}
	if err != nil {
		return nil, c.failed("list", err)
	}
	return list, nil
}

func (c *Client) failed(verb string, err error) error {
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("%w; the chart's Role cilium-config-agent gives this right", err)
	}
	return fmt.Errorf("%s CiliumNodeConfigs of namespace %s: %w", verb, c.namespace, err)
}

// undefined says whether the server does not know the kind.
func undefined(err error) bool { return apierrors.IsNotFound(err) }

// selecting picks the objects that select a node with such labels.
func (c *Client) selecting(all []ciliumv2.CiliumNodeConfig, of map[string]string) Known {
	k := Known{Node: c.node, Namespace: c.namespace}
	for _, o := range all {
		name := o.Namespace + "/" + o.Name
		yes, err := Selects(&o, of)
		switch {
		case err != nil:
			k.Problems = append(k.Problems, fmt.Sprintf("CiliumNodeConfig %s: %v; it counts on no node", name, err))
		case yes && o.DeletionTimestamp == nil:
			k.Overlays = append(k.Overlays, config.Overlay{Name: name, Values: o.Spec.Defaults})
		}
	}
	slices.SortFunc(k.Overlays, func(a, b config.Overlay) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(k.Problems)
	return k
}

// Selects says whether an object selects a node with such labels: without a selector none, with an empty one
// all. The error names the field of the selector that is wrong.
func Selects(o *ciliumv2.CiliumNodeConfig, of map[string]string) (bool, error) {
	in := o.Spec.NodeSelector
	if in == nil {
		return false, nil
	}
	s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for k, v := range in.MatchLabels {
		s.MatchLabels[k] = string(v)
	}
	for _, e := range in.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return false, fmt.Errorf("spec.nodeSelector: %w", err)
	}
	return selector.Matches(labels.Set(of)), nil
}

// self selects the node among Nodes.
func (c *Client) self() string { return fields.OneTermEqualSelector("metadata.name", c.node).String() }
