package flow

import (
	"github.com/weirnet/weir/core/labels"
)

var labelField = Field{
	Name: "label", Short: "l", Sided: true, Whole: true, Arg: "SELECTOR",
	Help: "related to endpoints with the labels; a selector as in Kubernetes: app=web,tier in (a,b),!debug",
	Add: func(f *Filter, side Side, v string) error {
		pick(&f.SourceLabel, &f.DestLabel, side, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourceLabel, f.DestLabel, func(v string, side Side) (predicate, error) {
			sel, err := parseSelector(v)
			if err != nil {
				return nil, err
			}
			return func(fl *Flow) bool {
				set, err := labels.ParseSet(fl.end(side).Labels...)
				return err == nil && sel.Matches(set)
			}, nil
		})
	},
}
