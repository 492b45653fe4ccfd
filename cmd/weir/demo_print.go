package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// What the story paints with beside the colours of verdicts.
const (
	bold  = "\x1b[1m"
	faint = "\x1b[2m"
)

// paint colours a text if the output is a terminal.
func (s *story) paint(colour, text string) string {
	if !s.colours || colour == "" {
		return text
	}
	return colour + text + plain
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *story) heading(title string) { s.say("\n%s", s.paint(bold, title)) }

// check tells whether something is as it should be, and notes it if not.
func (s *story) check(ok bool, format string, args ...any) bool {
	text := fmt.Sprintf(format, args...)
	if ok {
		s.say("  %s %s", s.paint(green, "ok"), text)
		return true
	}
	s.say("  %s %s", s.paint(red, "FAILED"), text)
	s.failures = append(s.failures, text)
	return false
}

// worked notes an error of the lab's; success goes without saying.
func (s *story) worked(what string, err error) bool {
	return err == nil || s.check(false, "%s: %v", what, err)
}

// end sums up.
func (s *story) end(failed []string, took time.Duration) error {
	if len(failed) == 0 {
		s.say("\n%s after %s: every step showed what it should", s.paint(green, "ok"), round(took))
		return nil
	}
	return fmt.Errorf("%d checks failed: %w", len(failed), errors.New(strings.Join(failed, "; ")))
}

// cell is a cell of a grid: a text, or parts that have colours of their own.
type cell struct {
	text, colour string
	parts        []cell
}

// verdictCell is the letter of a protocol that passes, or a dot.
func verdictCell(protocol string, allowed bool) cell {
	if allowed {
		return cell{text: protocol[:1], colour: green}
	}
	return cell{text: ".", colour: red}
}

func (c cell) width() int {
	w := utf8.RuneCountInString(c.text)
	for _, p := range c.parts {
		w += p.width()
	}
	return w
}

// grid prints cells in columns; colours do not count for their width.
func (s *story) grid(rows [][]cell) {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], c.width())
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			line.WriteString(s.paint(c.colour, c.text))
			for _, p := range c.parts {
				line.WriteString(s.paint(p.colour, p.text))
			}
			line.WriteString(strings.Repeat(" ", widths[i]-c.width()+3))
		}
		s.say("%s", strings.TrimRight(line.String(), " "))
	}
}
