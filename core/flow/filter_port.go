package flow

import (
	"strconv"

	"github.com/weirnet/weir/core/datapath"
)

var portField = Field{
	Name: "port", Sided: true, Arg: "NUMBER",
	Help: "related to the port",
	Add: func(f *Filter, side Side, v string) error {
		pick(&f.SourcePort, &f.DestPort, side, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourcePort, f.DestPort, func(v string, side Side) (predicate, error) {
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil {
				return nil, &ValueError{Field: "port", Value: v, Allowed: []string{"0 to 65535"}}
			}
			return func(fl *Flow) bool {
				a := fl.Event.Src
				if side == Dest {
					a = fl.Event.Dst
				}
				return datapath.HasPorts(fl.Event.Proto) && a.Port() == uint16(n)
			}, nil
		})
	},
}
