// Package differential_test holds the eBPF programs and the fake kernel against each other: the same tables,
// the same packets, and after every packet the same verdict, frame, events, flows, and in the end counters; the same
// calls of sockets, and after each the same destination or refusal, and the same peer that the socket is shown.
//
// Packets are given to test runs of the programs, or travel over a wire (see wire_test.go); socket hooks meet the calls of real
// sockets (see sock_rig_test.go).
//
// Not compared: senders of tunnelled packets with IPv6 addresses (the place where test runs keep the sender holds
// IPv4 only), frames without a byte behind the Ethernet header, and what is left out when a table is full.
package differential_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

var (
	packetsFlag = flag.Int("packets", enoughPackets, "packets of the random sequences, for each seed")
	seedFlag    = flag.Uint64("seed", 1, "the first seed of the random sequences")
	seedsFlag   = flag.Uint64("seeds", 1, "how many seeds to use, one after the other")
)

// generate makes sequence n of a seed.
func generate(seed, n uint64) []op {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, n)), epochs: map[datapath.EndpointID]datapath.Epoch{}}
	g.calm, g.direct = g.chance(50), g.chance(50)
	if g.chance(60) {
		g.shadow = newShadow()
	}
	g.world()
	if g.shadow != nil {
		g.services()
	}
	for range 60 + g.IntN(200) {
		switch {
		case g.chance(10):
			g.event()
		case g.shadow != nil && g.chance(4):
			g.serviceEvent()
		case g.shadow != nil && g.chance(40):
			g.fromOutside()
		default:
			g.step()
		}
	}
	return g.ops
}

// fail reports a sequence after which the datapaths differ, cut down to what it takes, and keeps it.
func (r *rig) fail(t *testing.T, origin string, ops []op) {
	t.Helper()
	var last *difference
	ops = minimise(ops, 3000, func(ops []op) bool {
		d, err := r.play(ops, nil)
		if err == nil && d != nil {
			last = d
		}
		return err == nil && d != nil
	})
	if d, err := r.play(ops, nil); err == nil && d != nil {
		last = d
	}
	now := "it did not happen again"
	if last != nil {
		now = last.String()
	}
	data, err := encode(fmt.Sprintf("%s\n%s", origin, now), ops)
	require.NoError(t, err)
	kept := filepath.Join("testdata", fmt.Sprintf("failure-%d.jsonl", time.Now().UnixNano()))
	if err := os.WriteFile(kept, data, 0o644); err != nil {
		kept = fmt.Sprintf("nowhere (%v)", err)
	}
	t.Fatalf("%s\n%s\n%s\nkept in %s", origin, text(ops), now, kept)
}

// TestCorpus replays the sequences that once made a difference.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	r := newSocketRig(t)
	for _, name := range files {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		ops, err := decode(data)
		require.NoError(t, err, name)
		seen := newTally()
		d, err := r.play(ops, seen)
		require.NoError(t, err, name)
		if d != nil {
			t.Errorf("%s\n%s\n%s", name, text(ops), d)
		}
		require.NotZero(t, seen.packets+seen.calls, name)
	}
}

// progressEvery is how often a long run says how far it is.
const progressEvery = 15 * time.Second

// TestRandom plays random sequences.
func TestRandom(t *testing.T) {
	r, all := newRig(t), newTally()
	defer func() { all.log(t) }()
	for seed := *seedFlag; seed < *seedFlag+*seedsFlag; seed++ {
		start, seen, sequences := time.Now(), newTally(), uint64(0)
		said := start
		for ; seen.packets < *packetsFlag; sequences++ {
			ops := generate(seed, sequences)
			d, err := r.play(ops, seen)
			require.NoError(t, err, "seed %d, sequence %d", seed, sequences)
			if d != nil {
				r.fail(t, fmt.Sprintf("seed %d, sequence %d: %s", seed, sequences, d), ops)
			}
			if time.Since(said) > progressEvery {
				said = time.Now()
				fmt.Fprintf(os.Stderr, "seed %d: %d of %d packets, %.0f s\n", seed, seen.packets, *packetsFlag, said.Sub(start).Seconds())
			}
		}
		fmt.Fprintf(os.Stderr, "seed %d: %d packets in %d sequences, %.1f s\n", seed, seen.packets, sequences, time.Since(start).Seconds())
		all.add(seen)
	}
	if all.packets < enoughPackets {
		return
	}
	require.GreaterOrEqual(t, len(all.distinct), leastDistinct, "distinct packets")
	require.Empty(t, starved(all.counts, leastPackets))
}

// log shows what happened how often.
func (x *tally) log(t *testing.T) {
	for _, k := range slices.Sorted(maps.Keys(x.counts)) {
		t.Logf("%7d %s", x.counts[k], k)
	}
	t.Logf("%7d packets, %d of them distinct, and %d calls of sockets", x.packets, len(x.distinct), x.calls)
}

func TestSequencesSurviveTheCorpus(t *testing.T) {
	ops := generate(*seedFlag, 0)
	data, err := encode("a remark\nof two lines", ops)
	require.NoError(t, err)
	back, err := decode(data)
	require.NoError(t, err)
	require.Equal(t, text(ops), text(back))
	again, err := encode("a remark\nof two lines", back)
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))
}
