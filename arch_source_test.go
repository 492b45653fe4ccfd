package weir_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// source is a parsed Go file with its path from the module's root.
type source struct {
	path string
	file *ast.File
	fset *token.FileSet
}

// sources reads every Go file of the module, whatever its build tags. The test's result depends on
// the files in a way that the go command sees, so that it is not answered from the cache after a
// change.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	fset := token.NewFileSet()
	require.NoError(t, filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, source{filepath.ToSlash(p), f, fset})
		return nil
	}))
	return out
}

// impureImports may not be imported by core, with the reason. A trailing "/" stands for everything
// below.
var impureImports = map[string]string{
	"sync":         "core has one caller at a time and shares nothing",
	"sync/":        "core has one caller at a time and shares nothing",
	"context":      "core never waits, so there is nothing to cancel",
	"os":           "core reads no files, environment or signals; they come in as arguments",
	"os/":          "core reads no files, environment or signals; they come in as arguments",
	"io/ioutil":    "core reads no files",
	"net":          "core does not talk to the network; addresses are net/netip",
	"net/":         "core does not talk to the network; addresses are net/netip",
	"syscall":      "core knows no operating system",
	"log":          "core returns findings; whoever calls it logs",
	"log/":         "core returns findings; whoever calls it logs",
	"crypto/rand":  "randomness comes in as an argument, so that the same events give the same tables",
	"hash/maphash": "its seed differs in every process, so nodes would not agree",
	"runtime":      "core does not depend on how it is run",
	"runtime/":     "core does not depend on how it is run",
	"unsafe":       "core pokes at no bytes",
	"C":            "core is pure Go",
	"testing":      "only tests need it",
	"math/rand":    "its global functions cannot be seeded; use math/rand/v2 with a source given as argument",
}

// Exceptions to the entries with a trailing "/".
var pureImports = []string{"net/netip"}

// impureNames may not be used by core although their package may.
var impureNames = map[string]struct {
	names []string
	only  bool // names lists what is allowed instead
	why   string
}{
	"time": {names: []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep", "Local", "LoadLocation"},
		why: "time comes in as an argument, so that the same events give the same tables"},
	"math/rand/v2": {names: []string{"New", "Rand", "Source", "NewPCG", "PCG", "NewChaCha8", "ChaCha8", "NewZipf", "Zipf"}, only: true,
		why: "randomness comes from a source given as argument"},
	"iter": {names: []string{"Seq", "Seq2"}, only: true, why: "pull iterators run a coroutine"},
}

// impurities lists what a file of core does that core must not do.
func impurities(s source) []string {
	var out []string
	report := func(at token.Pos, format string, args ...any) {
		out = append(out, fmt.Sprintf("%s:%d: %s", s.path, s.fset.Position(at).Line, fmt.Sprintf(format, args...)))
	}
	named := map[string]string{} // local name → import path
	for _, imp := range s.file.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		if why := impureImport(p); why != "" {
			report(imp.Pos(), "imports %s: %s", p, why)
		}
		name := path.Base(p)
		if p == "math/rand/v2" {
			name = "rand"
		}
		if imp.Name != nil {
			name = imp.Name.Name
			if _, restricted := impureNames[p]; restricted && name == "." {
				report(imp.Pos(), "imports %s under no name, which hides what it uses of it", p)
			}
		}
		named[name] = p
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		const sequential = "core is sequential; the loops in adapters/runtime have the goroutines and queues"
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n.Pos(), "go statement: %s", sequential)
		case *ast.ChanType:
			report(n.Pos(), "channel type: %s", sequential)
		case *ast.SendStmt:
			report(n.Pos(), "send on a channel: %s", sequential)
		case *ast.SelectStmt:
			report(n.Pos(), "select statement: %s", sequential)
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				report(n.Pos(), "receive from a channel: %s", sequential)
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			p := named[x.Name]
			if rule, ok := impureNames[p]; ok && slices.Contains(rule.names, n.Sel.Name) != rule.only {
				report(n.Pos(), "uses %s.%s: %s", p, n.Sel.Name, rule.why)
			}
		}
		return true
	})
	return out
}

