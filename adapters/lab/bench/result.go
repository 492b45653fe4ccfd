package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/weirnet/weir/adapters/lab/load"
)

// runVersion changes when the form of a stored run does.
const runVersion = 1

// Run is all that came of a run; stored as JSON.
type Run struct {
	Version  int       `json:"version"`
	Weir     string    `json:"weir"` // version of the program
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"` // that the run took
	Machine  Host      `json:"machine"`
	Rounds   int       `json:"rounds"`
	Window   float64   `json:"window_seconds"` // of one measurement
	CPUs     []int     `json:"cpus"`           // of client and server
	Results  []Result  `json:"results"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Host is the machine that a run took place on.
type Host struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	Count  int    `json:"count"` // processors online
	// CPUSource says what the processor time of a transaction is made of.
	CPUSource string `json:"cpu_source"`
	irqTime   bool
}

// Result is a case and what it was compared with.
type Result struct {
	Case
	Unit    string `json:"unit"`
	Skipped string `json:"skipped,omitempty"` // why it was not measured
	Failed  string `json:"failed,omitempty"`  // why it could not be measured to the end

	Own      Side      `json:"own"`
	Base     Side      `json:"base"`                // the baseline
	PerRound []float64 `json:"per_round,omitempty"` // ratio of each round
	Ratio    Spread    `json:"ratio"`               // above 1: the case is better
}

// Missed says whether the ratio is below its target.
func (r Result) Missed() bool {
	return r.Target > 0 && r.measured() && r.Ratio.Median < r.Target
}

func (r Result) measured() bool { return r.Skipped == "" && r.Failed == "" && len(r.PerRound) > 0 }

// Side is what a case is about, or its baseline.
type Side struct {
	Name   string        `json:"name"`
	Rounds []Measurement `json:"rounds,omitempty"`

	Value  Spread  `json:"value"`  // in the result's unit
	P50    float64 `json:"p50_us"` // median over the rounds; 0: the kind has no latency
	P99    float64 `json:"p99_us"`
	CPU    float64 `json:"cpu_us"`    // of client and server, a transaction (streams: a megabyte)
	Agents float64 `json:"agents_us"` // of the agents, likewise
	Follow float64 `json:"follow_us"` // of those who follow the flows, likewise
	Others float64 `json:"others"`    // share of the machine that others used
}

// Measurement is one side in one round.
type Measurement struct {
	Round  int         `json:"round"`
	Value  float64     `json:"value"`
	CPU    float64     `json:"cpu_us"`
	Agents float64     `json:"agents_us"`
	Follow float64     `json:"follow_us"`
	Others float64     `json:"others"`         // share (0 to 1) of the machine's time that neither the case nor weir used
	Steal  float64     `json:"steal"`          // share that the hypervisor took
	Lost   float64     `json:"lost,omitempty"` // share of datagrams
	Raw    load.Report `json:"raw"`
}

// metric is what the value of a kind is.
type metric struct {
	unit          string
	lowerIsBetter bool
}

func metricOf(k load.Kind) metric {
	switch k {
	case load.TCPConnect:
		return metric{"µs p50", true}
	case load.TCPStream:
		return metric{"Gbit/s", false}
	case load.UDPPPS:
		return metric{"packets/s", false}
	case load.TCPCRR:
		return metric{"conn/s", false}
	}
	return metric{"trans/s", false}
}

// latencyOf is the latency that a kind is about.
func latencyOf(k load.Kind, r load.Report) load.Summary {
	if k == load.TCPConnect {
		return r.Connect
	}
	return r.Latency
}

// summarize fills in what follows from the rounds.
func (s *Side) summarize(k load.Kind) {
	pick := func(f func(Measurement) float64) float64 {
		var all []float64
		for _, m := range s.Rounds {
			all = append(all, f(m))
		}
		return spreadOf(all).Median
	}
	var values []float64
	for _, m := range s.Rounds {
		values = append(values, m.Value)
	}
	s.Value = spreadOf(values)
	s.P50 = pick(func(m Measurement) float64 { return micros(latencyOf(k, m.Raw).P50) })
	s.P99 = pick(func(m Measurement) float64 { return micros(latencyOf(k, m.Raw).P99) })
	s.CPU = pick(func(m Measurement) float64 { return m.CPU })
	s.Agents = pick(func(m Measurement) float64 { return m.Agents })
	s.Follow = pick(func(m Measurement) float64 { return m.Follow })
	s.Others = pick(func(m Measurement) float64 { return m.Others })
}

func (r *Result) summarize() {
	r.Own.summarize(r.Kind)
	r.Base.summarize(r.Kind)
	r.PerRound = ratios(r.Own.Rounds, r.Base.Rounds, metricOf(r.Kind).lowerIsBetter)
	r.Ratio = spreadOf(r.PerRound)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// Failures are the results that could not be measured.
func (r *Run) Failures() []Result {
	var out []Result
	for _, x := range r.Results {
		if x.Failed != "" {
			out = append(out, x)
		}
	}
	return out
}

// Missed are the results below their targets.
func (r *Run) Missed() []Result {
	var out []Result
	for _, x := range r.Results {
		if x.Missed() {
			out = append(out, x)
		}
	}
	return out
}

// Read loads a stored run.
func Read(in io.Reader) (*Run, error) {
	r := &Run{}
	if err := json.NewDecoder(in).Decode(r); err != nil {
		return nil, fmt.Errorf("read a stored run: %w", err)
	}
	if r.Version != runVersion {
		return nil, fmt.Errorf("read a stored run: version %d, this program knows %d", r.Version, runVersion)
	}
	return r, nil
}
