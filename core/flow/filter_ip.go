package flow

import (
	"net/netip"
	"strings"
)

var ipField = Field{
	Name: "ip", Sided: true, Arg: "ADDRESS|PREFIX",
	Help: "related to the address, or to any address of the prefix",
	Add: func(f *Filter, side Side, v string) error {
		pick(&f.SourceIP, &f.DestIP, side, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourceIP, f.DestIP, func(v string, side Side) (predicate, error) {
			p, err := parsePrefix(v)
			if err != nil {
				return nil, &ValueError{Field: "ip", Value: v, Allowed: []string{"an IPv4 or IPv6 address", "a prefix such as 10.0.0.0/8"}}
			}
			return func(fl *Flow) bool {
				a := fl.Event.Src
				if side == Dest {
					a = fl.Event.Dst
				}
				return p.Contains(a.Addr().Unmap())
			}, nil
		})
	},
}

// parsePrefix reads a prefix, or an address as the prefix that holds it alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}
