package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// podsAtOnce bounds how many pods are made or removed at the same time.
const podsAtOnce = 4

// agentKinds are what agents publish. Those of another cluster would contradict them.
var agentKinds = []string{"CiliumEndpoint", "CiliumIdentity", "CiliumNode"}

// validate sorts objects into those that may take effect and complaints.
func (l *Lab) validate(objects []*object) (good []*object, findings []cluster.Finding) {
	for _, o := range objects {
		if slices.Contains(agentKinds, o.kind) {
			f := o.finding("", "is written by agents, and left out: the lab's own write theirs")
			f.Warning = true
			findings = append(findings, f)
			continue
		}
		var fs []cluster.Finding
		if l.o.Validate != nil {
			fs = l.o.Validate(o.file, o.json())
		}
		findings = append(findings, fs...)
		if !HasErrors(fs) {
			good = append(good, o)
		}
	}
	return good, findings
}

// HasErrors says whether any of the findings kept an object from taking effect.
func HasErrors(fs []cluster.Finding) bool {
	return slices.ContainsFunc(fs, func(f cluster.Finding) bool { return !f.Warning })
}

// Apply implements ports.Lab. New pods are made, pods whose shape changed are made anew.
func (l *Lab) Apply(ctx context.Context, files []ports.LabManifest) (findings []cluster.Finding, err error) {
	err = l.locked(ctx, func() error {
		objects, bad := parse(files)
		good, more := l.validate(objects)
		findings = append(bad, more...)
		nodes, bad := l.checkNodes(good)
		findings = append(findings, bad...)
		good = append(nodes, withoutNodes(good)...)
		more, err := l.apply(ctx, good)
		findings = append(findings, more...)
		return err
	})
	return findings, err
}

// checkNodes passes nodes that exist, with their addresses and prefixes as they are: the lab's nodes are
// made by Up.
func (l *Lab) checkNodes(objects []*object) (good []*object, findings []cluster.Finding) {
	for _, o := range objects {
		if o.kind != "Node" {
			continue
		}
		n := l.node(o.name)
		if n == nil {
			findings = append(findings, o.finding("metadata.name", "%q is no node of the lab, and nodes come with weir lab up; there are %s", o.name, nodeNames(l.st.Nodes)))
			continue
		}
		want, bad := readNode(o)
		findings = append(findings, bad...)
		if want == nil {
			continue
		}
		for _, a := range want.Addresses {
			if !slices.Contains(n.Addresses, a) {
				findings = append(findings, o.finding("status.addresses", "%s: a node that runs keeps its addresses", a))
				want = nil
				break
			}
		}
		if want == nil {
			continue
		}
		if len(want.PodCIDRs) > 0 && !slices.Equal(want.PodCIDRs, n.PodCIDRs) {
			findings = append(findings, o.finding("spec.podCIDRs", "a node that runs keeps its prefixes: %s", n.PodCIDRs))
			continue
		}
		complete(o, n)
		good = append(good, o)
	}
	return good, findings
}

// podChange is what has to happen for one pod.
type podChange struct {
	object    *object
	old, next *podState // nil: none
}

// apply writes the objects and makes pods run as they say. Policies come before the pods they isolate.
func (l *Lab) apply(ctx context.Context, objects []*object) ([]cluster.Finding, error) {
	var findings []cluster.Finding
	var others []*object
	var pods []*object
	for _, o := range objects {
		if o.kind == "Pod" {
			pods = append(pods, o)
		} else {
			others = append(others, o)
		}
	}
	slices.SortStableFunc(pods, func(a, b *object) int { return strings.Compare(a.title(), b.title()) })

	watch, err := l.newSettlement(ctx)
	if err != nil {
		return findings, err
	}
	slices.SortStableFunc(others, func(a, b *object) int { return rank(a.kind) - rank(b.kind) })
	for _, o := range others {
		if o.kind == "Service" {
			if bad := l.assignClusterIPs(o); len(bad) > 0 {
				findings = append(findings, bad...)
				continue
			}
		}
		changed, err := l.write(o)
		if err != nil {
			return findings, err
		}
		if changed {
			watch.written(o)
		}
	}
	changes, bad, err := l.planPods(pods)
	findings = append(findings, bad...)
	if err != nil {
		return findings, err
	}
	if err := l.changePods(ctx, changes); err != nil {
		return findings, err
	}
	return findings, watch.wait(ctx)
}

// rank orders what is written: what others build on comes first.
func rank(kind string) int {
	switch kind {
	case "Node", "CiliumNode":
		return 0
	case "Namespace", "CiliumCIDRGroup":
		return 1
	case "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy",
		"AdminNetworkPolicy", "BaselineAdminNetworkPolicy":
		return 2
	}
	return 3
}

