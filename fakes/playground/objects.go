package playground

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/connectivity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// object is as much of an object as a playground looks at.
type object struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		// Of services.
		Type        string
		ClusterIP   string
		Selector    any // a map of a service's, an object of a workload's
		ExternalIPs []string
		Ports       []struct {
			Name     string
			Port     uint16
			NodePort uint16
		}
		// Of workloads.
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     map[string]any
		}
	}
	Status struct {
		LoadBalancer struct{ Ingress []struct{ IP string } }
	}
	raw []byte // JSON
}

func read(docs []connectivity.Document) (out []object, err error) {
	for _, d := range docs {
		for _, part := range manifest.SplitYAML(d.Content) {
			var o object
			if o.raw, err = yaml.YAMLToJSONStrict(part); err != nil {
				return nil, fmt.Errorf("%s: %w", d.Name, err)
			}
			if err := json.Unmarshal(o.raw, &o); err != nil {
				return nil, fmt.Errorf("%s: %w", d.Name, err)
			}
			out = append(out, o)
		}
	}
	return out, nil
}

func (o object) name() cluster.Name {
	return cluster.Name{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name}
}

// Apply implements ports.Playground. A finding that is no warning is an error.
func (p *Playground) Apply(ctx context.Context, docs ...connectivity.Document) error {
	list, err := read(docs)
	if err != nil {
		return err
	}
	var files []ports.LabManifest
	for _, o := range list {
		files = append(files, p.take(o)...)
	}
	findings, err := p.c.ApplyFiles(ctx, files...)
	for _, f := range findings {
		if !f.Warning {
			err = errors.Join(err, errors.New(f.String()))
		}
	}
	return err
}

// take notes an object and returns what the cluster is told of it.
func (p *Playground) take(o object) []ports.LabManifest {
	p.mu.Lock()
	defer p.mu.Unlock()
	file := ports.LabManifest{File: o.Metadata.Name, Content: o.raw}
	switch o.Kind {
	case "ServiceAccount":
		return nil
	case "Deployment":
		return []ports.LabManifest{p.pod(o, o.Metadata.Name+"-0", pinned(o.Spec.Template.Spec))}
	case "DaemonSet":
		var out []ports.LabManifest
		for _, n := range p.c.Nodes() {
			out = append(out, p.pod(o, o.Metadata.Name+"-"+n.Name, n.Name))
		}
		return out
	case manifest.KindService:
		o.assignNodePorts(uint16(30000 + 10*len(p.services)))
		file.Content = o.raw
		p.takeService(o)
	case manifest.KindNetworkPolicy, manifest.KindCiliumNetworkPolicy, manifest.KindCiliumClusterwideNetworkPolicy, manifest.KindCiliumCIDRGroup:
		if o.Metadata.Labels[connectivity.OwnerLabel] != "" {
			p.owned[o.Kind+" "+o.name().String()] = o
		}
	}
	return []ports.LabManifest{file}
}

// assignNodePorts gives a service of type NodePort its ports, from first on, as an API server does.
func (o *object) assignNodePorts(first uint16) {
	if o.Spec.Type != "NodePort" {
		return
	}
	var doc map[string]any
	if err := json.Unmarshal(o.raw, &doc); err != nil {
		panic(fmt.Sprintf("fakes: service %s was read before: %v", o.name(), err))
	}
	list, _ := doc["spec"].(map[string]any)["ports"].([]any)
	for i := range list {
		o.Spec.Ports[i].NodePort = first + uint16(i)
		list[i].(map[string]any)["nodePort"] = first + uint16(i)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("fakes: service %s, read from JSON, cannot be written: %v", o.name(), err))
	}
	o.raw = raw
}

