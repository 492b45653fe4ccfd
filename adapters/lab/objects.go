package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// object is one Kubernetes object as it was read.
type object struct {
	file      string
	kind      string
	namespace string // "default" where a namespaced kind has none
	name      string
	tree      map[string]any
}

// clusterKinds are the kinds without namespace that the lab meets.
var clusterKinds = []string{
	"Node", "Namespace", "CiliumNode", "CiliumIdentity", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy",
	"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "CiliumCIDRGroup", "PersistentVolume", "StorageClass", "ClusterRole", "ClusterRoleBinding",
	"CustomResourceDefinition", "PriorityClass", "RuntimeClass", "IngressClass", "GatewayClass",
}

// title is how findings name the object.
func (o *object) title() string {
	switch {
	case o.kind == "" || o.name == "":
		return o.kind
	case o.namespace == "":
		return o.kind + " " + o.name
	}
	return o.kind + " " + o.namespace + "/" + o.name
}

// storePath is the object's file, relative to the cluster directory.
func (o *object) storePath() string {
	file := o.name
	if o.namespace != "" {
		file = o.namespace + "_" + o.name
	}
	return filepath.Join(strings.ToLower(o.kind), file+".yaml")
}

func (o *object) podName() cluster.Name { return cluster.Name{Namespace: o.namespace, Name: o.name} }

func (o *object) finding(field, format string, args ...any) cluster.Finding {
	return cluster.Finding{File: o.file, Object: o.title(), Field: field, Message: fmt.Sprintf(format, args...)}
}

// json gives the object in the form that validation takes.
func (o *object) json() []byte {
	b, err := json.Marshal(o.tree)
	if err != nil {
		panic(fmt.Sprintf("lab: a tree read from JSON cannot be written: %v", err))
	}
	return b
}

// decode reads the object into a Go value.
func (o *object) decode(v any) error { return json.Unmarshal(o.json(), v) }

// set puts a value into the tree, making the maps on the way.
func (o *object) set(v any, path ...string) {
	m := o.tree
	for _, k := range path[:len(path)-1] {
		next, ok := m[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
	m[path[len(path)-1]] = v
}

// get returns what stands at the path, or nil.
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

// ReadManifests reads YAML and JSON files; a directory stands for the .yaml, .yml and .json files below it.
// What cannot be read as objects becomes findings.
func ReadManifests(paths []string) ([]ports.LabManifest, error) {
	var out []ports.LabManifest
	for _, p := range paths {
		err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != p && strings.HasPrefix(d.Name(), "."):
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			case d.IsDir() || (path != p && !isManifest(path)):
				return nil
			}
			b, err := os.ReadFile(path)
			out = append(out, ports.LabManifest{File: path, Content: b})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
	}
	return out, nil
}

func isManifest(path string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path))
}

// parse takes the objects out of manifests. Of an object that comes twice the later one counts.
func parse(files []ports.LabManifest) ([]*object, []cluster.Finding) {
	var findings []cluster.Finding
	byKey := map[string]int{}
	var out []*object
	for _, f := range files {
		objects, fs := parseFile(f)
		findings = append(findings, fs...)
		for _, o := range objects {
			if i, ok := byKey[o.storePath()]; ok {
				w := o.finding("", "is also in %s: the later one counts", out[i].file)
				w.Warning = true
				findings = append(findings, w)
				out[i] = o
				continue
			}
			byKey[o.storePath()] = len(out)
			out = append(out, o)
		}
	}
	return out, findings
}

func parseFile(f ports.LabManifest) (out []*object, findings []cluster.Finding) {
	for _, doc := range splitDocuments(f.Content) {
		var tree map[string]any
		if err := yaml.Unmarshal(doc.text, &tree); err != nil {
			msg := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
			findings = append(findings, cluster.Finding{
				File: f.File, Field: fmt.Sprintf("document from line %d", doc.line), Message: msg,
			})
			continue
		}
		if len(tree) == 0 {
			continue
		}
		o, fs := parseTree(f.File, tree)
		out, findings = append(out, o...), append(findings, fs...)
	}
	return out, findings
}

