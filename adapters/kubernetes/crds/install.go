package crds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Manager is the field manager that definitions are applied by.
const Manager = "weir-operator"

var resource = apiextensions.SchemeGroupVersion.WithResource("customresourcedefinitions")

// Install brings every definition into the cluster and waits until the API server serves them all.
//
// It needs the rights to get, create and patch definitions.
//
// A definition that is there is replaced unless it is labelled with a newer version of its schema. Versions
// that only the cluster's definition has stay served, as it describes them: objects may be stored under
// them. Installing again changes nothing.
//
// It returns when all are served, with ctx's error if that ends before, or with the first refusal. It may be called
// by several programs at the same time.
func Install(ctx context.Context, config *rest.Config, log *slog.Logger) error {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst = 50, 50
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return fmt.Errorf("install definitions: %w", err)
	}
	definitions := Definitions()
	for _, d := range definitions {
		if err := install(ctx, client.Resource(resource), d, log); err != nil {
			return fmt.Errorf("install definition %s: %w", d.Name, err)
		}
	}
	for _, d := range definitions {
		if err := established(ctx, client.Resource(resource), d.Name); err != nil {
			return fmt.Errorf("wait for definition %s: %w", d.Name, err)
		}
	}
	return nil
}

// attempts bounds how often an update by somebody else in between is met with another try.
const attempts = 5

func install(ctx context.Context, client dynamic.ResourceInterface, ours *apiextensions.CustomResourceDefinition, log *slog.Logger) error {
	for i := 1; ; i++ {
		err := installOnce(ctx, client, ours, log)
		if !apierrors.IsConflict(err) || i == attempts {
			return err
		}
	}
}

func installOnce(ctx context.Context, client dynamic.ResourceInterface, ours *apiextensions.CustomResourceDefinition, log *slog.Logger) error {
	found, err := get(ctx, client, ours.Name)
	if err != nil {
		return err
	}
	want := ours.DeepCopy()
	if found != nil {
		if newer(found.Labels[VersionLabel], SchemaVersion) {
			log.Info("definition is newer than this program's; left as it is", "definition", ours.Name,
				"found", found.Labels[VersionLabel], "own", SchemaVersion)
			return nil
		}
		want.ResourceVersion = found.ResourceVersion
		for _, v := range missing(found, ours) {
			log.Info("version of the definition is kept: objects may be stored under it", "definition", ours.Name, "version", v.Name)
			want.Spec.Versions = append(want.Spec.Versions, v)
		}
		if unchanged(found, want) { // The API server takes seconds to check the large ones.
			return nil
		}
	}
	data, err := encode(want)
	if err != nil {
		return err
	}
	force := true
	got, err := client.Patch(ctx, want.Name, types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: Manager, Force: &force})
	switch {
	case err != nil:
		return err
	case found == nil:
		log.Info("definition installed", "definition", want.Name, "version", SchemaVersion)
	case got.GetResourceVersion() != found.ResourceVersion:
		log.Info("definition replaced", "definition", want.Name, "version", SchemaVersion, "before", found.Labels[VersionLabel])
	}
	return nil
}

// unchanged says whether a definition is what would be applied. The API server adds defaults to it, so that it may
// hold more; that nothing of another schema is left is what the digest says.
func unchanged(found, want *apiextensions.CustomResourceDefinition) bool {
	return found.Labels[VersionLabel] == want.Labels[VersionLabel] && found.Annotations[digestAnnotation] == want.Annotations[digestAnnotation] &&
		equality.Semantic.DeepDerivative(want.Spec, found.Spec)
}

// missing returns the versions of the cluster's definition that ours lacks, as they are to stay: served
// if they were, and not stored, since ours says what is.
func missing(found, ours *apiextensions.CustomResourceDefinition) []apiextensions.CustomResourceDefinitionVersion {
	var out []apiextensions.CustomResourceDefinitionVersion
	for _, v := range found.Spec.Versions {
		known := slices.ContainsFunc(ours.Spec.Versions, func(o apiextensions.CustomResourceDefinitionVersion) bool { return o.Name == v.Name })
		if !known {
			v.Storage = false
			out = append(out, v)
		}
	}
	return out
}

// encode writes what is applied: nothing that the API server fills in.
func encode(d *apiextensions.CustomResourceDefinition) ([]byte, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	if err != nil {
		return nil, err
	}
	delete(m, "status")
	return json.Marshal(m)
}

func get(ctx context.Context, client dynamic.ResourceInterface, name string) (*apiextensions.CustomResourceDefinition, error) {
	u, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return typed(u)
}

func typed(u *unstructured.Unstructured) (*apiextensions.CustomResourceDefinition, error) {
	d := new(apiextensions.CustomResourceDefinition)
	return d, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, d)
}

// established waits until the API server serves a definition.
func established(ctx context.Context, client dynamic.ResourceInterface, name string) error {
	why := "the API server has not said so yet"
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		d, err := get(ctx, client, name)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("%w (%s)", ctx.Err(), why)
		case err != nil:
			return err
		case d == nil:
			return errors.New("it was deleted meanwhile")
		}
		var done bool
		if done, why = state(d); done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%s)", ctx.Err(), why)
		case <-time.After(pause):
		}
	}
}

// state says whether a definition is served, and if not, why.
func state(d *apiextensions.CustomResourceDefinition) (bool, string) {
	why := "the API server has not said so yet"
	ok := 0
	// NamesAccepted last: if names are taken that is why it is not established.
	for _, want := range []apiextensions.CustomResourceDefinitionConditionType{apiextensions.Established, apiextensions.NamesAccepted} {
		for _, c := range d.Status.Conditions {
			switch {
			case c.Type != want:
			case c.Status == apiextensions.ConditionTrue:
				ok++
			default:
				why = fmt.Sprintf("%s is %s: %s", c.Type, c.Status, c.Message)
			}
		}
	}
	return ok == 2, why
}

// newer says whether a version comes after another, part by part. What is no version comes first.
func newer(a, b string) bool {
	x, okA := parts(a)
	y, okB := parts(b)
	if !okA || !okB {
		return okA && !okB
	}
	return slices.Compare(x, y) > 0
}

// parts reads a version like 1.31.8. What follows a '-' or '+' does not count.
func parts(version string) ([]int, bool) {
	core, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "+")
	core, _, _ = strings.Cut(core, "-")
	var out []int
	for p := range strings.SplitSeq(core, ".") {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}
