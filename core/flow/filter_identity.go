package flow

import (
	"strconv"
	"strings"

	"github.com/weirnet/weir/core/identity"
)

var identityField = Field{
	Name: "identity", Sided: true, Arg: "NUMBER|NAME",
	Help: "related to the security identity: a number, or the name of a reserved one (world means both families)",
	Add: func(f *Filter, side Side, v string) error {
		ids, err := parseIdentity(v)
		for _, id := range ids {
			pick(&f.SourceIdentity, &f.DestIdentity, side, id)
		}
		return err
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourceIdentity, f.DestIdentity, func(id uint32, side Side) (predicate, error) {
			return func(fl *Flow) bool { return uint32(fl.end(side).Identity) == id }, nil
		})
	},
}

func parseIdentity(s string) ([]uint32, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return []uint32{uint32(n)}, nil
	}
	name := strings.TrimPrefix(s, "reserved:")
	if name == identity.World.String() {
		return []uint32{uint32(identity.World), uint32(identity.WorldIPv4), uint32(identity.WorldIPv6)}, nil
	}
	allowed := []string{"a number"}
	for _, i := range append([]identity.Identity{{ID: identity.Unknown}}, identity.Reserved()...) {
		if i.ID.String() == name {
			return []uint32{uint32(i.ID)}, nil
		}
		allowed = append(allowed, i.ID.String())
	}
	return nil, &ValueError{Field: "identity", Value: s, Allowed: allowed}
}
