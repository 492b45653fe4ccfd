package bench

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Measures of the image, in pixels.
const (
	plotHeight  = 300 // of the area with the bars
	plotLeft    = 56  // left of it
	plotTop     = 60  // above it, beside the legend
	plotMin     = 720 // least width of the image
	barWidth    = 34
	barGap      = 10
	groupGap    = 40
	legendLine  = 18
	plotCeiling = 2.0 // taller bars are cut off; their numbers say how tall
)

// Colours that can be told apart in print and by most eyes; a bar of another series takes the next.
var palette = []string{"#2f6db5", "#d9822b", "#3a9a5b", "#8d5fb3", "#b8434e", "#6b6b6b", "#c2a83e", "#4aa3b8"}

// series is what bars of one colour have in common: everything but the sort of traffic.
type series struct{ label, baseline string }

// bar is one result in the image.
type bar struct {
	r      Result
	series int
}

type group struct {
	kind string
	bars []bar
}

// Plot draws the ratios of what was measured as an SVG image: groups of bars, one group a sort of traffic,
// with a line at 1. Whiskers reach from the worst to the best round; a dashed line is a target.
func (r *Run) Plot() string {
	groups, all, common := r.arrange()
	top := plotTop + legendLine*len(all)
	width := plotLeft + groupGap
	for _, g := range groups {
		width += len(g.bars)*(barWidth+barGap) + groupGap
	}
	width = max(width, plotMin)
	ceiling := r.ceiling()
	y := func(ratio float64) float64 {
		return float64(top) + plotHeight*(1-min(ratio, ceiling)/ceiling)
	}
	notes := r.footnotes(common)
	height := top + plotHeight + 40 + legendLine*len(notes) + 10

	s := &svg{}
	s.line(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, width, height, width, height)
	s.line(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	s.line(`<text x="%d" y="24" font-size="16" font-weight="bold">Ratio to the baseline in the same round; above 1 is better</text>`, plotLeft)
	for i, x := range all {
		at := plotTop - 20 + legendLine*i
		s.line(`<rect x="%d" y="%d" width="12" height="12" fill="%s"/>`, plotLeft, at, colour(i))
		s.line(`<text x="%d" y="%d">%s, against %s</text>`, plotLeft+20, at+11, html.EscapeString(x.label), html.EscapeString(x.baseline))
	}
	for v := 0.0; v <= ceiling+1e-9; v += 0.25 {
		s.line(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`, plotLeft, width-10, y(v), y(v))
		s.line(`<text x="%d" y="%.1f" text-anchor="end">%.2f</text>`, plotLeft-6, y(v)+4, v)
	}
	x := plotLeft + groupGap/2
	for _, g := range groups {
		begin := x
		for _, b := range g.bars {
			s.bar(b, x, y)
			x += barWidth + barGap
		}
		s.line(`<text x="%d" y="%d" text-anchor="middle" font-weight="bold">%s</text>`, (begin+x-barGap)/2, top+plotHeight+20, html.EscapeString(g.kind))
		x += groupGap
	}
	s.line(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#000000" stroke-width="1.5"/>`, plotLeft, width-10, y(1), y(1))
	for i, n := range notes {
		s.line(`<text x="%d" y="%d" fill="#444444">%s</text>`, plotLeft, top+plotHeight+46+legendLine*i, html.EscapeString(n))
	}
	s.line(`</svg>`)
	return s.b.String()
}

type svg struct{ b strings.Builder }

func (s *svg) line(format string, args ...any) { fmt.Fprintf(&s.b, format+"\n", args...) }

func (s *svg) bar(b bar, x int, y func(float64) float64) {
	r := b.r
	m := y(r.Ratio.Median)
	s.line(`<g><title>%s: %.2f (%.2f to %.2f) of %s</title>`, html.EscapeString(r.Name), r.Ratio.Median, r.Ratio.Min, r.Ratio.Max, html.EscapeString(r.Base.Name))
	s.line(`<rect x="%d" y="%.1f" width="%d" height="%.1f" fill="%s"/>`, x, m, barWidth, y(0)-m, colour(b.series))
	mid := x + barWidth/2
	s.line(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#000000"/>`, mid, mid, y(r.Ratio.Min), y(r.Ratio.Max))
	if r.Target > 0 {
		s.line(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#000000" stroke-width="2" stroke-dasharray="4 2"/>`,
			x-3, x+barWidth+3, y(r.Target), y(r.Target))
	}
	s.line(`<text x="%d" y="%.1f" text-anchor="middle">%.2f</text></g>`, mid, min(m, y(r.Ratio.Max))-5, r.Ratio.Median)
}

func colour(series int) string { return palette[series%len(palette)] }

// ceiling is the top of the scale: a quarter that all bars stay below, unless they are very tall.
func (r *Run) ceiling() float64 {
	top := 1.2
	for _, x := range r.Results {
		if x.measured() {
			top = max(top, x.Ratio.Max, x.Target)
		}
	}
	return min(math.Ceil(top*4)/4, plotCeiling)
}

// arrange groups the measured results by their sorts of traffic, and gives the words that all names (of more
// than a link or a plain network) have in common, which no label repeats.
func (r *Run) arrange() (groups []group, all []series, common []string) {
	var measured []Result
	counts, full := map[string]int{}, 0
	for _, x := range r.Results {
		if !x.measured() {
			continue
		}
		measured = append(measured, x)
		if x.Via == ViaLimit || x.Via == ViaPlain {
			continue
		}
		full++
		for _, w := range strings.Split(x.Name, "/")[1:] {
			counts[w]++
			if counts[w] == 1 {
				common = append(common, w)
			}
		}
	}
	common = slices.DeleteFunc(common, func(w string) bool { return full < 2 || counts[w] < full })
	for _, t := range allTraffic {
		g := group{kind: Case{Kind: t.kind, Flows: t.flows}.kindName()}
		for _, x := range measured {
			if x.kindName() != g.kind {
				continue
			}
			words := strings.Split(x.Name, "/")[1:]
			words = slices.DeleteFunc(words, func(w string) bool { return slices.Contains(common, w) })
			if len(words) == 0 {
				words = []string{x.Place}
			}
			this := series{strings.Join(words, " "), x.Base.Name}
			i := slices.Index(all, this)
			if i < 0 {
				i = len(all)
				all = append(all, this)
			}
			g.bars = append(g.bars, bar{x, i})
		}
		if len(g.bars) > 0 {
			groups = append(groups, g)
		}
	}
	return groups, all, common
}

// footnotes say what holds for the whole image.
func (r *Run) footnotes(common []string) []string {
	var out []string
	if len(common) > 0 {
		out = append(out, "All but limits and plain networks: "+strings.Join(common, ", ")+".")
	}
	out = append(out,
		fmt.Sprintf("weir %s, kernel %s, %s, %d processors, %d rounds of %g s, %s.", r.Weir, r.Machine.Kernel, r.Machine.CPU,
			r.Machine.Count, r.Rounds, r.Window, r.Started.Format("2006-01-02")),
		"Whiskers: the worst and the best round. Dashed: the target.")
	for _, w := range r.Warnings {
		out = append(out, "Warning: "+w+".")
	}
	return out
}
