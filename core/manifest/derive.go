package manifest

import (
	"net/netip"
	"reflect"
	"slices"
	"sort"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/lb"
	"github.com/weirnet/weir/core/policy"
)

// derivedSlice is the name of a derived slice; no object can be called so.
const derivedSlice = "(from pods)"

// deriver finds the backends of services that have a selector and no EndpointSlice: ready pods
// of the namespace that the selector matches, with the addresses of their status or, failing that,
// of their CiliumEndpoint. It does so step by step: a changed pod is looked at by the services that
// select or selected it and by no others.
type deriver struct {
	spaces map[string]*deriveSpace
	// endpoint tells what is known of an endpoint: there is one for every pod of the cluster, nearly all of them of
	// pods that nobody here knows.
	endpoint func(cluster.Name) (cluster.Endpoint, bool)
}

type deriveSpace struct {
	name     string
	d        *deriver
	services map[string]*deriveService
	pods     map[string]cluster.Pod
	explicit map[string][]string // service → names of its EndpointSlices
}

type deriveService struct {
	known   bool // the service itself, not only a slice of it
	rule    derivation
	members map[string]bool // names of the pods that the selector matches; nil: none
	said    []lb.Backend    // what was told last
	told    bool            // whether a derived slice is out
}

// newDeriver makes an empty deriver.
func newDeriver(endpoint func(cluster.Name) (cluster.Endpoint, bool)) *deriver {
	return &deriver{spaces: map[string]*deriveSpace{}, endpoint: endpoint}
}

func (d *deriver) space(namespace string) *deriveSpace {
	s, ok := d.spaces[namespace]
	if !ok {
		s = &deriveSpace{
			name: namespace, d: d,
			services: map[string]*deriveService{}, pods: map[string]cluster.Pod{}, explicit: map[string][]string{},
		}
		d.spaces[namespace] = s
	}
	return s
}

// put takes in an object and returns the derived backends that change with it.
func (d *deriver) put(o Object) []cluster.Event {
	s := d.space(o.Namespace)
	switch b := o.body.(type) {
	case serviceBody:
		svc := &deriveService{known: true, rule: b.derive}
		if old := s.services[o.Name]; old != nil {
			svc.said, svc.told = old.said, old.told
		}
		s.services[o.Name] = svc
		for name, p := range s.pods {
			if svc.selects(p) {
				svc.add(name)
			}
		}
		return s.tell(o.Name)
	case podBody:
		s.pods[o.Name] = b.pod
		return s.podChanged(o.Name)
	case endpointBody:
		return s.endpointChanged(o.Name)
	case sliceBody:
		service := b.slice.Service.Name
		if !slices.Contains(s.explicit[service], o.Name) {
			s.explicit[service] = append(s.explicit[service], o.Name)
		}
		return s.tell(service)
	}
	return nil
}

// remove forgets an object and returns the derived backends that change with it.
func (d *deriver) remove(o Object) []cluster.Event {
	s := d.space(o.Namespace)
	switch b := o.body.(type) {
	case serviceBody:
		svc := s.services[o.Name]
		delete(s.services, o.Name)
		if svc != nil && svc.told {
			return one(cluster.BackendsDelete{Service: lb.Name{Namespace: o.Namespace, Name: o.Name}, Slice: derivedSlice})
		}
	case podBody:
		delete(s.pods, o.Name)
		return s.podChanged(o.Name)
	case endpointBody:
		return s.endpointChanged(o.Name)
	case sliceBody:
		service := b.slice.Service.Name
		left := slices.DeleteFunc(s.explicit[service], func(n string) bool { return n == o.Name })
		if s.explicit[service] = left; len(left) == 0 {
			delete(s.explicit, service)
		}
		return s.tell(service)
	}
	return nil
}

// all returns the derived backends of every service.
func (d *deriver) all() []cluster.Event {
	var out []cluster.Event
	for _, ns := range sortedKeys(d.spaces) {
		s := d.spaces[ns]
		for _, name := range sortedKeys(s.services) {
			s.services[name].told = false
			out = append(out, s.tell(name)...)
		}
	}
	return out
}

