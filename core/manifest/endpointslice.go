package manifest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
)

// endpointSliceBody is a CiliumEndpointSlice: endpoints of one namespace, each name once.
type endpointSliceBody struct{ endpoints []cluster.Endpoint }

func (b endpointSliceBody) upserts() []cluster.Event {
	out := make([]cluster.Event, len(b.endpoints))
	for i, e := range b.endpoints {
		out[i] = cluster.EndpointUpsert{Endpoint: e}
	}
	return out
}

func (b endpointSliceBody) deletes() []cluster.Event {
	out := make([]cluster.Event, len(b.endpoints))
	for i, e := range b.endpoints {
		out[i] = cluster.EndpointDelete{Name: e.Name}
	}
	return out
}

func readCiliumEndpointSlice(r *report, _ metadata, top object) body {
	namespace, _ := top.get("namespace").word()
	items, _ := top.get("endpoints").list()
	switch {
	case namespace == "" && len(items) > 0:
		top.get("namespace").bad("missing; the endpoints of a slice are those of one namespace")
	case namespace != "" && !validNamespace(namespace):
		top.get("namespace").bad("%q is not a namespace; want lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63", clip(namespace))
	}
	seen := map[string]bool{}
	b := endpointSliceBody{make([]cluster.Endpoint, 0, len(items))}
	for _, item := range items {
		o, ok := item.object()
		if !ok {
			continue
		}
		e := readCoreEndpoint(namespace, o)
		if name := e.Name.Name; !validName(name) {
			o.get("name").bad("%q is not a name; want lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253", clip(name))
		} else if seen[name] {
			o.get("name").bad("%q stands twice; a slice names an endpoint once", clip(name))
		} else {
			seen[name] = true
		}
		b.endpoints = append(b.endpoints, e)
	}
	return b
}

// readCoreEndpoint reads what a slice says of an endpoint. Its node is known by its address alone.
func readCoreEndpoint(namespace string, o object) cluster.Endpoint {
	e := cluster.Endpoint{Name: cluster.Name{Namespace: namespace}}
	e.Name.Name, _ = o.get("name").text()
	n, _ := o.get("id").integer(0, 1<<32-1)
	e.Identity = identity.ID(n)
	if networking, ok := o.get("networking").object(); ok {
		e.IPs, e.NodeIP = readNetworking(networking)
	}
	e.Ports = readEndpointPorts(o.get("named-ports"))
	return e
}

type ciliumEndpointSlice struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   objectMeta     `json:"metadata"`
	Namespace  string         `json:"namespace"`
	Endpoints  []coreEndpoint `json:"endpoints"`
}

type coreEndpoint struct {
	Name       string             `json:"name"`
	Identity   int64              `json:"id"`
	PodUID     string             `json:"pod-uid,omitempty"`
	Networking endpointNetworking `json:"networking"`
	Encryption struct{}           `json:"encryption"`
	Ports      []endpointPort     `json:"named-ports,omitempty"`
}

// EncodeEndpointSlice writes a CiliumEndpointSlice of endpoints, which must be of one namespace and have
// different names. Their numbers on their nodes and their containers have no place there, and the nodes stand
// there by address.
func EncodeEndpointSlice(name, namespace string, endpoints []cluster.Endpoint) ([]byte, error) {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("encode endpoint slice %s: %w", name, fmt.Errorf(format, args...))
	}
	if !validName(name) || !validNamespace(namespace) {
		return nil, fail("name or namespace %q: not a name", namespace)
	}
	o := ciliumEndpointSlice{APIVersion: ciliumV2Alpha1, Kind: KindCiliumEndpointSlice,
		Metadata: objectMeta{Name: name}, Namespace: namespace, Endpoints: make([]coreEndpoint, 0, len(endpoints))}
	seen := map[string]bool{}
	for _, e := range endpoints {
		var err error
		switch {
		case e.Name.Namespace != namespace:
			err = fmt.Errorf("is not of namespace %s", namespace)
		case !validName(e.Name.Name):
			err = errors.New("not a name")
		case seen[e.Name.Name]:
			err = errors.New("stands twice")
		}
		if err != nil {
			return nil, fail("endpoint %s: %w", e.Name, err)
		}
		seen[e.Name.Name] = true
		c := coreEndpoint{Name: e.Name.Name, Identity: int64(e.Identity), PodUID: e.UID, Networking: endpointNetworking{Addressing: pairs(e.IPs)}}
		if e.NodeIP.IsValid() {
			c.Networking.Node = e.NodeIP.String()
		}
		for _, p := range e.Ports {
			if p.Name != "" {
				c.Ports = append(c.Ports, endpointPort{p.Name, p.Port, datapath.ProtoName(p.Proto)})
			}
		}
		o.Endpoints = append(o.Endpoints, c)
	}
	return indent(o)
}