func impureImport(p string) string {
	if slices.Contains(pureImports, p) {
		return ""
	}
	if why, ok := impureImports[p]; ok {
		return why
	}
	for prefix, why := range impureImports {
		if strings.HasSuffix(prefix, "/") && strings.HasPrefix(p, prefix) {
			return why
		}
	}
	return ""
}

func TestCoreIsPure(t *testing.T) {
	seen := 0
	for _, s := range sources(t) {
		if !within(s.path, "core") || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		seen++
		for _, v := range impurities(s) {
			t.Error(v)
		}
	}
	assert.NotZero(t, seen, "no file of core was found")
}

// undocumented lists the packages without a comment that says what they are.
func undocumented(all []source) []string {
	type state struct{ code, doc bool }
	packages := map[string]state{}
	for _, s := range all {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		st := packages[path.Dir(s.path)]
		st.code = true
		if doc := strings.TrimSpace(s.file.Doc.Text()); doc != "" {
			name := s.file.Name.Name
			st.doc = st.doc || name == "main" || strings.HasPrefix(doc, "Package "+name+" ")
		}
		packages[path.Dir(s.path)] = st
	}
	var out []string
	for dir, st := range packages {
		if !st.doc {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return out
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, dir := range undocumented(sources(t)) {
		t.Errorf("%s: no file has a package comment (\"// Package %s …\"; for a command, what it does): a reader learns from it what belongs here", dir, path.Base(dir))
	}
}

func parse(t *testing.T, name, text string) source {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	return source{name, f, fset}
}

func TestImpuritiesAreFound(t *testing.T) {
	for _, tc := range []struct{ code, want string }{
		{`func f() { go f() }`, "go statement"},
		{`type T struct{ c chan int }`, "channel type"},
		{`func f(c T) { c <- 1 }`, "send on a channel"},
		{`func f(c T) { <-c }`, "receive from a channel"},
		{`func f() { select {} }`, "select statement"},
		{`import "sync"`, "imports sync:"},
		{`import "sync/atomic"`, "imports sync/atomic:"},
		{`import "os/exec"`, "imports os/exec:"},
		{`import "net"`, "imports net:"},
		{`import "net/http"`, "imports net/http:"},
		{`import "context"`, "imports context:"},
		{`import "crypto/rand"`, "imports crypto/rand:"},
		{`import "math/rand"`, "imports math/rand:"},
		{`import "net/netip"`, ""},
		{`import "hash/fnv"`, ""},
		{`import "time"; var x = time.Now()`, "uses time.Now"},
		{`import clock "time"; var x = clock.Since`, "uses time.Since"},
		{`import . "time"; var x = Now()`, "under no name"},
		{`import "time"; var x = time.Second`, ""},
		{`import "math/rand/v2"; var x = rand.IntN(5)`, "uses math/rand/v2.IntN"},
		{`import "math/rand/v2"; var x = rand.New(rand.NewPCG(1, 2))`, ""},
		{`import "iter"; var f = iter.Pull[int]`, "uses iter.Pull"},
	} {
		got := impurities(parse(t, "core/x/x.go", "package x\n"+tc.code))
		if tc.want == "" {
			assert.Empty(t, got, tc.code)
		} else if assert.Len(t, got, 1, tc.code) {
			assert.Contains(t, got[0], "core/x/x.go:2: ", tc.code)
			assert.Contains(t, got[0], tc.want, tc.code)
		}
	}
}

func TestMissingPackageCommentsAreFound(t *testing.T) {
	assert.Equal(t, []string{"bare", "misnamed"}, undocumented([]source{
		parse(t, "good/a.go", "package good"),
		parse(t, "good/b.go", "// Package good is good.\npackage good"),
		parse(t, "bare/a.go", "package bare"),
		parse(t, "bare/a_test.go", "// Package bare is tested.\npackage bare"),
		parse(t, "misnamed/a.go", "// Package other is another.\npackage misnamed"),
		parse(t, "cmd/tool/main.go", "// Tool does things.\npackage main"),
		parse(t, "onlytests/a_test.go", "package onlytests"),
	}))
}