func (svc *deriveService) add(pod string) {
	if svc.members == nil {
		svc.members = map[string]bool{}
	}
	svc.members[pod] = true
}

func (svc *deriveService) selects(p cluster.Pod) bool {
	if len(svc.rule.selector) == 0 {
		return false
	}
	for _, l := range svc.rule.selector {
		if got, ok := p.Labels[l.key]; !ok || got != l.value {
			return false
		}
	}
	return true
}

// endpointChanged brings the services up to date that select the endpoint's pod, if it is known.
func (s *deriveSpace) endpointChanged(pod string) []cluster.Event {
	if _, ok := s.pods[pod]; !ok {
		return nil
	}
	return s.podChanged(pod)
}

// podChanged brings the services up to date that select the pod or did.
func (s *deriveSpace) podChanged(pod string) []cluster.Event {
	p, exists := s.pods[pod]
	var out []cluster.Event
	for _, name := range sortedKeys(s.services) {
		svc := s.services[name]
		was, is := svc.members[pod], exists && svc.selects(p)
		if is {
			svc.add(pod)
		} else {
			delete(svc.members, pod)
		}
		if was || is {
			out = append(out, s.tell(name)...)
		}
	}
	return out
}

// tell returns the event that brings the world up to date on one service's derived backends, if
// there is anything new to say.
func (s *deriveSpace) tell(service string) []cluster.Event {
	svc := s.services[service]
	if svc == nil {
		return nil
	}
	name := lb.Name{Namespace: s.name, Name: service}
	if len(svc.rule.selector) == 0 || len(s.explicit[service]) > 0 {
		if !svc.told {
			return nil
		}
		svc.told, svc.said = false, nil
		return one(cluster.BackendsDelete{Service: name, Slice: derivedSlice})
	}
	backends := s.backends(svc)
	if svc.told && reflect.DeepEqual(backends, svc.said) {
		return nil
	}
	svc.told, svc.said = true, backends
	return one(cluster.BackendsUpsert{Slice: lb.Slice{Service: name, Name: derivedSlice, Backends: backends}})
}

func (s *deriveSpace) backends(svc *deriveService) []lb.Backend {
	var out []lb.Backend
	for _, name := range sortedKeys(svc.members) {
		p := s.pods[name]
		if p.Finished || !p.Ready && !svc.rule.notReady {
			continue
		}
		ips, ports := p.IPs, p.Ports
		if e, ok := s.d.endpoint(cluster.Name{Namespace: s.name, Name: name}); ok {
			if len(ips) == 0 {
				ips = e.IPs
			}
			if len(ports) == 0 {
				ports = e.Ports
			}
		}
		out = append(out, podBackends(svc.rule, p, ips, ports)...)
	}
	return out
}

// podBackends are those of one pod. A service that publishes whatever there is uses a terminating pod as any other, as the
// control plane's slices say.
func podBackends(rule derivation, p cluster.Pod, ips []netip.Addr, ports []policy.NamedPort) []lb.Backend {
	var out []lb.Backend
	for _, sp := range rule.ports {
		port := sp.target
		if sp.targetName != "" {
			port = namedPort(ports, sp.targetName, sp.proto)
		}
		if port == 0 {
			continue
		}
		for _, a := range ips {
			if a.Is4() && !rule.v4 || a.Is6() && !rule.v6 {
				continue
			}
			b := lb.Backend{Addr: a, Port: port, Proto: sp.proto, PortName: sp.name, Node: p.Node, Weight: 1}
			if p.Terminating && !rule.notReady {
				b.State = lb.Terminating
			}
			out = append(out, b)
		}
	}
	return out
}

func namedPort(ports []policy.NamedPort, name string, proto uint8) uint16 {
	for _, p := range ports {
		if p.Name == name && p.Proto == proto {
			return p.Port
		}
	}
	return 0
}

func sortSlice[T any](list []T, less func(a, b T) bool) {
	sort.SliceStable(list, func(i, j int) bool { return less(list[i], list[j]) })
}
