package flow

import "strconv"

var replyValues = []string{"true", "false"}

var replyField = Field{
	Name: "reply", Arg: "BOOL", Values: replyValues,
	Help: "Show replies only (true), or only packets of the side that opened the flow (false)",
	Add: func(f *Filter, _ Side, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return &ValueError{Field: "reply", Value: v, Allowed: replyValues}
		}
		f.Reply = append(f.Reply, b)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.Reply, func(v bool) (predicate, error) {
			return func(fl *Flow) bool { return fl.Event.Reply == v }, nil
		})
	},
}
