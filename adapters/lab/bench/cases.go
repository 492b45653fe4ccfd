package bench

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/adapters/lab/load"
)

// Routing is how nodes of a lab reach each other's pods.
type Routing string

// The routings.
const (
	VXLAN  Routing = "vxlan"
	Native Routing = "native"
)

// Values of Case.Place.
const (
	PlaceSame   = "same"   // both pods on one node
	PlaceVXLAN  = "vxlan"  // two nodes, tunnelled
	PlaceNative = "native" // two nodes, routed
)

// Values of Case.Via.
const (
	ViaDirect  = "direct"  // the server's own address
	ViaService = "service" // the ClusterIP of a service whose only backend it is
	ViaLimit   = "limit"   // one link between two namespaces; between nodes, programs that do one lookup
	ViaPlain   = "plain"   // the kernel's own forwarding between nodes
	// ViaKubeProxy is ViaService, compared with the same number of services in a plain network whose nodes
	// have kube-proxy. It takes its program (Options.KubeProxy).
	ViaKubeProxy = "kubeproxy"
)

// Names of baselines.
const (
	RawSame   = "raw same node"
	RawVXLAN  = "raw vxlan"
	RawRoute  = "raw routing"
	WeirPlain = "weir direct"
	KubeProxy = "kube-proxy"
)

// Case is one sort of traffic in one setting.
type Case struct {
	Name     string    `json:"name"`
	Kind     load.Kind `json:"kind"`
	Flows    int       `json:"flows"` // connections at a time
	Place    string    `json:"place"`
	Via      string    `json:"via"`
	Services int       `json:"services"` // how many there are; 0: none
	Policies int       `json:"policies"` // how many select both pods, one of which allows the traffic; 0: none
	Export   bool      `json:"export"`   // somebody follows the flows of all nodes
	Family   int       `json:"family"`   // 4 or 6
	Baseline string    `json:"baseline"`
	Default  bool      `json:"default"`          // measured when nothing is chosen
	Target   float64   `json:"target,omitempty"` // what the ratio is to reach; 0: none
}

// routing is what the lab of a case needs.
func (c Case) routing() Routing {
	if c.Place == PlaceNative && c.Via != ViaPlain {
		return Native
	}
	return VXLAN
}

// state is what the lab is in while a case is measured.
type state struct {
	policies, services int
	export             bool
}

func (c Case) state() state { return state{c.Policies, c.Services, c.Export} }

// kindName tells apart the numbers of flows.
func (c Case) kindName() string {
	if c.Flows > 1 {
		return fmt.Sprintf("%s_%d", c.Kind, c.Flows)
	}
	return string(c.Kind)
}

func (c Case) name() string {
	parts := []string{c.kindName(), c.Place}
	switch c.Via {
	case ViaLimit, ViaPlain:
		return strings.Join(append(parts, c.Via, fmt.Sprintf("ipv%d", c.Family)), "/")
	case ViaService:
		parts = append(parts, fmt.Sprintf("service_%d", c.Services))
	case ViaKubeProxy:
		parts = append(parts, fmt.Sprintf("service_%d_kubeproxy", c.Services))
	default:
		parts = append(parts, c.Via)
	}
	export := "quiet"
	if c.Export {
		export = "export"
	}
	return strings.Join(append(parts, fmt.Sprintf("policies_%d", c.Policies), export, fmt.Sprintf("ipv%d", c.Family)), "/")
}

// traffic is a kind with its number of flows.
type traffic struct {
	kind  load.Kind
	flows int
}

var allTraffic = []traffic{
	{load.TCPRR, 1}, {load.TCPCRR, 1}, {load.TCPStream, 1}, {load.UDPRR, 1}, {load.UDPPPS, 1}, {load.TCPConnect, 1},
	{load.TCPRR, 64}, {load.TCPRR, 4096},
}

