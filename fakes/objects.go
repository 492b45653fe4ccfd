package fakes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	objects "github.com/weirnet/weir/fakes/cluster"
	"github.com/weirnet/weir/ports"
)

// object is one Kubernetes object as it was read, or a document that could not be.
type object struct {
	fileName string
	tree     map[string]any // nil: not an object
	raw      []byte         // of what is not an object
}

func newNodeObject(name string) *object {
	return &object{tree: map[string]any{
		"apiVersion": "v1", "kind": manifest.KindNode,
		"metadata": map[string]any{"name": name, "labels": map[string]any{"kubernetes.io/hostname": name}},
	}}
}

// readObjects takes documents and lists apart. What can't be read is left to the cluster to complain
// about.
func readObjects(files []ports.LabManifest) (out []*object, findings []cluster.Finding) {
	for _, f := range files {
		for _, part := range manifest.SplitYAML(f.Content) {
			doc, err := yaml.YAMLToJSONStrict(part)
			if err != nil {
				out = append(out, &object{fileName: f.File, raw: part})
				continue
			}
			items, err := manifest.Items(doc)
			if err != nil {
				out = append(out, &object{fileName: f.File, raw: part})
				continue
			}
			for _, item := range items {
				if o := readObject(f.File, item); o != nil {
					out = append(out, o)
				}
			}
		}
	}
	return out, findings
}

func readObject(file string, doc []byte) *object {
	var tree map[string]any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	switch err := d.Decode(&tree); {
	case err != nil:
		return &object{fileName: file, raw: doc}
	case tree == nil:
		return nil
	}
	return &object{fileName: file, tree: tree}
}

func (o *object) json() []byte {
	if o.tree == nil {
		return o.raw
	}
	b, err := json.Marshal(o.tree)
	if err != nil {
		panic(fmt.Sprintf("fakes: a tree read from JSON cannot be written: %v", err))
	}
	return b
}

func (o *object) file() objects.File { return objects.File{Name: o.fileName, Content: o.json()} }

func (o *object) text(path ...string) string {
	s, _ := o.get(path...).(string)
	return s
}

func (o *object) kind() string { return o.text("kind") }

func (o *object) podName() cluster.Name {
	n := cluster.Name{Namespace: o.text("metadata", "namespace"), Name: o.text("metadata", "name")}
	if n.Namespace == "" {
		n.Namespace = "default"
	}
	return n
}

