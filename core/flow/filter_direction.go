package flow

import (
	"strings"

	"github.com/weirnet/weir/core/datapath"
)

var directionValues = []string{datapath.Ingress.String(), datapath.Egress.String()}

var directionField = Field{
	Name: "traffic-direction", Arg: "DIRECTION", Values: directionValues,
	Help: "Show flows judged in the direction, seen from the pod",
	Add: func(f *Filter, _ Side, v string) error {
		f.Direction = append(f.Direction, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.Direction, func(v string) (predicate, error) {
			for _, d := range []datapath.Direction{datapath.Ingress, datapath.Egress} {
				if strings.ToLower(v) == d.String() {
					return func(fl *Flow) bool { return fl.Event.Direction == d }, nil
				}
			}
			return nil, &ValueError{Field: "traffic-direction", Value: v, Allowed: directionValues}
		})
	},
}
