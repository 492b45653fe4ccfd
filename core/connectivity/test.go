package connectivity

// Test is a set of policies, the scenarios that are run under them, and what must come of these.
type Test struct {
	Name      string
	Summary   string
	Policies  []string // files under policies/
	Scenarios []string
	// Needs are those of the scenarios without which the others prove nothing: the test is skipped then.
	Needs  []string
	Expect []Clause
	// Check is what the test looks at instead of letting pods talk; it has no scenarios then.
	Check Check
}

// Check is something that is looked at on every node.
type Check string

// The checks.
const (
	CheckConnections Check = "connections" // the clients of a run with Layout.Disruption have not been restarted
	CheckDrops       Check = "drops"       // the counters of dropped packets
	CheckLogs        Check = "logs"        // the logs of agents and operators
)

// Roles in groups.
var (
	clients  = []string{"client*"}
	echoes   = []string{"echo*"}
	nodes    = []string{RoleHost, RoleRemoteNode}
	outsides = []string{"outside*"}
	pods     = []string{"client*", "echo*"}
)

// Scenarios that most tests of egress have in common.
var egressScenarios = []string{"pod-to-pod", "pod-to-pod-udp", "client-to-client", "pod-to-service", "pod-to-service-udp", "pod-to-world", "pod-to-world-2"}

// Tests are all tests in the order in which they are run.
func Tests() []Test {
	out := append(basicTests(), ingressTests()...)
	out = append(out, egressTests()...)
	out = append(out, denyTests()...)
	return append(out, specialTests()...)
}
