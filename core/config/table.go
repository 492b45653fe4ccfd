package config

import (
	"math"
	"slices"
	"strings"
)

// keys is the table, sorted by name. Its rows stand in files by concern.
var keys = func() []Key {
	all := slices.Concat(agentKeys, clusterKeys, cniKeys, routingKeys, policyKeys, serviceKeys, operatorKeys,
		observeKeys, securityKeys, laterKeys, kernelKeys)
	slices.SortFunc(all, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return all
}()

// live is a key that is obeyed as soon as it changes.
func live(name string, kind Kind, value, means string) Key {
	return Key{Name: name, Kind: kind, Default: value, Means: means}.within(0, math.MaxInt32)
}

// atStart is a key that is obeyed when the agent starts.
func atStart(name string, kind Kind, value, means string) Key {
	k := live(name, kind, value, means)
	k.Restart = true
	return k
}

// accepted is a key without effect.
func accepted(name string, kind Kind, value, means string) Key {
	k := live(name, kind, value, means)
	k.Effect = Accepted
	return k
}

// later is a key for a feature that this version does not have.
func later(name string, kind Kind, value, means string) Key {
	k := accepted(name, kind, value, means)
	k.Missing = true
	return k
}

// fixed is a key of which only some values are true.
func fixed(name string, kind Kind, value, means string, allowed ...string) Key {
	k := live(name, kind, value, means)
	k.Effect, k.Allowed = Fixed, allowed
	if len(allowed) == 0 {
		k.Allowed = []string{value}
	}
	return k
}

// operators is a key that the operator obeys.
func operators(name string, kind Kind, value, means string) Key {
	k := atStart(name, kind, value, means)
	k.Operator = true
	return k
}

func (k Key) in(allowed ...string) Key { k.Kind, k.Allowed = Enum, allowed; return k }

func (k Key) within(low, high float64) Key { k.Min, k.Max = low, high; return k }