// told is what a slice says of an endpoint.
type told struct {
	by       Key
	endpoint cluster.Endpoint
}

// endpoint is what is known of an endpoint: its CiliumEndpoint or, failing that, the slice that says it.
// While an endpoint moves from one slice to another two may; the first by name counts then.
func (a *Assembler) endpoint(name cluster.Name) (cluster.Endpoint, bool) {
	if own, ok := a.objects[Key{KindCiliumEndpoint, name.Namespace, name.Name}]; ok {
		return own.(endpointBody).endpoint, true
	}
	if says := a.inSlices[name]; len(says) > 0 {
		return says[0].endpoint, true
	}
	return cluster.Endpoint{}, false
}

// endpointSlice takes in what a slice says now, or nil, and returns what follows: endpoints that are gone come
// first, because another may have their address.
func (a *Assembler) endpointSlice(k Key, was, now []cluster.Endpoint) []cluster.Event {
	type state struct {
		endpoint cluster.Endpoint
		known    bool
	}
	before := map[cluster.Name]state{}
	for _, list := range [][]cluster.Endpoint{was, now} {
		for _, e := range list {
			known, ok := a.endpoint(e.Name)
			before[e.Name] = state{known, ok}
		}
	}
	for _, e := range was {
		says := slices.DeleteFunc(slices.Clone(a.inSlices[e.Name]), func(t told) bool { return t.by == k })
		if a.inSlices[e.Name] = says; len(says) == 0 {
			delete(a.inSlices, e.Name)
		}
	}
	for _, e := range now {
		says := append(slices.Clip(a.inSlices[e.Name]), told{k, e})
		slices.SortFunc(says, func(x, y told) int { return x.by.Compare(y.by) })
		a.inSlices[e.Name] = says
	}
	var gone, put []cluster.Event
	for _, name := range sortedNames(before) {
		old := before[name]
		e, known := a.endpoint(name)
		switch {
		case !known:
			gone = append(gone, a.slices.remove(endpointObject(old.endpoint))...)
			gone = append(gone, cluster.EndpointDelete{Name: name})
		case !old.known || !sameEndpoint(old.endpoint, e):
			put = append(put, cluster.EndpointUpsert{Endpoint: e})
			put = append(put, a.slices.put(endpointObject(e))...)
		}
	}
	return append(gone, put...)
}

// endpointObject is an endpoint as an object of its own.
func endpointObject(e cluster.Endpoint) Object {
	return Object{Key{KindCiliumEndpoint, e.Name.Namespace, e.Name.Name}, endpointBody{e}}
}

func sortedNames[V any](m map[cluster.Name]V) []cluster.Name {
	out := make([]cluster.Name, 0, len(m))
	for n := range m {
		out = append(out, n)
	}
	sortSlice(out, func(a, b cluster.Name) bool {
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		return a.Name < b.Name
	})
	return out
}

func sameEndpoint(a, b cluster.Endpoint) bool {
	return a.ID == b.ID && a.Identity == b.Identity && a.Node == b.Node && a.NodeIP == b.NodeIP &&
		slices.Equal(a.IPs, b.IPs) && slices.Equal(a.Ports, b.Ports)
}
