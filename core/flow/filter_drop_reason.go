package flow

var dropReasonField = Field{
	Name: "drop-reason-desc", Arg: "REASON", Values: reasonNames(),
	Help: "Show flows dropped for the reason",
	Add: func(f *Filter, _ Side, v string) error {
		f.DropReason = append(f.DropReason, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.DropReason, func(v string) (predicate, error) {
			want, err := ParseReason(v)
			if err != nil {
				return nil, err
			}
			return func(fl *Flow) bool { return fl.Verdict == VerdictDropped && fl.Event.Reason == want }, nil
		})
	},
}
