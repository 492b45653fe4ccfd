package manifest

import (
	"errors"
	"strconv"
	"strings"
)

// Head is what an API server says of an object beside its content.
type Head struct {
	Namespace, Name, UID string
	Version              uint64 // metadata.resourceVersion; 0 if it is no number
	annotations          fields
}

// Annotation returns the value of an annotation, empty if there is none.
func (h Head) Annotation(key string) string {
	s, _ := h.annotations.get(key).(string)
	return strings.Clone(s)
}

// Annotate sets the annotations, for heads that were not read from JSON.
func (h *Head) Annotate(annotations map[string]string) {
	h.annotations = nil
	for _, k := range sortedKeys(annotations) {
		h.annotations = append(h.annotations, field{k, annotations[k]})
	}
}

// ReadHead reads the head of a JSON object and returns the object without what servers note about its
// fields' owners (metadata.managedFields), which often is more than the rest. doc is overwritten. What is
// missing stays empty; only a document that is no JSON object is an error.
func ReadHead(doc []byte) (h Head, rest []byte, err error) {
	p := parser{s: string(doc)}
	rest = doc
	err = p.members(func(key string) error {
		if key != "metadata" {
			return p.skip()
		}
		if p.space(); p.i < len(p.s) && p.s[p.i] != '{' {
			return p.skip()
		}
		return p.members(func(key string) error {
			if key == "managedFields" {
				p.space()
				from := p.i
				if err := p.skip(); err != nil {
					return err
				}
				if p.i-from >= len("null") && len(rest) == len(doc) {
					rest = append(append(doc[:from], "null"...), p.s[p.i:]...)
				}
				return nil
			}
			return p.head(&h, key)
		})
	})
	if err != nil {
		return Head{}, doc, errors.New("read object: not a JSON object")
	}
	return h, rest, nil
}

// head reads one member of the metadata.
func (p *parser) head(h *Head, key string) error {
	switch key {
	case "name", "namespace", "uid", "resourceVersion", "annotations":
	default:
		return p.skip()
	}
	v, err := p.value()
	if err != nil {
		return err
	}
	s, _ := v.(string)
	switch key {
	case "name":
		h.Name = strings.Clone(s)
	case "namespace":
		h.Namespace = strings.Clone(s)
	case "uid":
		h.UID = strings.Clone(s)
	case "resourceVersion":
		h.Version, _ = strconv.ParseUint(s, 10, 64)
	case "annotations":
		h.annotations, _ = v.(fields)
	}
	return nil
}

// skip passes a value.
func (p *parser) skip() error {
	was := p.dry
	p.dry = true
	_, err := p.value()
	p.dry = was
	return err
}

// members calls f at the value of each member of an object.
func (p *parser) members(f func(key string) error) error {
	if !p.next('{') {
		return errSyntax
	}
	if p.next('}') {
		return nil
	}
	for {
		p.space()
		key, err := p.text()
		if err != nil {
			return err
		}
		if !p.next(':') {
			return errSyntax
		}
		if err := f(key); err != nil {
			return err
		}
		if p.next('}') {
			return nil
		}
		if !p.next(',') {
			return errSyntax
		}
	}
}
