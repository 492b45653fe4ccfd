package flow_test

import (
	"encoding/json"
	"fmt"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
)

// Filters are checked when they are compiled; the error says what is allowed.
func ExampleCompile() {
	drops, err := flow.Compile(flow.Filter{Verdict: []string{"POLICY_DENIED"}, DestPod: []string{"shop/backend"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(drops(sample()), drops(sample(dropped(datapath.ReasonPolicyDenied))))

	_, err = flow.Compile(flow.Filter{Protocol: []string{"quic"}})
	fmt.Println(err)
	// Output:
	// false true
	// protocol: "quic" is not allowed; allowed: tcp, udp, icmp, icmpv4, icmpv6, sctp
}

// A reader that is too slow learns how many entries it missed.
func ExampleRing() {
	ring := flow.NewRing(2)
	cursor := ring.Oldest()
	for range 5 {
		ring.Push(flow.Entry{Flow: sample()})
	}
	for {
		_, next, missed, ok := ring.Read(cursor)
		if !ok {
			break
		}
		fmt.Println("missed:", missed)
		cursor = next
	}
	// Output:
	// missed: 3
	// missed: 0
}

// A builder gives an event its names: who sent it, to whom, and which rule decided.
func ExampleBuilder() {
	f := flow.NewBuilder("n1", 1, shop).Build(event())
	fmt.Printf("%s/%s -> %s/%s: %s, %s\n", f.Source.Namespace, f.Source.Pod, f.Dest.Namespace, f.Dest.Pod,
		flow.ReasonText(f.Event.Reason), f.Ingress)
	// Output:
	// shop/frontend-1 -> shop/backend-2: Policy denied, default deny (NetworkPolicy shop/backend-ingress)
}

// Entries are written in the form that Hubble's command line prints and reads.
func ExampleEntry_MarshalJSON() {
	line, err := json.Marshal(flow.Entry{Lost: &flow.Lost{Source: flow.LostKernel, Count: 12, First: at(1), Last: at(1)}})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
	// Output:
	// {"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"12","first":"2024-05-01T12:00:01Z","last":"2024-05-01T12:00:01Z"},"time":"2024-05-01T12:00:01Z"}
}
