package flow

import "strings"

var nodeField = Field{
	Name: "node-name", Arg: "[CLUSTER/]PATTERN",
	Help: "Show flows seen by the node; * stands for any characters",
	Add: func(f *Filter, _ Side, v string) error {
		f.Node = append(f.Node, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.Node, func(v string) (predicate, error) {
			cluster, pattern, ok := strings.Cut(v, "/")
			if !ok {
				cluster, pattern = "*", v
			}
			if pattern == "" && !ok || strings.Contains(pattern, "/") {
				return nil, &ValueError{Field: "node-name", Value: v, Allowed: []string{"NODE", "CLUSTER/NODE", "* for any characters in either"}}
			}
			if pattern == "" { // "cluster/": every node of it
				pattern = "*"
			}
			return func(fl *Flow) bool {
				c, n, ok := strings.Cut(fl.Node, "/")
				if !ok { // nodes of the default cluster go without its name
					c, n = "default", fl.Node
				}
				return glob(cluster, c) && glob(pattern, n)
			}, nil
		})
	},
}

// glob matches a pattern in which * stands for any characters, none included.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
