package conntest

import (
	"fmt"
	"strings"

	"github.com/weirnet/weir/core/connectivity"
)

// Describe lists what tests there are, one a line.
func Describe() string {
	var b strings.Builder
	for _, t := range connectivity.Tests() {
		fmt.Fprintf(&b, "%-48s %s\n", t.Name, t.Summary)
		if len(t.Scenarios) > 0 {
			fmt.Fprintf(&b, "    %s\n", strings.Join(t.Scenarios, ", "))
		}
	}
	b.WriteString("\nNot there:\n")
	for _, a := range connectivity.AbsentTests() {
		fmt.Fprintf(&b, "%-48s %s\n", a.Name, a.Why)
	}
	return b.String()
}
