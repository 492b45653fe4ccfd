package flow

import "strings"

var namespaceField = Field{
	Name: "namespace", Short: "n", Sided: true, Arg: "NAME",
	Help: "related to pods of the namespace",
	Add: func(f *Filter, side Side, v string) error {
		pick(&f.SourceNamespace, &f.DestNamespace, side, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourceNamespace, f.DestNamespace, func(v string, side Side) (predicate, error) {
			if v == "" || strings.ContainsAny(v, "/ \t") {
				return nil, &ValueError{Field: "namespace", Value: v, Allowed: []string{"the name of a namespace"}}
			}
			return func(fl *Flow) bool { return fl.end(side).Namespace == v }, nil
		})
	},
}
