package flow

var serviceField = Field{
	Name: "service", Sided: true, Arg: "[NAMESPACE/]PREFIX",
	Help: "related to services whose name starts with the prefix; without a namespace: in default",
	Add: func(f *Filter, side Side, v string) error {
		pick(&f.SourceService, &f.DestService, side, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourceService, f.DestService, func(v string, side Side) (predicate, error) {
			p, err := parseNamePattern("service", v)
			if err != nil {
				return nil, err
			}
			return func(fl *Flow) bool {
				s := fl.SourceSvc
				if side == Dest {
					s = fl.DestSvc
				}
				return s != nil && p.matches(s.Namespace, s.Name)
			}, nil
		})
	},
}
