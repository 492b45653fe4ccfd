// Package crds holds the CustomResourceDefinitions of the cilium.io kinds and installs them.
//
// They are generated from the types of adapters/kubernetes/apis/cilium.
package crds

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"sync"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 object crd:maxDescLen=2000 paths=../apis/... output:crd:dir=.
//go:generate go run ./refine

const (
	// SchemaVersion is the version of the definitions here. It grows with every change of a schema:
	// Install leaves a definition of a newer version alone.
	SchemaVersion = "1.40.0"

	// VersionLabel is the label of a definition that holds the version of its schema.
	VersionLabel = "io.cilium.k8s.crd.schema.version"

	// digestAnnotation of a definition holds a digest of the file that it was applied from.
	digestAnnotation = "weir.io/schema-digest"
)

//go:embed cilium.io_*.yaml
var files embed.FS

// read parses the embedded definitions once. They are constants of the program: one that can't be read
// is a fault of the build.
var read = sync.OnceValue(func() []apiextensions.CustomResourceDefinition {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		panic(err)
	}
	out := make([]apiextensions.CustomResourceDefinition, len(names))
	for i, name := range names {
		data, err := files.ReadFile(name)
		if err == nil {
			err = yaml.UnmarshalStrict(data, &out[i])
		}
		if err != nil {
			panic(fmt.Sprintf("embedded definition %s: %v", name, err))
		}
		metav1.SetMetaDataAnnotation(&out[i].ObjectMeta, digestAnnotation, fmt.Sprintf("%x", sha256.Sum256(data)))
	}
	return out
})

// Definitions returns the definitions, ordered by name. They are copies.
func Definitions() []*apiextensions.CustomResourceDefinition {
	all := read()
	out := make([]*apiextensions.CustomResourceDefinition, len(all))
	for i := range all {
		out[i] = all[i].DeepCopy()
	}
	return out
}

// Names returns the names of the definitions, like "ciliumnodes.cilium.io", sorted.
func Names() []string {
	var out []string
	for _, d := range read() {
		out = append(out, d.Name)
	}
	return out
}