func (o *object) get(path ...string) any {
	var v any = o.tree
	for _, k := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// set puts a value into the tree; it reports whether that was possible.
func (o *object) set(v any, path ...string) bool {
	m := o.tree
	for _, k := range path[:len(path)-1] {
		next, ok := m[k].(map[string]any)
		if !ok {
			if m[k] != nil {
				return false
			}
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
	m[path[len(path)-1]] = v
	return true
}

func (o *object) finding(field, format string, args ...any) cluster.Finding {
	title := o.kind() + " " + o.text("metadata", "name")
	if o.kind() == manifest.KindPod || o.kind() == manifest.KindService {
		title = o.kind() + " " + o.podName().String()
	}
	return cluster.Finding{File: o.fileName, Object: strings.TrimSpace(title), Field: field, Message: fmt.Sprintf(format, args...)}
}

// describe writes a node's addresses and prefixes into its object.
func (o *object) describe(n *Node) {
	var cidrs, addrs []any
	for _, p := range n.PodCIDRs {
		cidrs = append(cidrs, p.String())
	}
	for _, a := range n.Addresses {
		addrs = append(addrs, map[string]any{"type": "InternalIP", "address": a.String()})
	}
	o.set(cidrs, "spec", "podCIDRs")
	o.set(cidrs[0], "spec", "podCIDR")
	o.set(addrs, "status", "addresses")
}

// admit completes objects as an API server, a scheduler and kubelets do, and leaves out what this cluster
// can't take.
func (c *Cluster) admit(list []*object) (good []*object, findings []cluster.Finding) {
	p := c.newPlacement(list)
	for _, o := range list {
		ok, bad := true, []cluster.Finding(nil)
		switch o.kind() {
		case manifest.KindNode:
			n := c.findNode(o.text("metadata", "name"))
			if ok = n != nil; ok {
				o.describe(n)
			} else {
				bad = append(bad, o.finding("metadata.name", "%q is no node of this cluster; there are node1 to node%d", o.text("metadata", "name"), len(c.nodes)))
			}
		case manifest.KindPod:
			bad = p.place(o)
			ok = len(bad) == 0
		case manifest.KindService:
			bad = p.assignClusterIPs(o)
			ok = len(bad) == 0
		case manifest.KindCiliumEndpoint, manifest.KindCiliumIdentity, manifest.KindCiliumNode:
			w := o.finding("", "is written by agents, and left out: this cluster's own write theirs")
			w.Warning = true
			ok, bad = false, append(bad, w)
		}
		findings = append(findings, bad...)
		if ok {
			good = append(good, o)
		}
	}
	return good, findings
}

// placement is what scheduling knows.
type placement struct {
	c     *Cluster
	load  map[string]int
	at    map[cluster.Name]string
	taken map[netip.Addr]bool
	ips   map[cluster.Name][]netip.Addr // of services
}

func (c *Cluster) newPlacement(list []*object) *placement {
	p := &placement{
		c: c, load: map[string]int{}, at: map[cluster.Name]string{}, taken: map[netip.Addr]bool{}, ips: map[cluster.Name][]netip.Addr{},
	}
	for _, e := range c.store.Snapshot() {
		switch e := e.(type) {
		case cluster.PodUpsert:
			p.load[e.Pod.Node]++
			p.at[e.Pod.Name] = e.Pod.Node
		case cluster.ServiceUpsert:
			for _, f := range e.Service.Frontends {
				name := cluster.Name(e.Service.Name)
				p.taken[f.Addr] = true
				if !slices.Contains(p.ips[name], f.Addr) {
					p.ips[name] = append(p.ips[name], f.Addr)
				}
			}
		}
	}
	for _, o := range list {
		if o.kind() == manifest.KindPod {
			if n := o.text("spec", "nodeName"); n != "" && p.at[o.podName()] == "" {
				p.load[n]++
			}
		}
		for _, a := range clusterIPs(o) {
			p.taken[a] = true
		}
	}
	return p
}

// place chooses a pod's node and keeps of the addresses that it wants those that its node can give.
func (p *placement) place(o *object) []cluster.Finding {
	var wanted []netip.Addr
	list, _ := o.get("status", "podIPs").([]any)
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			s, _ := m["ip"].(string)
			if a, err := netip.ParseAddr(s); err == nil {
				wanted = append(wanted, a.Unmap())
			}
		}
	}
	name := o.text("spec", "nodeName")
	if name == "" {
		if name = p.at[o.podName()]; name == "" {
			name = p.choose(wanted)
			p.load[name]++
			p.at[o.podName()] = name
		}
		if !o.set(name, "spec", "nodeName") {
			return nil // not a spec: the decoder says so
		}
	}
	n := p.c.findNode(name)
	if n == nil {
		return []cluster.Finding{o.finding("spec.nodeName", "%q is no node of this cluster; there are node1 to node%d", name, len(p.c.nodes))}
	}
	var ips []any
	keep := n.Addresses
	if host, _ := o.get("spec", "hostNetwork").(bool); !host {
		keep = slices.DeleteFunc(wanted, func(a netip.Addr) bool { return !n.hasPod(a) })
	}
	for _, a := range keep {
		ips = append(ips, map[string]any{"ip": a.String()})
	}
	if (len(ips) > 0 || len(list) > 0) && o.set(ips, "status", "podIPs") { // else not a status: the decoder says so
		delete(o.tree["status"].(map[string]any), "podIP")
	}
	return nil
}

func (n *Node) hasPod(a netip.Addr) bool {
	return slices.ContainsFunc(n.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (p *placement) choose(wanted []netip.Addr) string {
	for _, a := range wanted {
		for _, n := range p.c.nodes {
			if n.hasPod(a) {
				return n.Name
			}
		}
	}
	return slices.MinFunc(p.c.nodes, func(a, b *Node) int { return p.load[a.Name] - p.load[b.Name] }).Name
}

// The prefixes that cluster addresses are given out from; the first 256 of each are left to manifests.
var servicePrefixes = map[string]netip.Addr{"IPv4": netip.MustParseAddr("10.96.1.0"), "IPv6": netip.MustParseAddr("fd00:10:96::100")}

func clusterIPs(o *object) []netip.Addr {
	if o.kind() != manifest.KindService {
		return nil
	}
	var out []netip.Addr
	list, _ := o.get("spec", "clusterIPs").([]any)
	for _, item := range append(list, o.get("spec", "clusterIP")) {
		s, _ := item.(string)
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// assignClusterIPs gives a service without cluster addresses those that it has, or free ones.
func (p *placement) assignClusterIPs(o *object) []cluster.Finding {
	list, _ := o.get("spec", "clusterIPs").([]any)
	if o.text("spec", "type") == "ExternalName" || o.text("spec", "clusterIP") != "" || len(list) > 0 {
		return nil
	}
	ips := p.ips[o.podName()]
	if len(ips) == 0 {
		families, _ := o.get("spec", "ipFamilies").([]any)
		switch {
		case len(families) > 0:
		case o.text("spec", "ipFamilyPolicy") == "SingleStack":
			families = []any{"IPv4"}
		default:
			families = []any{"IPv4", "IPv6"}
		}
		for _, f := range families {
			s, _ := f.(string)
			a, ok := servicePrefixes[s]
			if !ok {
				return []cluster.Finding{o.finding("spec.ipFamilies", "%v is no family; IPv4 and IPv6 are allowed", f)}
			}
			for p.taken[a] {
				a = a.Next()
			}
			p.taken[a] = true
			ips = append(ips, a)
		}
	}
	var texts []any
	for _, a := range ips {
		texts = append(texts, a.String())
	}
	if o.set(texts, "spec", "clusterIPs") {
		o.set(texts[0], "spec", "clusterIP")
	}
	return nil
}
