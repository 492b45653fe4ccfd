package bench

import (
	"time"

	"github.com/weirnet/weir/adapters/lab/load"
)

// sample is a made-up run with something of everything: ratios above and below their targets, a kind
// without latencies, a failure, cases that were skipped.
func sample() *Run {
	r := &Run{
		Version: runVersion, Weir: "v1.2.3", Started: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Seconds: 181.25,
		Machine: Host{Kernel: "6.12.1", CPU: "Some & Any <CPU>", Count: 4, CPUSource: sourceProcesses},
		Rounds:  3, Window: 1, CPUs: []int{0, 1},
	}
	add := func(name string, own, base [3]float64) {
		x := Result{Case: named(name)}
		x.Unit = metricOf(x.Kind).unit
		x.Own.Name, x.Base.Name = ownName(x.Case), x.Baseline
		for i := range own {
			x.Own.Rounds = append(x.Own.Rounds, sampleRound(x.Kind, i, own[i]))
			x.Base.Rounds = append(x.Base.Rounds, sampleRound(x.Kind, i, base[i]))
		}
		x.summarize()
		r.Results = append(r.Results, x)
	}
	add("tcp_rr/same/limit/ipv4", [3]float64{48000, 47800, 48100}, [3]float64{41000, 40800, 41100})
	add("tcp_rr/same/direct/policies_1/quiet/ipv4", [3]float64{44100, 43900, 43000}, [3]float64{41000, 40800, 41100})
	add("tcp_crr/same/direct/policies_1/quiet/ipv4", [3]float64{8500, 8400, 8300}, [3]float64{8900, 8950, 8800})
	add("tcp_stream/same/direct/policies_1/quiet/ipv4", [3]float64{36.5, 37, 36}, [3]float64{34, 34.5, 33})
	add("tcp_rr/vxlan/direct/policies_1/quiet/ipv4", [3]float64{30400, 29700, 30000}, [3]float64{27000, 26900, 27100})
	add("tcp_connect/same/direct/policies_1/quiet/ipv4", [3]float64{50, 51, 49}, [3]float64{55, 54, 56})
	add("tcp_crr/same/service_1/policies_1/quiet/ipv4", [3]float64{8400, 8500, 8450}, [3]float64{8500, 8500, 8500})
	r.Results = append(r.Results,
		Result{Case: named("udp_rr/same/direct/policies_1/quiet/ipv4"), Unit: "trans/s", Failed: "round 1, weir: client: receive: connection refused",
			Own: Side{Name: "weir"}, Base: Side{Name: RawSame}},
		Result{Case: named("tcp_rr/native/direct/policies_1/quiet/ipv4"), Unit: "trans/s", Skipped: "labs with native routing are not supported here"})
	r.Warnings = warnings(r)
	return r
}

func sampleRound(k load.Kind, round int, value float64) Measurement {
	m := Measurement{Round: round, Value: value, CPU: 22.5 + float64(round), Agents: 0.25, Follow: 1.5, Others: 0.01 * float64(2*round+2)}
	m.Raw = load.Report{Begin: 1e9, End: 2e9, Count: uint64(value), OwnCPU: 5e8, CPU: map[int]time.Duration{100 + round: 4e8}}
	m.Raw.Machine = load.Machine{CPUs: 4, User: 2e8, System: 9e8, Idle: 29e8}
	latency := load.Summary{Count: uint64(value), Min: 15000, Mean: 24000, P50: 22500, P90: 28000, P99: 61000, P999: 99000, Max: 812000}
	switch k {
	case load.TCPConnect:
		m.Raw.Connect, m.Raw.Latency = latency, latency
	case load.TCPStream:
		m.Raw.Bytes = uint64(value * 1e9 / 8)
	default:
		m.Raw.Latency = latency
	}
	return m
}

// named finds a case.
func named(name string) Case {
	for _, c := range Cases() {
		if c.Name == name {
			return c
		}
	}
	panic("no case " + name)
}
