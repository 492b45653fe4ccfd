package bench

import "slices"

// Spread is a sample in three numbers.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf summarizes a sample; zero if it is empty.
func spreadOf(sample []float64) Spread {
	if len(sample) == 0 {
		return Spread{}
	}
	return Spread{median(sample), slices.Min(sample), slices.Max(sample)}
}

// median is the middle of a sample that is not empty, the mean of the two middle ones if their number is
// even.
func median(sample []float64) float64 {
	s := slices.Sorted(slices.Values(sample))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// ratios compares round by round; above 1 the case is the better one. Rounds that lack a side are left
// out.
func ratios(own, baseline []Measurement, lowerIsBetter bool) []float64 {
	var out []float64
	for _, s := range own {
		i := slices.IndexFunc(baseline, func(b Measurement) bool { return b.Round == s.Round })
		if i < 0 || s.Value == 0 || baseline[i].Value == 0 {
			continue
		}
		r := s.Value / baseline[i].Value
		if lowerIsBetter {
			r = 1 / r
		}
		out = append(out, r)
	}
	return out
}
