package load

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(0, 1<<maxBits-1).Draw(t, "ns")
		from, to := bucketBounds(bucketOf(ns))
		require.LessOrEqual(t, from, ns)
		require.Greater(t, to, ns)
		require.LessOrEqual(t, float64(to-from-1), float64(ns)/subs, "width")
	})
	for i := range buckets {
		from, to := bucketBounds(i)
		require.Equal(t, i, bucketOf(from))
		require.Equal(t, i, bucketOf(to-1))
	}
	require.Equal(t, buckets-1, bucketOf(math.MaxInt64))
	require.Zero(t, bucketOf(-5))
}

func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sample := rapid.SliceOfN(rapid.Int64Range(0, 1<<36), 1, 300).Draw(t, "sample")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		var h Histogram
		for _, v := range sample {
			h.Add(v)
		}
		slices.Sort(sample)
		// The definition: the least value that at least this share stays at or below.
		want := sample[max(int(math.Ceil(q*float64(len(sample))))-1, 0)]
		require.InDelta(t, want, h.Quantile(q), float64(want)/subs+1)
		s := h.Summary()
		require.EqualValues(t, len(sample), s.Count)
		require.EqualValues(t, sample[0], s.Min)
		require.EqualValues(t, sample[len(sample)-1], s.Max)
		require.LessOrEqual(t, s.P50, s.P99)
		require.LessOrEqual(t, s.P999, s.Max)
		require.GreaterOrEqual(t, s.Mean, s.Min)
		require.LessOrEqual(t, s.Mean, s.Max)
	})
	require.Equal(t, Summary{}, (&Histogram{}).Summary())
	require.Zero(t, (&Histogram{}).Quantile(0.5))
	var one Histogram
	one.Add(int64(time.Millisecond))
	require.Equal(t, time.Millisecond, one.Summary().P50, "never beyond the extremes")
}