func (p *Playground) takeService(o object) {
	s := connectivity.Service{Name: o.name(), Type: o.Spec.Type}
	for _, port := range o.Spec.Ports {
		s.Ports = append(s.Ports, connectivity.ServicePort{Name: port.Name, Port: port.Port, NodePort: port.NodePort})
	}
	for _, a := range o.Spec.ExternalIPs {
		s.ExternalIPs = append(s.ExternalIPs, netip.MustParseAddr(a))
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		s.Ingress = append(s.Ingress, netip.MustParseAddr(i.IP))
	}
	p.services[s.Name] = s
	if o.Spec.ClusterIP == "None" {
		selector := map[string]string{}
		m, _ := o.Spec.Selector.(map[string]any)
		for k, v := range m {
			selector[k], _ = v.(string)
		}
		p.headless[s.Name] = selector
	}
}

// pod makes a pod of a workload.
func (p *Playground) pod(o object, name, node string) ports.LabManifest {
	labels := o.Spec.Template.Metadata.Labels
	p.roles[cluster.Name{Namespace: o.Metadata.Namespace, Name: name}] = pod{labels["name"], labels}
	spec := map[string]any{"nodeName": node}
	for k, v := range o.Spec.Template.Spec {
		spec[k] = v
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": spec,
		"metadata": map[string]any{"name": name, "namespace": o.Metadata.Namespace, "labels": labels},
	})
	if err != nil {
		panic(fmt.Sprintf("fakes: pod %s, read from JSON, cannot be written: %v", name, err))
	}
	return ports.LabManifest{File: name, Content: raw}
}

// pinned is the node that a pod's affinity names.
func pinned(spec map[string]any) string {
	b, _ := json.Marshal(spec["affinity"])
	var a struct {
		NodeAffinity struct {
			Required struct {
				NodeSelectorTerms []struct {
					MatchFields []struct{ Values []string }
				}
			} `json:"requiredDuringSchedulingIgnoredDuringExecution"`
		}
	}
	_ = json.Unmarshal(b, &a)
	for _, t := range a.NodeAffinity.Required.NodeSelectorTerms {
		for _, f := range t.MatchFields {
			return strings.Join(f.Values, "")
		}
	}
	return ""
}

// Delete implements ports.Playground.
func (p *Playground) Delete(ctx context.Context, docs ...connectivity.Document) error {
	list, err := read(docs)
	if err != nil {
		return err
	}
	var files []ports.LabManifest
	for _, o := range list {
		files = append(files, ports.LabManifest{File: o.Metadata.Name, Content: o.raw})
		p.mu.Lock()
		delete(p.owned, o.Kind+" "+o.name().String())
		p.mu.Unlock()
	}
	_, err = p.c.DeleteFiles(ctx, files...)
	return err
}

// DeletePolicies implements ports.Playground.
func (p *Playground) DeletePolicies(ctx context.Context, namespace string) error {
	p.mu.Lock()
	var docs []connectivity.Document
	for key, o := range p.owned {
		if o.Metadata.Namespace == namespace || o.Metadata.Labels[connectivity.NamespaceLabel] == namespace {
			docs = append(docs, connectivity.Document{Name: key, Content: o.raw})
		}
	}
	p.mu.Unlock()
	return p.Delete(ctx, docs...)
}

// DeleteNamespace implements ports.Playground.
func (p *Playground) DeleteNamespace(ctx context.Context, namespace string) error {
	if err := p.DeletePolicies(ctx, namespace); err != nil {
		return err
	}
	p.mu.Lock()
	var files []ports.LabManifest
	add := func(kind, ns, name string) {
		b, _ := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": ns}, "spec": map[string]any{},
		})
		files = append(files, ports.LabManifest{File: name, Content: b})
	}
	for name := range p.roles {
		if name.Namespace == namespace {
			add(manifest.KindPod, namespace, name.Name)
			delete(p.roles, name)
		}
	}
	for name := range p.services {
		if name.Namespace == namespace {
			add(manifest.KindService, namespace, name.Name)
			delete(p.services, name)
			delete(p.headless, name)
		}
	}
	add(manifest.KindNamespace, "", namespace)
	p.mu.Unlock()
	_, err := p.c.DeleteFiles(ctx, files...)
	return err
}
