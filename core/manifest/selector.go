package manifest

import (
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/labels"
)

// keyReader turns a selector key as written into a source and key. ok is false after a finding.
type keyReader func(at value, key string) (source, k string, ok bool)

// podKey reads the keys of Kubernetes' pod selectors.
func podKey(at value, key string) (string, string, bool) {
	if why := checkLabelKey(key); why != "" {
		at.bad("%q is not a label key: %s", clip(key), why)
		return "", "", false
	}
	return labels.SourceK8s, key, selectable(at, key)
}

// namespaceKey reads the keys of Kubernetes' namespace selectors.
func namespaceKey(at value, key string) (string, string, bool) {
	if why := checkLabelKey(key); why != "" {
		at.bad("%q is not a label key: %s", clip(key), why)
		return "", "", false
	}
	return labels.SourceK8s, labels.KeyNamespacePrefix + key, true
}

// ciliumKey reads the keys of Cilium's selectors: an optional source, then the key. A key without a
// source matches labels from any.
func ciliumKey(at value, key string) (string, string, bool) {
	source, k, ok := ciliumKeyParts(at, key)
	switch {
	case !ok:
		return "", "", false
	case source == labels.SourceReserved:
		return source, k, knownReserved(at, key, k)
	}
	return source, k, selectable(at, k)
}

// ciliumKeyParts takes such a key apart; what it names is not looked at.
func ciliumKeyParts(at value, key string) (string, string, bool) {
	source, k, ok := strings.Cut(key, ":")
	if !ok {
		source, k = labels.SourceAny, key
	}
	switch source {
	case labels.SourceAny, labels.SourceK8s, labels.SourceReserved:
	default:
		at.bad("%q: unknown label source %q; allowed: k8s, any, reserved, or no source, which means any", clip(key), clip(source))
		return "", "", false
	}
	// The label of a namespace is a key of its own behind the prefix.
	if why := checkLabelKey(strings.TrimPrefix(k, labels.KeyNamespacePrefix)); why != "" {
		at.bad("%q is not a label key: %s", clip(key), why)
		return "", "", false
	}
	return source, k, true
}

// knownReserved complains about a reserved label, k, that there is not.
func knownReserved(at value, key, k string) bool {
	if !reservedName(k) {
		at.bad("%q: no such reserved label; allowed: host, world, world-ipv4, world-ipv6, unmanaged, health, init, remote-node, kube-apiserver, ingress", clip(key))
		return false
	}
	return true
}

func reservedName(k string) bool {
	switch k {
	case "host", "world", "world-ipv4", "world-ipv6", "unmanaged", "health", "init", "remote-node", "kube-apiserver", "ingress":
		return true
	}
	return false
}

// selectable refuses labels that are no part of an identity: a selector by such a label would match
// no pod, or with NotIn every pod, whatever the pods carry.
func selectable(at value, key string) bool {
	ls := cluster.PodLabels(cluster.Pod{Labels: map[string]string{key: ""}}, cluster.Namespace{})
	if ls.Has(labels.SourceK8s, key) {
		return true
	}
	at.bad("label %q differs from pod to pod of one workload and is no part of a pod's identity, so no policy can select by it; select by a label that the workload's pods share", key)
	return false
}

// requirements reads a label selector. It reports everything that is wrong with it; the result is
// only good if nothing was.
func (v value) requirements(read keyReader) []labels.Requirement {
	o, ok := v.strictObject("matchLabels", "matchExpressions")
	if !ok {
		return nil
	}
	var out []labels.Requirement
	place := o.get("matchLabels")
	ml := place.textMap()
	for _, k := range sortedKeys(ml) {
		at := place.entry(k, ml[k])
		source, key, ok := read(at, k)
		if why := checkLabelValue(ml[k]); why != "" {
			at.bad("%q is not a label value: %s", clip(ml[k]), why)
			ok = false
		}
		if ok {
			out = append(out, labels.Requirement{Source: source, Key: key, Operator: labels.In, Values: []string{ml[k]}})
		}
	}
	exprs, _ := o.get("matchExpressions").list()
	for _, e := range exprs {
		if r, ok := e.expression(read); ok {
			out = append(out, r)
		}
	}
	return out
}