func (l *Lab) planPods(objects []*object) ([]podChange, []cluster.Finding, error) {
	running, err := l.pods()
	if err != nil {
		return nil, nil, err
	}
	load := map[string]int{}
	byName := map[cluster.Name]*podState{}
	for _, p := range running {
		load[p.Node]++
		byName[p.Name] = p
	}
	var findings []cluster.Finding
	var changes []podChange
	for _, o := range objects {
		old := byName[o.podName()]
		next, bad := l.planPod(o, load, old)
		findings = append(findings, bad...)
		if len(bad) > 0 {
			continue
		}
		if next != nil && old == nil {
			load[next.Node]++
		}
		changes = append(changes, podChange{o, old, next})
	}
	return changes, findings, nil
}

// changePods carries changes out, several at a time. One that fails does not keep the others back.
func (l *Lab) changePods(ctx context.Context, changes []podChange) error {
	if len(changes) > 0 {
		l.o.Log("%d pods", len(changes))
	}
	slots := make(chan struct{}, podsAtOnce)
	errs := make([]error, len(changes))
	var wg sync.WaitGroup
	for i, c := range changes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = ctx.Err(); errs[i] == nil {
				errs[i] = l.changePod(ctx, c)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *Lab) changePod(ctx context.Context, c podChange) error {
	if c.old != nil && c.next != nil && c.old.sameShape(c.next) && len(c.old.IPs) > 0 && c.old.Server.alive() {
		l.setStatus(c.object, c.old)
		_, err := l.write(c.object)
		return err
	}
	if c.old != nil {
		if err := l.removePod(ctx, c.old); err != nil {
			return err
		}
	}
	if c.next == nil {
		_, err := l.write(c.object)
		return err
	}
	// The agent knows a pod's labels from its object, so that has to be there first.
	l.setStatus(c.object, c.next)
	if _, err := l.write(c.object); err != nil {
		return err
	}
	return l.createPod(ctx, c.object, c.next)
}

// Delete implements ports.Lab.
func (l *Lab) Delete(ctx context.Context, files []ports.LabManifest) (findings []cluster.Finding, err error) {
	objects, findings := parse(files)
	return findings, l.delete(ctx, objects)
}

// DeleteObject removes one object by its kind (as written in manifests, in any case) and name:
// "namespace/name", or "name" alone for kinds without namespace and for the namespace "default". Absent is no
// error.
func (l *Lab) DeleteObject(ctx context.Context, kind, name string) error {
	o := &object{kind: kind, name: name}
	for _, k := range clusterKinds {
		if strings.EqualFold(k, kind) {
			o.kind = k
		}
	}
	if strings.EqualFold(kind, "Pod") {
		o.kind = "Pod"
	}
	if !slices.Contains(clusterKinds, o.kind) {
		o.namespace = "default"
		if ns, n, ok := strings.Cut(name, "/"); ok {
			o.namespace, o.name = ns, n
		}
		if !safeName(o.namespace) {
			return fmt.Errorf("delete %s %s: %q is no namespace", kind, name, o.namespace)
		}
	}
	if !safeName(o.kind) || !safeName(o.name) {
		return fmt.Errorf("delete %s %s: not a kind and a name like NetworkPolicy shop/backend", kind, name)
	}
	return l.delete(ctx, []*object{o})
}

func (l *Lab) delete(ctx context.Context, objects []*object) error {
	return l.locked(ctx, func() error {
		watch, err := l.newSettlement(ctx)
		if err != nil {
			return err
		}
		running, err := l.pods()
		if err != nil {
			return err
		}
		var errs []error
		for _, o := range objects {
			if o.kind == "Node" && l.node(o.name) != nil {
				errs = append(errs, fmt.Errorf("%s: nodes go with weir lab down", o.title()))
				continue
			}
			if o.kind == "Pod" {
				i := slices.IndexFunc(running, func(p *podState) bool { return p.Name == o.podName() })
				if i >= 0 {
					if err := l.removePod(ctx, running[i]); err != nil {
						errs = append(errs, err)
						continue
					}
				}
			}
			err := os.Remove(filepath.Join(l.clusterDir(), o.storePath()))
			switch {
			case err == nil:
				watch.deleted(o)
			case !errors.Is(err, os.ErrNotExist):
				errs = append(errs, fmt.Errorf("delete %s: %w", o.title(), err))
			}
		}
		errs = append(errs, watch.wait(ctx))
		return errors.Join(errs...)
	})
}
