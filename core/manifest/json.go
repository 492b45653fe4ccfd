package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fields are a JSON object's, in the document's order. Objects have few: looking along them is faster than
// a map, and takes less.
type fields []field

type field struct {
	key   string
	value any
}

// get returns a field's value, nil if it is absent.
func (fs fields) get(key string) any {
	for i := range fs {
		if fs[i].key == key {
			return fs[i].value
		}
	}
	return nil
}

// keys returns the fields' names, sorted.
func (fs fields) keys() []string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = f.key
	}
	slices.Sort(out)
	return out
}

// parseJSON reads one JSON value into fields, lists, strings, bools and json.Numbers. Unlike
// encoding/json it refuses a key that stands twice in one object: of two ingress sections one would
// silently vanish. Strings are parts of one copy of the document: who keeps one for long copies it.
func parseJSON(doc []byte) (any, error) {
	p := parser{s: string(doc)}
	v, err := p.document()
	if !errors.Is(err, errSyntax) {
		return v, err
	}
	var ignored any
	if err := json.Unmarshal(doc, &ignored); err != nil {
		return nil, err // says where
	}
	return nil, err
}

// maxDepth bounds how deep values are nested, as encoding/json does.
const maxDepth = 10000

var errSyntax = errors.New("malformed")

// twice is a key that stands twice in one object; path leads there from the value at hand.
type twice struct{ path string }

func (e twice) Error() string { return fmt.Sprintf("key %s stands twice", e.path) }

func (e twice) below(place string) twice {
	if strings.HasPrefix(e.path, "[") {
		return twice{place + e.path}
	}
	return twice{join(place, e.path)}
}

// parser reads JSON from a string. It accepts what encoding/json accepts, no more and no less.
type parser struct {
	s     string
	i     int
	depth int
	dry   bool // only find where values end; nothing is kept, and keys may stand twice
}

func (p *parser) document() (any, error) {
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if p.space(); p.i != len(p.s) {
		return nil, errSyntax
	}
	return v, nil
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// next skips space and takes a byte if it is the one wanted.
func (p *parser) next(want byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == want {
		p.i++
		return true
	}
	return false
}

func (p *parser) value() (any, error) {
	p.space()
	if p.i >= len(p.s) {
		return nil, errSyntax
	}
	switch c := p.s[p.i]; c {
	case '{':
		return p.object()
	case '[':
		return p.list()
	case '"':
		s, err := p.text()
		if p.dry {
			return nil, err // boxing would allocate
		}
		return s, err
	case 't':
		return true, p.word("true")
	case 'f':
		return false, p.word("false")
	case 'n':
		return nil, p.word("null")
	}
	return p.number()
}

func (p *parser) word(w string) error {
	if !strings.HasPrefix(p.s[p.i:], w) {
		return errSyntax
	}
	p.i += len(w)
	return nil
}

func (p *parser) enter() error {
	p.i++
	if p.depth++; p.depth > maxDepth {
		return errSyntax
	}
	return nil
}

func (p *parser) object() (any, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	var out fields
	if !p.dry {
		out = make(fields, 0, 4)
	}
	if p.next('}') {
		p.depth--
		return p.made(out), nil
	}
	var many map[string]bool // of the keys, once there are many
	for {
		p.space()
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		if p.dry {
			// Nothing to compare with.
		} else if len(out) == 32 {
			many = make(map[string]bool, 2*len(out))
			for _, f := range out {
				many[f.key] = true
			}
		}
		if many != nil && many[key] || many == nil && slices.ContainsFunc(out, func(f field) bool { return f.key == key }) {
			return nil, twice{cmp.Or(key, `""`)}
		}
		if many != nil {
			many[key] = true
		}
		if !p.next(':') {
			return nil, errSyntax
		}
		v, err := p.value()
		if t, ok := err.(twice); ok {
			return nil, t.below(key)
		} else if err != nil {
			return nil, err
		}
		if !p.dry {
			out = append(out, field{key, v})
		}
		if p.next('}') {
			p.depth--
			return p.made(out), nil
		}
		if !p.next(',') {
			return nil, errSyntax
		}
	}
}

func (p *parser) made(fs fields) any {
	if p.dry {
		return nil
	}
	return fs
}

func (p *parser) list() (any, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	out := []any{}
	if p.next(']') {
		p.depth--
		return out, nil // an empty list allocates nothing
	}
	for {
		v, err := p.value()
		if t, ok := err.(twice); ok {
			return nil, t.below("[" + strconv.Itoa(len(out)) + "]")
		} else if err != nil {
			return nil, err
		}
		if !p.dry {
			out = append(out, v)
		}
		if p.next(']') {
			p.depth--
			return out, nil
		}
		if !p.next(',') {
			return nil, errSyntax
		}
	}
}

// text reads a string. One with escapes or broken UTF-8 is left to encoding/json.
func (p *parser) text() (string, error) {
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		return "", errSyntax
	}
	start, plain := p.i+1, true
	for i := start; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.i = i + 1
			s := p.s[start:i]
			if plain || utf8.ValidString(s) && strings.IndexByte(s, '\\') < 0 {
				return s, nil
			}
			var out string
			if json.Unmarshal([]byte(p.s[start-1:i+1]), &out) != nil {
				return "", errSyntax
			}
			return out, nil
		case c == '\\':
			plain = false
			i++ // also past an escaped quotation mark
		case c < ' ':
			return "", errSyntax
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return "", errSyntax
}

func (p *parser) number() (any, error) {
	start := p.i
	digits := func() bool {
		from := p.i
		for p.i < len(p.s) && '0' <= p.s[p.i] && p.s[p.i] <= '9' {
			p.i++
		}
		return p.i > from
	}
	at := func(any string) bool {
		if p.i < len(p.s) && strings.IndexByte(any, p.s[p.i]) >= 0 {
			p.i++
			return true
		}
		return false
	}
	at("-")
	if !at("0") && !digits() {
		return nil, errSyntax
	}
	if at(".") && !digits() {
		return nil, errSyntax
	}
	if at("eE") {
		at("+-")
		if !digits() {
			return nil, errSyntax
		}
	}
	if p.dry {
		return nil, nil
	}
	return json.Number(p.s[start:p.i]), nil
}

// Documents takes the JSON values of a file apart. Those before a fault are returned with the error. The
// results share data's memory.
func Documents(data []byte) ([][]byte, error) {
	var out [][]byte
	p := parser{s: string(data), dry: true}
	for {
		if p.space(); p.i == len(p.s) {
			return out, nil
		}
		start := p.i
		if _, err := p.value(); err != nil {
			return documents(data)
		}
		out = append(out, data[start:p.i:p.i])
	}
}

// documents is Documents for files with a fault: encoding/json knows what to say of it.
func documents(data []byte) (out [][]byte, err error) {
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var raw json.RawMessage
		if err := d.Decode(&raw); err == io.EOF {
			return out, nil
		} else if err != nil {
			return out, err
		}
		out = append(out, raw)
	}
}

// namesItems says whether encoding/json takes a key for "items".
func namesItems(key string) bool { return len(key) >= 5 && strings.EqualFold(key, "items") }

// mayBeList says whether a document has a field that encoding/json takes for "items".
func mayBeList(doc []byte) bool {
	p := parser{s: string(doc), dry: true}
	if !p.next('{') {
		return true // and wrong
	}
	for !p.next('}') {
		p.next(',')
		p.space()
		key, err := p.text()
		if err != nil || namesItems(key) || !p.next(':') {
			return true
		}
		if _, err := p.value(); err != nil {
			return true
		}
	}
	p.space()
	return p.i != len(p.s)
}
