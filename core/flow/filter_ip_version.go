package flow

import (
	"strconv"
	"strings"
)

var ipVersionValues = []string{"4", "6"}

var ipVersionField = Field{
	Name: "ip-version", Arg: "4|6", Values: ipVersionValues,
	Help: "Show flows of the IP version",
	Add: func(f *Filter, _ Side, v string) error {
		switch strings.TrimPrefix(strings.ToLower(v), "v") {
		case "4":
			f.IPVersion = append(f.IPVersion, 4)
		case "6":
			f.IPVersion = append(f.IPVersion, 6)
		default:
			return &ValueError{Field: "ip-version", Value: v, Allowed: ipVersionValues}
		}
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.IPVersion, func(v int) (predicate, error) {
			if v != 4 && v != 6 {
				return nil, &ValueError{Field: "ip-version", Value: strconv.Itoa(v), Allowed: ipVersionValues}
			}
			return func(fl *Flow) bool {
				a := fl.Event.Src.Addr()
				return a.IsValid() && a.Unmap().Is4() == (v == 4)
			}, nil
		})
	},
}