func (v value) expression(read keyReader) (labels.Requirement, bool) {
	var r labels.Requirement
	o, ok := v.strictObject("key", "operator", "values")
	if !ok {
		return r, false
	}
	good := true
	if k, ok := o.get("key").text(); ok {
		r.Source, r.Key, good = read(o.get("key"), k)
	} else {
		good = false
		if o.get("key").absent() {
			o.get("key").bad("missing")
		}
	}
	items, _ := o.get("values").list()
	for _, item := range items {
		s, ok := item.text()
		if why := checkLabelValue(s); ok && why != "" {
			item.bad("%q is not a label value: %s", clip(s), why)
			ok = false
		}
		good = good && ok
		r.Values = append(r.Values, s)
	}
	op, ok := o.get("operator").text()
	if !ok {
		if o.get("operator").absent() {
			o.get("operator").bad("missing; allowed: In, NotIn, Exists, DoesNotExist")
		}
		return r, false
	}
	r.Operator = labels.Operator(op)
	switch r.Operator {
	case labels.In, labels.NotIn:
		if len(items) == 0 {
			o.get("values").bad("operator %s needs at least one value", op)
			good = false
		}
	case labels.Exists, labels.DoesNotExist:
		if len(items) != 0 {
			o.get("values").bad("operator %s takes no values, got %d", op, len(items))
			good = false
		}
	default:
		o.get("operator").bad("unknown operator %q; allowed: In, NotIn, Exists, DoesNotExist", clip(op))
		good = false
	}
	return r, good
}

// build makes the selector. Requirements that passed the readers are in order; whatever is not
// would be a fault of theirs and still refuses the object.
func (v value) build(reqs []labels.Requirement) labels.Selector {
	s, err := labels.NewSelector(reqs...)
	if err != nil {
		v.bad("%v", err)
	}
	return s
}

func inNamespace(ns string) labels.Requirement {
	return labels.Requirement{Source: labels.SourceK8s, Key: labels.KeyNamespace, Operator: labels.In, Values: []string{ns}}
}

// anyNamespace holds for every pod and for nothing else: not for hosts, not for the world.
func anyNamespace() labels.Requirement {
	return labels.Requirement{Source: labels.SourceK8s, Key: labels.KeyNamespace, Operator: labels.Exists}
}

// ciliumSubject reads an endpointSelector. In a namespaced policy it applies to pods of that
// namespace only.
func (v value) ciliumSubject(namespace string) labels.Selector {
	reqs := v.requirements(ciliumKey)
	for _, r := range reqs {
		if r.Source == labels.SourceReserved && (r.Operator == labels.In || r.Operator == labels.Exists) {
			v.warn("reserved:%s is no pod; policies of weir apply to pods, so this one applies to nothing", r.Key)
		}
		if namespace != "" && r.Key == labels.KeyNamespace && !ownNamespace(r, namespace) {
			v.bad("asks for pods of another namespace, but a CiliumNetworkPolicy applies in its own, %q; put it there, or use a CiliumClusterwideNetworkPolicy", namespace)
		}
	}
	if namespace != "" {
		reqs = append(reqs, inNamespace(namespace))
	}
	return v.build(reqs)
}

// ownNamespace says whether a requirement on the namespace's name holds in this namespace.
func ownNamespace(r labels.Requirement, namespace string) bool {
	s, err := labels.NewSelector(r)
	return err != nil || s.Matches(labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: labels.KeyNamespace, Value: namespace}))
}

// ciliumPeer reads an entry of fromEndpoints or toEndpoints. Who names no namespace means the
// policy's own, or in a clusterwide policy any pod; who excludes some namespaces means the pods of the
// others, not hosts or the world. Who names a reserved label, or asks for no namespace, means no pod
// and is left as written.
func (v value) ciliumPeer(namespace string) labels.Selector {
	reqs := v.requirements(ciliumKey)
	named, noPod := false, false
	for _, r := range reqs {
		named = named || r.Key == labels.KeyNamespace || strings.HasPrefix(r.Key, labels.KeyNamespacePrefix)
		noPod = noPod || r.Source == labels.SourceReserved ||
			r.Key == labels.KeyNamespace && r.Operator == labels.DoesNotExist
	}
	switch {
	case noPod:
	case namespace == "" || named:
		reqs = append(reqs, anyNamespace())
	default:
		reqs = append(reqs, inNamespace(namespace))
	}
	return v.build(reqs)
}
