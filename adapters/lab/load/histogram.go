package load

import (
	"math/bits"
	"time"
)

// Each power of two is divided into 1<<subBits equal buckets: a bucket is at most 1.6 % wide.
const (
	subBits = 6
	subs    = 1 << subBits
	// maxBits bounds what is told apart: 2^40 ns are 18 minutes.
	maxBits = 40
	buckets = (maxBits - subBits + 1) * subs
)

// Histogram counts durations in buckets whose width grows with them. The zero value is empty. It never
// allocates; one caller at a time.
type Histogram struct {
	counts   [buckets]uint32
	n        uint64
	sum      int64
	min, max int64
}

// bucketOf numbers the bucket of a duration in ns: one each below subs, then subs for each power of two.
func bucketOf(ns int64) int {
	if ns < subs {
		return int(max(ns, 0))
	}
	shift := bits.Len64(uint64(ns)) - 1 - subBits
	if shift >= maxBits-subBits {
		return buckets - 1
	}
	return shift*subs + int(ns>>shift)
}

// bucketBounds is the inverse of bucketOf: the first duration of a bucket and of the next one.
func bucketBounds(i int) (from, to int64) {
	if i < 2*subs {
		return int64(i), int64(i) + 1
	}
	shift := i/subs - 1
	from = int64(i-shift*subs) << shift
	return from, from + 1<<shift
}

// Add counts a duration in ns.
func (h *Histogram) Add(ns int64) {
	h.counts[bucketOf(ns)]++
	if h.n == 0 || ns < h.min {
		h.min = ns
	}
	if ns > h.max {
		h.max = ns
	}
	h.n++
	h.sum += ns
}

// Quantile is the duration that the share q (0 to 1) of all stays at or below, in ns: the middle of its
// bucket, within the extremes. 0 if there are none.
func (h *Histogram) Quantile(q float64) int64 {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) || rank == 0 {
		rank++
	}
	var seen uint64
	for i, c := range h.counts {
		if seen += uint64(c); seen >= rank {
			from, to := bucketBounds(i)
			return min(max((from+to)/2, h.min), h.max)
		}
	}
	return h.max
}

// Summary is a histogram in a few numbers; all zero if it was empty.
type Summary struct {
	Count uint64        `json:"count"`
	Min   time.Duration `json:"min_ns"`
	Mean  time.Duration `json:"mean_ns"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Summary of what was counted so far.
func (h *Histogram) Summary() Summary {
	if h.n == 0 {
		return Summary{}
	}
	q := func(q float64) time.Duration { return time.Duration(h.Quantile(q)) }
	return Summary{
		Count: h.n, Min: time.Duration(h.min), Mean: time.Duration(h.sum / int64(h.n)),
		P50: q(0.5), P90: q(0.9), P99: q(0.99), P999: q(0.999), Max: time.Duration(h.max),
	}
}
