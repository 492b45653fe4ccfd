package helm

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// schema is the part of a JSON schema that says which names an object may have.
type schema struct {
	Ref        string             `json:"$ref"`
	Defs       map[string]*schema `json:"$defs"`
	Properties map[string]*schema `json:"properties"`
	Additional json.RawMessage    `json:"additionalProperties"`
}

// unknownNames lists the names in values that a schema forbids, each with the nearest allowed one.
func unknownNames(raw []byte, values map[string]any) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var root schema
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, err
	}
	var out []string
	root.walk(&root, "", values, &out)
	sort.Strings(out)
	return out, nil
}

func (s *schema) walk(root *schema, path string, values map[string]any, out *[]string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		if s = root.Defs[name]; s == nil {
			return
		}
	}
	for name, value := range values {
		p, known := s.Properties[name]
		switch {
		case !known && string(s.Additional) == "false":
			*out = append(*out, fmt.Sprintf("%s is no value of this chart%s", path+name, s.nearest(path, name)))
		case known:
			if m, ok := value.(map[string]any); ok {
				p.walk(root, path+name+".", m, out)
			}
		}
	}
}

// nearest proposes the allowed name that differs least, if it is close.
func (s *schema) nearest(path, name string) string {
	best, at := "", max(2, len(name)/3)+1
	for known := range s.Properties {
		if d := distance(strings.ToLower(name), strings.ToLower(known)); d < at || d == at && known < best {
			best, at = known, d
		}
	}
	if best == "" {
		return ""
	}
	return "; is " + path + best + " meant?"
}

// distance counts the letters to insert, remove or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func semantic(version string) bool {
	_, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
	return err == nil
}

// tidy takes what the template engine says about its own lines away from a message that a template
// meant for the user.
func tidy(err error) error {
	text := err.Error()
	at := strings.Index(text, "execution error at (")
	if at < 0 {
		return err
	}
	if _, message, ok := strings.Cut(text[at:], "): "); ok {
		return errors.New(message)
	}
	return err
}
