package flow

var podField = Field{
	Name: "pod", Sided: true, Arg: "[NAMESPACE/]PREFIX",
	Help: "related to pods whose name starts with the prefix; without a namespace: in the one given by the namespace filter, else in default",
	Add: func(f *Filter, side Side, v string) error {
		pick(&f.SourcePod, &f.DestPod, side, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return bothSides(f.SourcePod, f.DestPod, func(v string, side Side) (predicate, error) {
			p, err := parseNamePattern("pod", v)
			if err != nil {
				return nil, err
			}
			return func(fl *Flow) bool { e := fl.end(side); return p.matches(e.Namespace, e.Pod) }, nil
		})
	},
}