func parseTree(file string, tree map[string]any) (out []*object, findings []cluster.Finding) {
	kind, _ := tree["kind"].(string)
	if items, ok := tree["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for i, item := range items {
			t, ok := item.(map[string]any)
			if !ok {
				findings = append(findings, cluster.Finding{
					File: file, Object: kind, Field: fmt.Sprintf("items[%d]", i), Message: "must be an object",
				})
				continue
			}
			o, fs := parseTree(file, t)
			out, findings = append(out, o...), append(findings, fs...)
		}
		return out, findings
	}
	o := &object{file: file, kind: kind, tree: tree}
	for _, field := range []string{"name", "namespace"} {
		// YAML reads some names (n, yes, 1) as something else.
		if v := o.get("metadata", field); v != nil {
			if _, ok := v.(string); !ok {
				return nil, []cluster.Finding{o.finding("metadata."+field, "%v is not a text: put it in quotes", v)}
			}
		}
	}
	o.name, _ = o.get("metadata", "name").(string)
	o.namespace, _ = o.get("metadata", "namespace").(string)
	switch {
	case kind == "":
		return nil, []cluster.Finding{{File: file, Field: "kind", Message: "is missing"}}
	case !safeName(kind) || !safeName(o.name):
		return nil, []cluster.Finding{o.finding("metadata.name",
			"%q: lower-case letters, digits, '-' and '.' are allowed", o.name)}
	case slices.Contains(clusterKinds, kind):
		o.namespace = ""
	case o.namespace == "":
		o.namespace = "default"
		o.set(o.namespace, "metadata", "namespace")
	case !safeName(o.namespace):
		return nil, []cluster.Finding{o.finding("metadata.namespace",
			"%q: lower-case letters, digits and '-' are allowed", o.namespace)}
	}
	return []*object{o}, nil
}

// safeName says whether a name can be part of a file name. What else a name must be is for the
// validation of its kind.
func safeName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '.' {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == ':':
		default:
			return false
		}
	}
	return true
}

// document is one YAML document of a file.
type document struct {
	line int // where it begins, from 1
	text []byte
}

// splitDocuments cuts a file at its "---" lines.
func splitDocuments(b []byte) []document {
	var out []document
	cur := document{line: 1}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		if t := bytes.TrimRight(line, "\r\n\t "); bytes.Equal(t, []byte("---")) || bytes.HasPrefix(t, []byte("--- ")) {
			out = append(out, cur)
			cur = document{line: n + 1}
			// What follows the marker on its line belongs to the new document; comments do no harm.
			if rest := bytes.TrimPrefix(t, []byte("---")); len(rest) > 0 {
				cur = document{line: n, text: append(slices.Clone(rest), '\n')}
			}
			continue
		}
		cur.text = append(cur.text, line...)
	}
	return append(out, cur)
}

// write stores the object where the agents see it, and says whether that changed anything.
func (l *Lab) write(o *object) (changed bool, err error) {
	b, err := yaml.Marshal(o.tree)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", o.title(), err)
	}
	path := filepath.Join(l.clusterDir(), o.storePath())
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("write %s: %w", o.title(), err)
	}
	return true, writeFile(path, b)
}

// stored reads one object of the cluster directory; os.ErrNotExist if there is none.
func (l *Lab) stored(kind, namespace, name string) (*object, error) {
	o := &object{kind: kind, namespace: namespace, name: name}
	path := filepath.Join(l.clusterDir(), o.storePath())
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	o.file = path
	if err := yaml.Unmarshal(b, &o.tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// storedKind reads all objects of a kind that can be read.
func (l *Lab) storedKind(kind string) ([]*object, error) {
	dir := filepath.Join(l.clusterDir(), strings.ToLower(kind))
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	var out []*object
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") || !isManifest(f.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read objects: %w", err)
		}
		objects, _ := parseFile(ports.LabManifest{File: f.Name(), Content: b})
		out = append(out, objects...)
	}
	return out, nil
}