// Cases lists all of them, in the order in which they are measured at least cost.
func Cases() []Case {
	var out []Case
	add := func(c Case) {
		c.Name = c.name()
		c.Target = target(c)
		c.Default = isDefault(c)
		out = append(out, c)
	}
	raw := map[string]string{PlaceSame: RawSame, PlaceVXLAN: RawVXLAN, PlaceNative: RawRoute}
	for _, family := range []int{4, 6} {
		for _, t := range allTraffic {
			add(Case{Kind: t.kind, Flows: t.flows, Place: PlaceSame, Via: ViaLimit, Family: family, Baseline: RawSame})
			if family == 4 {
				add(Case{Kind: t.kind, Flows: t.flows, Place: PlaceNative, Via: ViaLimit, Family: family, Baseline: RawRoute})
			}
			add(Case{Kind: t.kind, Flows: t.flows, Place: PlaceVXLAN, Via: ViaPlain, Family: family, Baseline: RawSame})
			add(Case{Kind: t.kind, Flows: t.flows, Place: PlaceNative, Via: ViaPlain, Family: family, Baseline: RawSame})
		}
	}
	for _, place := range []string{PlaceSame, PlaceVXLAN, PlaceNative} {
		for _, policies := range []int{0, 1, 1000} {
			for _, export := range []bool{false, true} {
				for _, family := range []int{4, 6} {
					for _, t := range allTraffic {
						add(Case{Kind: t.kind, Flows: t.flows, Place: place, Via: ViaDirect, Policies: policies,
							Export: export, Family: family, Baseline: raw[place]})
					}
				}
			}
		}
		for _, services := range []int{1, 1000, 5000} {
			for _, family := range []int{4, 6} {
				for _, t := range allTraffic {
					if t.flows > 1 || t.kind == load.UDPPPS {
						continue
					}
					add(Case{Kind: t.kind, Flows: 1, Place: place, Via: ViaService, Services: services, Policies: 1, Family: family, Baseline: WeirPlain})
				}
			}
		}
	}
	for _, services := range []int{1, 1000} {
		for _, family := range []int{4, 6} {
			for _, t := range allTraffic {
				if t.flows > 1 || t.kind == load.UDPPPS {
					continue
				}
				add(Case{Kind: t.kind, Flows: 1, Place: PlaceSame, Via: ViaKubeProxy, Services: services, Policies: 1, Family: family, Baseline: KubeProxy})
			}
		}
	}
	slices.SortStableFunc(out, compareCost)
	return out
}

// compareCost puts together what shares a lab and a state of it.
func compareCost(a, b Case) int {
	if a.routing() != b.routing() { // vxlan first
		return strings.Compare(string(b.routing()), string(a.routing()))
	}
	x, y := a.state(), b.state()
	if x.services != y.services {
		return x.services - y.services
	}
	if x.policies != y.policies {
		return x.policies - y.policies
	}
	switch {
	case x.export == y.export:
		return 0
	case y.export:
		return -1
	}
	return 1
}

// isDefault chooses what the targets are about, and of each setting no more than it takes to see.
func isDefault(c Case) bool {
	if c.Family != 4 || c.Flows > 1 {
		return false
	}
	among := func(kinds ...load.Kind) bool { return slices.Contains(kinds, c.Kind) }
	switch {
	case c.Via == ViaLimit && c.Place == PlaceNative:
		return among(load.TCPRR, load.TCPCRR, load.TCPStream)
	case c.Via == ViaLimit:
		return among(load.TCPRR)
	case c.Via == ViaPlain || c.Policies != 1:
		return false
	case c.Via == ViaKubeProxy:
		return c.Services == 1000 && among(load.TCPRR, load.TCPCRR)
	case c.Via == ViaService:
		return c.Place == PlaceSame && (c.Services == 1 && among(load.TCPRR, load.TCPCRR) || c.Services == 1000 && among(load.TCPCRR))
	case c.Export:
		return among(load.TCPCRR)
	case c.Place == PlaceSame:
		return among(load.TCPRR, load.TCPCRR, load.TCPStream, load.UDPRR)
	}
	return among(load.TCPRR, load.TCPCRR, load.TCPStream)
}

// target is the ratio that a case is to reach with policies in force and every flow recorded, whether or not anybody
// follows the record; 0: none is set.
func target(c Case) float64 {
	if c.Policies == 0 || c.Flows > 1 || c.Via == ViaKubeProxy {
		return 0
	}
	goals := map[load.Kind]float64{load.TCPRR: 1.10, load.TCPCRR: 1.00, load.TCPStream: 1.05}
	switch {
	case c.Via == ViaService:
		goals = map[load.Kind]float64{load.TCPRR: 0.99, load.TCPCRR: 0.97}
	case c.Place == PlaceSame:
		goals = map[load.Kind]float64{load.TCPRR: 1.05, load.TCPCRR: 1.00, load.TCPStream: 1.05, load.UDPRR: 1.05}
	}
	return goals[c.Kind]
}

// Select returns the cases whose names the expression matches; the default ones if it is empty. Without
// kube-proxy those that take it are left out.
func Select(expression string, kubeProxy bool) ([]Case, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, err
	}
	var out []Case
	lacking := false
	for _, c := range Cases() {
		if c.Via == ViaKubeProxy && !kubeProxy {
			lacking = lacking || expression != "" && re.MatchString(c.Name)
			continue
		}
		if expression == "" && c.Default || expression != "" && re.MatchString(c.Name) {
			out = append(out, c)
		}
	}
	if len(out) == 0 && lacking {
		return nil, fmt.Errorf("what %q matches takes the program of kube-proxy (--kube-proxy)", expression)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no case matches %q (--list shows them)", expression)
	}
	return out, nil
}
