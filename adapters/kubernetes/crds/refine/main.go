// Refine finishes the CustomResourceDefinitions that controller-gen wrote into the current folder. It
// labels them with the version of the schemas, words what comes from libraries like the rest, and adds the
// validations that its markers can't say: those of schema logic.
//
// CEL is for what is asked once for an object or a rule. The API server refuses a definition whose
// expressions would cost too much for the longest lists that fit into a request, whether or not
// anybody writes such lists, and limits on the lists would refuse policies that Cilium takes. Schema
// logic (anyOf, not) has no such budget; its messages are poorer.
//
// Usage: go run ./refine (by go generate in the folder above). It changes files in place, and does
// nothing to a file that it went over before.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/adapters/kubernetes/crds"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "refine:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "cilium.io_*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no cilium.io_*.yaml in %s", dir)
	}
	for _, file := range files {
		if err := refineFile(file); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

func refineFile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var crd apiextensions.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		return err
	}
	if crd.Labels[crds.VersionLabel] == crds.SchemaVersion {
		return nil
	}
	crd.Labels = map[string]string{crds.VersionLabel: crds.SchemaVersion}
	for i := range crd.Spec.Versions {
		if err := refine(crd.Spec.Versions[i].Schema.OpenAPIV3Schema, ""); err != nil {
			return err
		}
	}
	// Without the status, which the API server writes.
	out, err := yaml.Marshal(struct {
		APIVersion string                                     `json:"apiVersion"`
		Kind       string                                     `json:"kind"`
		Metadata   any                                        `json:"metadata"`
		Spec       apiextensions.CustomResourceDefinitionSpec `json:"spec"`
	}{crd.APIVersion, crd.Kind, map[string]any{"name": crd.Name, "labels": crd.Labels, "annotations": crd.Annotations}, crd.Spec})
	if err != nil {
		return err
	}
	return os.WriteFile(file, out, 0o644)
}
