package connectivity

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"text/template"

	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/core/policy"
)

//go:embed policies/*.yaml
var policyFiles embed.FS

// policyValues are what the templates under policies/ are filled in with.
type policyValues struct {
	Namespace string
	Outside   []netip.Prefix // one address each
}

// documents fills in a test's policies. skip says why that makes no sense here.
func (t Test) documents(w World) (docs []Document, skip string, err error) {
	v := policyValues{Namespace: w.Namespace}
	for _, o := range w.Outside {
		v.Outside = append(v.Outside, netip.PrefixFrom(o.Addr(), o.Addr().BitLen()))
	}
	for _, name := range t.Policies {
		text, err := policyFiles.ReadFile("policies/" + name)
		if err != nil {
			return nil, "", err
		}
		if bytes.Contains(text, []byte(".Outside")) && len(v.Outside) == 0 {
			return nil, "no address outside the cluster is known; --external-ip names one", nil
		}
		parsed, err := template.New(name).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return nil, "", err
		}
		var b bytes.Buffer
		if err := parsed.Execute(&b, v); err != nil {
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
		docs = append(docs, Document{Name: name, Content: b.Bytes()})
	}
	return docs, "", nil
}

// PolicyRefs names the policies of a document that Plan made.
func PolicyRefs(d Document) ([]policy.Ref, error) {
	var out []policy.Ref
	for _, part := range manifest.SplitYAML(d.Content) {
		var ref policy.Ref
		inMetadata := false
		for line := range strings.Lines(string(part)) {
			line = strings.TrimRight(line, "\n")
			if line != "" && line[0] != ' ' {
				inMetadata = line == "metadata:"
			}
			switch key, value, _ := strings.Cut(line, ": "); {
			case key == "kind":
				ref.Kind = value
			case inMetadata && key == "  name":
				ref.Name = value
			case inMetadata && key == "  namespace":
				ref.Namespace = value
			}
		}
		if ref.Kind == "" || ref.Name == "" || ref.Namespace == "" {
			return nil, errors.New("a document without kind, name or namespace")
		}
		out = append(out, ref)
	}
	return out, nil
}
