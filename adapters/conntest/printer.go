package conntest

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Printer writes what a run says. It may be used from several goroutines.
type Printer struct {
	// Timestamp puts the time before every line; Verbose shows single actions.
	Timestamp, Verbose bool

	w    io.Writer
	now  func() time.Time
	mu   sync.Mutex
	dots int // in the unfinished line
}

// NewPrinter makes a printer. Errors of the writer are not looked at.
func NewPrinter(w io.Writer, now func() time.Time) *Printer { return &Printer{w: w, now: now} }

// Say writes a line.
func (p *Printer) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(fmt.Sprintf(format, args...))
}

// Debug writes a line if verbose.
func (p *Printer) Debug(format string, args ...any) {
	if p.Verbose {
		p.Say(format, args...)
	}
}

// Warn writes a line that is not good news.
func (p *Printer) Warn(format string, args ...any) { p.Say("⚠️  "+format, args...) }

// Indented writes a text below a line.
func (p *Printer) Indented(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		p.line("     " + l)
	}
}

// Dot notes an action that is done.
func (p *Printer) Dot() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Verbose {
		return
	}
	if p.dots == 0 {
		p.stamp()
	}
	p.dots++
	fmt.Fprint(p.w, ".")
}

func (p *Printer) line(s string) {
	if p.dots > 0 {
		fmt.Fprintln(p.w)
		p.dots = 0
	}
	p.stamp()
	fmt.Fprintln(p.w, s)
}

func (p *Printer) stamp() {
	if p.Timestamp {
		fmt.Fprintf(p.w, "[%s] ", p.now().Format("15:04:05"))
	}
}
