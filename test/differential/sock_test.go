package differential_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/clock"
	"github.com/weirnet/weir/fakes/kernel"
)

var callsFlag = flag.Int("calls", enoughCalls, "calls of sockets of the random sequences, for each seed")

// TestSockets plays random sequences of calls.
func TestSockets(t *testing.T) {
	r, all := newSocketRig(t), newTally()
	defer func() { all.log(t) }()
	for seed := *seedFlag; seed < *seedFlag+*seedsFlag; seed++ {
		start, seen, sequences := time.Now(), newTally(), uint64(0)
		said := start
		for ; seen.calls < *callsFlag; sequences++ {
			ops := generateCalls(seed, sequences)
			d, err := r.play(ops, seen)
			require.NoError(t, err, "seed %d, sequence %d of calls", seed, sequences)
			if d != nil {
				r.fail(t, fmt.Sprintf("seed %d, sequence %d of calls: %s", seed, sequences, d), ops)
			}
			if time.Since(said) > progressEvery {
				said = time.Now()
				fmt.Fprintf(os.Stderr, "seed %d: %d of %d calls, %.0f s\n", seed, seen.calls, *callsFlag, said.Sub(start).Seconds())
			}
		}
		fmt.Fprintf(os.Stderr, "seed %d: %d calls in %d sequences, %.1f s\n", seed, seen.calls, sequences, time.Since(start).Seconds())
		all.add(seen)
	}
	if all.calls >= enoughCalls {
		least := maps.Clone(leastCalls)
		maps.DeleteFunc(least, func(what string, _ int) bool { return !r.sockets.lite && strings.Contains(what, "UDP-Lite") })
		require.Empty(t, starved(all.counts, least))
	}
}

// TestChoiceOfBackends looks at many choices: each slot is as likely as any other, and five picks are made.
func TestChoiceOfBackends(t *testing.T) {
	r := newSocketRig(t)
	require.NoError(t, r.reset())
	const tries = 6000
	for f, frontend := range []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("[fd00:96::1]:80")} {
		key := datapath.ServiceKey{Addr: frontend.Addr(), Port: frontend.Port(), Proto: datapath.ProtoUDP}
		// use makes a service of these backends, by slot; 0: the slot's backend is missing.
		use := func(slots ...uint32) {
			ops := []op{{Service: put(key, datapath.Service{ID: 1, Count: uint32(len(slots))})}}
			for n, id := range slots {
				ops = append(ops, op{SlotRow: put(datapath.SlotKey{Service: 1, Slot: uint32(n + 1)}, id)})
				if id != 0 {
					b := datapath.Backend{Addr: backendAddrs[f][0], Port: servedPorts[id], Proto: datapath.ProtoUDP}
					ops = append(ops, op{Backend: put(id, b)})
				}
			}
			k, c := kernel.New(kernel.Options{}), clock.New(clock.Epoch)
			for _, o := range ops {
				require.NoError(t, r.apply(o, k, c))
			}
		}
		// count connects many times; refused calls count for port 0.
		count := func() map[uint16]int {
			counts := map[uint16]int{}
			s := r.sockets
			require.NoError(t, s.create(&call{Do: "open", V6: f == 1, Proto: datapath.ProtoUDP}))
			for range tries {
				err := unix.Connect(s.open[0].fd, sockaddr(frontend, f == 1))
				if errors.Is(err, unix.ECONNREFUSED) {
					counts[0]++
					continue
				}
				require.NoError(t, err)
				real, callErr, err := s.probe(s.open[0], nil)
				require.NoError(t, errors.Join(callErr, err))
				counts[real.Port()]++
			}
			return counts
		}
		use(1, 2, 3, 4)
		counts := count()
		require.Len(t, counts, 4)
		for port, n := range counts {
			require.InDelta(t, tries/4, n, 200, "port %d", port) // six standard deviations
		}
		use(1, 2, 2, 2)
		require.InDelta(t, tries/4, count()[servedPorts[1]], 200, "a backend with three slots of four")
		use(0, 1)
		require.InDelta(t, tries/32, count()[0], 70, "every other slot leads nowhere: five picks fail once in 32 times")
	}
	require.NoError(t, r.reset())
}
