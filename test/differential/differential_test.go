// Package differential_test holds the eBPF programs and the fake kernel against each other: the same tables,
// the same packets, and after every packet the same verdict, frame, events, flows, and in the end counters.
//
// Not compared: the socket hooks (the kernel offers no test runs of them; the live tests of adapters/ebpf
// and the tests of fakes/kernel look at each side), VLAN tags that a device has taken off, senders of tunnelled packets with
// IPv6 addresses (test runs take neither), frames without a byte behind the Ethernet header or larger than a
// page, and what is left out when a table is full.
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
	packetsFlag = flag.Int("packets", 15000, "packets of the random sequences, for each seed")
	seedFlag    = flag.Uint64("seed", 1, "the first seed of the random sequences")
	seedsFlag   = flag.Uint64("seeds", 1, "how many seeds to use, one after the other")
)

// generate makes sequence n of a seed.
func generate(seed, n uint64) []op {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, n)), epochs: map[datapath.EndpointID]datapath.Epoch{}}
	g.calm = g.chance(50)
	g.world()
	for range 60 + g.IntN(200) {
		if g.chance(10) {
			g.event()
		} else {
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
	data, err := encode(fmt.Sprintf("%s\n%s", origin, last), ops)
	require.NoError(t, err)
	kept := filepath.Join("testdata", fmt.Sprintf("failure-%d.jsonl", time.Now().UnixNano()))
	if err := os.WriteFile(kept, data, 0o644); err != nil {
		kept = fmt.Sprintf("nowhere (%v)", err)
	}
	t.Fatalf("%s\n%s\n%s\nkept in %s", origin, text(ops), last, kept)
}

// TestCorpus replays the sequences that once made a difference.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	require.NoError(t, err)
	r := newRig(t)
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
		require.NotZero(t, seen.packets, name)
	}
}

// TestRandom plays random sequences.
func TestRandom(t *testing.T) {
	r, all := newRig(t), newTally()
	defer func() { all.log(t) }()
	for seed := *seedFlag; seed < *seedFlag+*seedsFlag; seed++ {
		start, seen, sequences := time.Now(), newTally(), uint64(0)
		for ; seen.packets < *packetsFlag; sequences++ {
			ops := generate(seed, sequences)
			d, err := r.play(ops, seen)
			require.NoError(t, err, "seed %d, sequence %d", seed, sequences)
			if d != nil {
				r.fail(t, fmt.Sprintf("seed %d, sequence %d: %s", seed, sequences, d), ops)
			}
		}
		fmt.Fprintf(os.Stderr, "seed %d: %d packets in %d sequences, %.1f s\n", seed, seen.packets, sequences, time.Since(start).Seconds())
		all.add(seen)
	}
	if all.packets < 10000 {
		return
	}
	for _, what := range []string{
		"from_pod pass", "from_pod redirect_peer", "from_pod tunnel", "to_pod pass", "from_overlay pass", "from_overlay redirect_peer",
		"from_host pass", "from_host tunnel", "from_pod drop 132", "from_pod drop 133", "from_pod drop 134", "from_pod drop 135",
		"from_pod drop 139", "from_overlay drop 147", "to_pod drop 150", "from_pod drop 156", "from_overlay drop 172",
		"from_pod drop 175", "from_pod drop 176", "from_pod drop 181", "from_pod drop 182", "from_pod drop 203",
	} {
		require.NotZero(t, all.counts[what], "the sequences never lead to: %s", what)
	}
	for _, hook := range []string{"from_pod", "to_pod", "from_overlay"} {
		for _, what := range []string{"type 1 reply false", "type 1 reply true", "type 2 reply false", "type 2 reply true", "type 3 reply false", "type 3 reply true"} {
			require.NotZero(t, all.counts[hook+" "+what], "the sequences never lead to this event: %s %s", hook, what)
		}
	}
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
