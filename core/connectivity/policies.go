package connectivity

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	// One address each.
	Outside, APIServers, FromOutside []netip.Prefix
}

// needed are those values that a cluster may lack, with what is said then.
var needed = []struct {
	name, why string
	value     func(policyValues) []netip.Prefix
}{
	{".Outside", "no address outside the cluster is known; --external-ip names one", func(v policyValues) []netip.Prefix { return v.Outside }},
	{".APIServers", "the API server is a node, and nodes are not matched by CIDR", func(v policyValues) []netip.Prefix { return v.APIServers }},
	{".FromOutside", "it is not known by which address nodes see this machine", func(v policyValues) []netip.Prefix { return v.FromOutside }},
}

func singles(list []netip.Addr) (out []netip.Prefix) {
	for _, a := range list {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// documents fills in a test's policies. skip says why that makes no sense here.
func (t Test) documents(w World) (docs []Document, skip string, err error) {
	v := policyValues{Namespace: w.Namespace, FromOutside: singles(w.FromOutside)}
	for _, o := range w.Outside {
		v.Outside = append(v.Outside, singles([]netip.Addr{o.Addr()})...)
	}
	if !slices.ContainsFunc(w.APIServers, w.isNode) {
		v.APIServers = singles(w.APIServers)
	}
	for _, name := range t.Policies {
		text, err := policyFiles.ReadFile("policies/" + name)
		if err != nil {
			return nil, "", err
		}
		for _, n := range needed {
			if bytes.Contains(text, []byte(" "+n.name+" ")) && len(n.value(v)) == 0 {
				return nil, n.why, nil
			}
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

// PolicyRefs names the policies of a document that Plan made. What is no policy is left out.
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
		wide := ref.Kind == manifest.KindCiliumClusterwideNetworkPolicy || ref.Kind == manifest.KindCiliumCIDRGroup
		if ref.Kind == "" || ref.Name == "" || wide != (ref.Namespace == "") {
			return nil, errors.New("a document without kind or name, or with the wrong scope")
		}
		if ref.Kind != manifest.KindCiliumCIDRGroup {
			out = append(out, ref)
		}
	}
	return out, nil
}
