package connectivity

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
)

// Action is one probe of a scenario, with what is expected of it.
type Action struct {
	Scenario string
	Name     string       // within the scenario: "http-ipv4-0"
	From     cluster.Name // FromOutside: nobody of the cluster
	To       string       // for people: a pod, a service, a node, an address
	FromRole string       // as the destination's policies see the source
	ToRole   string
	Port     uint16 // that the destination listens on, behind a service
	Probe    Probe
	Expect   Verdict
	// APIServer: what is outside is an API server of the cluster.
	APIServer bool

	// Of an answer, where there are any: the pods that may answer, the addresses that the sender may have
	// there, and the addresses that the name leads to.
	Answerers []string
	Sources   []netip.Addr
	Addrs     []netip.Addr
	// Nodes are those of both ends: whose agents know what happened.
	Nodes []string
}

// String describes the action in one line.
func (a Action) String() string {
	from := a.From.String()
	if a.From == FromOutside {
		from = a.From.Name
	}
	return fmt.Sprintf("%s -> %s (%s %s)", from, a.To, a.Probe.Kind, a.Probe)
}

// Step is a test with all it takes.
type Step struct {
	Test     Test
	Actions  []Action
	Policies []Document
	// Skip says why the test is not run; Actions is empty then.
	Skip string
	// Absent: the test is one of AbsentTests.
	Absent bool
	// Skipped are scenarios that are left out, with the reason.
	Skipped []SkippedScenario
}

// SkippedScenario is a scenario that can't be run here.
type SkippedScenario struct{ Scenario, Why string }

// Plan lays out every test that the filter selects, in the order of Tests.
func Plan(w World, f Filter) ([]Step, error) {
	var out []Step
	for _, t := range Tests() {
		if !f.Test(t.Name) {
			continue
		}
		s := Step{Test: t}
		if t.Check != "" && !f.Scenario(t.Name, "") {
			continue
		}
		if t.Check == CheckConnections && !w.Connections {
			if f.Everything() {
				continue
			}
			s.Skip = "--include-conn-disrupt-test is not given"
		}
		if t.Check != "" {
			out = append(out, s)
			continue
		}
		needed := ""
		for _, name := range t.Scenarios {
			sc, ok := findScenario(name)
			if !ok {
				return nil, fmt.Errorf("test %s: there is no scenario %s", t.Name, name)
			}
			if !f.Scenario(t.Name, name) {
				continue
			}
			actions, why := sc.plan(w)
			if len(actions) == 0 {
				s.Skipped = append(s.Skipped, SkippedScenario{name, cmp.Or(why, "no pods for it")})
				if slices.Contains(t.Needs, name) {
					needed = s.Skipped[len(s.Skipped)-1].Why
				}
				continue
			}
			number(name, actions)
			for i := range actions {
				actions[i].Expect = expect(t.Expect, actions[i])
			}
			s.Actions = append(s.Actions, actions...)
		}
		var err error
		if s.Policies, s.Skip, err = t.documents(w); err != nil {
			return nil, fmt.Errorf("test %s: %w", t.Name, err)
		}
		if s.Skip == "" {
			s.Skip = needed
		}
		if s.Skip == "" && len(s.Actions) == 0 {
			s.Skip = "none of its scenarios can be run here"
			if len(s.Skipped) == 0 {
				continue // the filter leaves none
			}
			s.Skip += ": " + s.Skipped[0].Why
		}
		if s.Skip != "" {
			s.Actions, s.Policies = nil, nil
		}
		out = append(out, s)
	}
	if f.Everything() {
		return out, nil
	}
	for _, a := range AbsentTests() {
		if f.Scenario(a.Name, "") {
			out = append(out, Step{Test: Test{Name: a.Name}, Skip: "not there: " + a.Why, Absent: true})
		}
	}
	return out, nil
}

// number names the actions of a scenario.
func number(scenario string, actions []Action) {
	count := map[string]int{}
	for i := range actions {
		a := &actions[i]
		a.Scenario = scenario
		key := fmt.Sprintf("%s-%s", a.Probe.Kind, a.Probe.family())
		a.Name = fmt.Sprintf("%s-%d", key, count[key])
		count[key]++
	}
}

// Sources lists the pods that the actions are made from, in order.
func (s Step) Sources() []cluster.Name {
	var out []cluster.Name
	for _, a := range s.Actions {
		if !slices.Contains(out, a.From) {
			out = append(out, a.From)
		}
	}
	return out
}
