package flow

import "github.com/weirnet/weir/core/datapath"

// verdictPolicyDenied is not a verdict of Hubble's but what people type: dropped, and by policy.
const verdictPolicyDenied = "POLICY_DENIED"

var verdictValues = append(append([]string(nil), verdictNames[1:]...), verdictPolicyDenied)

var verdictField = Field{
	Name: "verdict", Arg: "VERDICT", Values: verdictValues,
	Help: "Show flows with the verdict; POLICY_DENIED means dropped by policy",
	Add: func(f *Filter, _ Side, v string) error {
		f.Verdict = append(f.Verdict, v)
		return nil
	},
	compile: func(f *Filter) ([]predicate, error) {
		return alternatives(f.Verdict, func(v string) (predicate, error) {
			if v == verdictPolicyDenied {
				return func(fl *Flow) bool {
					r := fl.Event.Reason
					return fl.Verdict == VerdictDropped && (r == datapath.ReasonPolicyDenied || r == datapath.ReasonPolicyDeny)
				}, nil
			}
			want, err := ParseVerdict(v)
			if err != nil {
				return nil, &ValueError{Field: "verdict", Value: v, Allowed: verdictValues}
			}
			return func(fl *Flow) bool { return fl.Verdict == want }, nil
		})
	},
}
