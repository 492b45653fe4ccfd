// Package cluster is a cluster in memory: the objects that users apply, the objects that nodes publish,
// and the identities, shared by as many nodes as a test wants. Each node sees it through ports.Source,
// ports.Publisher and ports.Identities, and each has its own faults: held back, doubled or lost events,
// and calls that fail.
//
// A Cluster is deterministic: the same calls in the same order deliver the same events in the same
// order to each node. Nothing runs in the background; time moves when a test says so.
package cluster

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
)

// Epoch is the time at which every cluster begins.
var Epoch = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

// Cluster is the shared state. All methods may be called at the same time.
type Cluster struct {
	mu         sync.Mutex
	now        time.Time
	assembler  *manifest.Assembler
	objects    map[manifest.Key]bool
	findings   map[manifest.Key][]cluster.Finding
	loose      []cluster.Finding // of documents whose object can't be told
	book       manifest.IdentityBook
	identities manifest.Identities
	nodes      map[string]*Node
	changes    uint64
}

// New makes an empty cluster.
func New() *Cluster {
	return &Cluster{
		now: Epoch, assembler: manifest.NewAssembler(), objects: map[manifest.Key]bool{},
		findings: map[manifest.Key][]cluster.Finding{}, identities: manifest.Identities{}, nodes: map[string]*Node{},
	}
}

// Advance moves the time that identities age by.
func (c *Cluster) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Apply takes in manifests, YAML or JSON, several documents and Lists, as one change. What is wrong
// with an object is a finding, in the answer and in every node's Findings; the object's last good
// version stays in force, and the others take effect.
func (c *Cluster) Apply(doc []byte) []cluster.Finding { return c.ApplyFiles(File{Content: doc}) }

// File is a manifest with the name that findings give.
type File struct {
	Name    string
	Content []byte
}

// ApplyFiles is Apply for several files, as one change all together.
func (c *Cluster) ApplyFiles(files ...File) []cluster.Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []cluster.Finding
	var changes []manifest.Change
	c.loose = nil
	for _, file := range files {
		for _, part := range manifest.SplitYAML(file.Content) {
			items, err := readDocument(part)
			if err != nil {
				f := cluster.Finding{File: file.Name, Message: err.Error()}
				c.loose = append(c.loose, f)
				all = append(all, f)
				continue
			}
			for _, item := range items {
				o, findings := manifest.Decode(file.Name, item)
				all = append(all, findings...)
				if !o.Known() {
					c.loose = append(c.loose, findings...)
					continue
				}
				c.findings[o.Key] = findings
				c.objects[o.Key] = true
				if o.Valid() {
					changes = append(changes, manifest.Change{Put: o})
				}
			}
		}
	}
	c.emit(c.assembler.Apply(changes))
	for _, change := range changes {
		all = append(all, c.assembler.Findings()[change.Put.Key]...)
	}
	return all
}

// Delete removes objects as one change; absent ones are no error.
func (c *Cluster) Delete(keys ...manifest.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := make([]manifest.Change, 0, len(keys))
	for _, k := range keys {
		changes = append(changes, manifest.Change{Remove: k})
		delete(c.objects, k)
		delete(c.findings, k)
	}
	c.emit(c.assembler.Apply(changes))
}

// put takes in one object that a node wrote.
func (c *Cluster) put(doc []byte) error {
	o, findings := manifest.Decode("", doc)
	if !o.Valid() {
		return fmt.Errorf("object refused: %v", findings)
	}
	c.objects[o.Key] = true
	c.emit(c.assembler.Put(o))
	return nil
}

func (c *Cluster) remove(k manifest.Key) {
	delete(c.objects, k)
	c.emit(c.assembler.Remove(k))
}

// Snapshot describes the whole cluster as events, in an order that is safe to apply.
func (c *Cluster) Snapshot() []cluster.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.assembler.Snapshot()
}

// Changes counts the events that there were: as long as it stays the same, nothing changes.
func (c *Cluster) Changes() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// emit hands events to every node, in order of the nodes' names.
func (c *Cluster) emit(events []cluster.Event) {
	c.changes += uint64(len(events))
	names := make([]string, 0, len(c.nodes))
	for name := range c.nodes {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		c.nodes[name].take(events)
	}
}

// allFindings lists what is wrong, by object.
func (c *Cluster) allFindings() []cluster.Finding {
	out := append([]cluster.Finding(nil), c.loose...)
	for _, k := range c.keys() {
		out = append(out, c.findings[k]...)
		out = append(out, c.assembler.Findings()[k]...)
	}
	return out
}

func (c *Cluster) keys() []manifest.Key {
	out := make([]manifest.Key, 0, len(c.objects))
	for k := range c.objects {
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Less(out[j]) })
	return out
}

// Dump lists the objects, one a line; one that has no good version says so.
func (c *Cluster) Dump() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, k := range c.keys() {
		b.WriteString(k.String())
		if _, ok := c.assembler.Get(k); !ok {
			b.WriteString(" (refused)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func readDocument(part []byte) ([][]byte, error) {
	doc, err := yaml.YAMLToJSONStrict(part)
	if err != nil {
		return nil, fmt.Errorf("not valid YAML: %w", err)
	}
	if string(doc) == "null" {
		return nil, nil
	}
	raw, err := manifest.Items(doc)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(raw))
	for i := range raw {
		out[i] = raw[i]
	}
	return out, nil
}
