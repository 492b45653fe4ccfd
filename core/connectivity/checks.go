package connectivity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
)

// expectedDrops are reasons that say more about who sent a packet than about the network, as flow.ReasonText words
// them.
var expectedDrops = []string{
	"Policy denied", "Policy denied by denylist", "Unsupported L2 protocol", "Unsupported L3 protocol", "Stale or unroutable IP",
	"Authentication required", "Service backend not found", "Unsupported protocol for NAT masquerade", "Invalid source ip",
	"Unknown L3 target address", "Host datapath not ready", "Unknown ICMPv4 code", "Unknown ICMPv6 code",
	"Forbidden ICMPv6 message", "No egress gateway found",
}

// ExpectedDrops works out which reasons of drops are no fault. Without entries, or if the first one begins with + or -,
// the usual ones are where it starts from: +REASON adds one, -REASON takes one away. Otherwise the entries are all.
func ExpectedDrops(entries []string) ([]string, error) {
	known := slices.Clone(expectedDrops)
	for _, d := range flow.DropReasons() {
		known = append(known, d.Text)
	}
	var out []string
	if len(entries) == 0 || strings.ContainsAny(entries[0][:min(1, len(entries[0]))], "+-") {
		out = slices.Clone(expectedDrops)
	}
	for _, e := range entries {
		name := strings.TrimLeft(e, "+-")
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q is no reason for a drop; allowed, with + or - in front or not: %s", e, strings.Join(texts(), ", "))
		}
		if strings.HasPrefix(e, "-") {
			out = slices.DeleteFunc(out, func(s string) bool { return s == name })
		} else if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}

func texts() (out []string) {
	for _, d := range flow.DropReasons() {
		out = append(out, d.Text)
	}
	slices.Sort(out)
	return out
}

// JudgeDrops names the drops of a node, counted by reason, that are not expected. before is what had been counted
// when the run began; nil: that is not known.
func JudgeDrops(node string, counted, before map[datapath.Reason]uint64, expected []string) (problems []string) {
	for _, d := range flow.DropReasons() {
		if n := counted[d.Number]; n > 0 && !slices.Contains(expected, d.Text) {
			problem := fmt.Sprintf("node %s has dropped %d packets: %s (reason %d)", node, n, d.Text, d.Number)
			if before != nil {
				problem += fmt.Sprintf("; %d of them during this run", n-min(n, before[d.Number]))
			}
			problems = append(problems, problem)
		}
	}
	for r, n := range counted {
		if flow.ReasonText(r) == fmt.Sprintf("Reason %d", r) {
			problems = append(problems, fmt.Sprintf("node %s has dropped %d packets for the unknown reason %d", node, n, r))
		}
	}
	slices.Sort(problems)
	return problems
}

// LogJudge looks for errors in one program's log. The zero value is not usable: Levels must be set.
type LogJudge struct {
	Levels []string // of slog, in upper case
	counts map[string]int
	first  []string // what was found, in order
}

// crashes are how a line begins that the Go runtime writes when a program ends by a fault.
var crashes = []string{"panic: ", "fatal error: ", "runtime: ", "WARNING: DATA RACE", "SIGSEGV"}

// harmless are errors of leader election: who loses a race for the lease, or cannot ask for it for a while, tries again.
var harmless = []string{
	"Error initially creating lease lock", "Error retrieving lease lock", "error retrieving resource lock",
	"Failed to update lock", "Failed to update lease", "Failed to release lease",
}

// Line takes in a line of the log.
func (j *LogJudge) Line(line string) {
	bad := slices.ContainsFunc(crashes, func(c string) bool { return strings.HasPrefix(line, c) }) || strings.Contains(line, "Missed tail call")
	for _, l := range j.Levels {
		bad = bad || strings.Contains(line, " level="+l+" ") || strings.HasPrefix(line, "level="+l+" ")
	}
	if !bad || slices.ContainsFunc(harmless, func(h string) bool { return strings.Contains(line, ` msg="`+h+`" `) }) {
		return
	}
	key := withoutTime(line)
	if j.counts == nil {
		j.counts = map[string]int{}
	}
	if j.counts[key]++; j.counts[key] == 1 {
		j.first = append(j.first, line)
	}
}

// withoutTime is what a line has in common with others that say the same.
func withoutTime(line string) string {
	if _, rest, ok := strings.Cut(line, " level="); ok {
		return rest
	}
	return line
}

// logLinesShown bounds what is quoted of one log.
const logLinesShown = 5

// Problems tells what was found in the log of a pod.
func (j *LogJudge) Problems(pod string) (out []string) {
	for i, line := range j.first {
		if i == logLinesShown {
			return append(out, fmt.Sprintf("%s: %d more lines like these", pod, len(j.first)-i))
		}
		out = append(out, fmt.Sprintf("%s says %d times: %s", pod, j.counts[withoutTime(line)], line))
	}
	return out
}

// JudgeRestarts compares the restarts of the clients that keep connections, by pod, with what they were.
func JudgeRestarts(before, now map[string]int) (problems []string) {
	for pod, was := range before {
		is, there := now[pod]
		switch {
		case !there:
			problems = append(problems, fmt.Sprintf("pod %s, which kept a connection, is gone", pod))
		case is != was:
			problems = append(problems, fmt.Sprintf("pod %s lost its connection: its container was restarted %d times, and %d times when the connections were made", pod, is, was))
		}
	}
	if len(before) == 0 {
		problems = []string{"no connections were made"}
	}
	slices.Sort(problems)
	return problems
}
