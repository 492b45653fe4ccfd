package flow

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/datapath"
)

// verdictNames holds the names of Hubble's API in order of number.
var verdictNames = [...]string{
	VerdictUnknown: "VERDICT_UNKNOWN", VerdictForwarded: "FORWARDED", VerdictDropped: "DROPPED",
	VerdictError: "ERROR", VerdictAudit: "AUDIT", VerdictRedirected: "REDIRECTED",
	VerdictTraced: "TRACED", VerdictTranslated: "TRANSLATED",
}

// String gives the verdict's name in Hubble's API.
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdictNames) {
		return fmt.Sprintf("VERDICT_%d", int32(v))
	}
	return verdictNames[v]
}

// ParseVerdict reads a verdict's name; it is case-sensitive, as in Hubble. The error lists what is
// allowed.
func ParseVerdict(s string) (Verdict, error) {
	for v, name := range verdictNames {
		if v != int(VerdictUnknown) && name == s {
			return Verdict(v), nil
		}
	}
	return 0, &ValueError{Field: "verdict", Value: s, Allowed: verdictNames[1:]}
}

// pointNames holds the names of Hubble's TraceObservationPoint.
var pointNames = map[datapath.Point]string{
	datapath.PointUnknown: "UNKNOWN_POINT",
	1:                     "TO_PROXY",
	2:                     "TO_HOST",
	3:                     "TO_STACK",
	4:                     "TO_OVERLAY",
	101:                   "TO_ENDPOINT",
	5:                     "FROM_ENDPOINT",
	6:                     "FROM_PROXY",
	7:                     "FROM_HOST",
	8:                     "FROM_STACK",
	9:                     "FROM_OVERLAY",
	10:                    "FROM_NETWORK",
	11:                    "TO_NETWORK",
	12:                    "FROM_CRYPTO",
	13:                    "TO_CRYPTO",
}

// PointName gives the observation point's name in Hubble's API: "TO_ENDPOINT".
func PointName(p datapath.Point) string {
	if n, ok := pointNames[p]; ok {
		return n
	}
	return pointNames[datapath.PointUnknown]
}

// PointText gives the observation point as people read it: "to-endpoint".
func PointText(p datapath.Point) string {
	if p == datapath.PointUnknown {
		return "unknown-point"
	}
	return strings.ReplaceAll(strings.ToLower(PointName(p)), "_", "-")
}

func parsePoint(s string) datapath.Point {
	for p, n := range pointNames {
		if n == s {
			return p
		}
	}
	return datapath.PointUnknown
}

// DirectionName gives INGRESS or EGRESS, as in Hubble's API.
func DirectionName(d datapath.Direction) string { return strings.ToUpper(d.String()) }

// ValueError says that a filter or a record holds a value that its field does not allow.
type ValueError struct {
	Field   string   // the filter's name, which is also its flag on the command line
	Value   string   // what was given
	Allowed []string // what is allowed, in words or as a list
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("%s: %q is not allowed; allowed: %s", e.Field, e.Value, strings.Join(e.Allowed, ", "))
}
