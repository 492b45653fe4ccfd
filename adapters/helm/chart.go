package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli/values"
	"helm.sh/helm/v4/pkg/getter"
	release "helm.sh/helm/v4/pkg/release/v1"
)

// Chart is a chart in memory. It may be used by several goroutines once it is loaded.
type Chart struct {
	chart *chart.Chart
}

// Load reads a chart whose Chart.yaml lies at the root of files. A version that is not empty becomes the
// chart's appVersion, which is the default tag of images, and its version too if it is a semantic one.
func Load(files fs.FS, version string) (*Chart, error) {
	var list []*archive.BufferedFile
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		list = append(list, &archive.BufferedFile{Name: name, Data: data})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	c, err := loader.LoadFiles(list)
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	if version != "" {
		c.Metadata.AppVersion = version
		if semantic(version) {
			c.Metadata.Version = strings.TrimPrefix(version, "v")
		}
	}
	return &Chart{c}, nil
}

// LoadPath reads a chart from a directory or a .tgz archive.
func LoadPath(path string) (*Chart, error) {
	c, err := loader.Load(path)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", path, err)
	}
	return &Chart{c}, nil
}

// Name of the chart.
func (c *Chart) Name() string { return c.chart.Metadata.Name }

// Version of the chart.
func (c *Chart) Version() string { return c.chart.Metadata.Version }

// AppVersion is the version of what the chart installs.
func (c *Chart) AppVersion() string { return c.chart.Metadata.AppVersion }

// Sources are values as a command line gives them; later kinds overrule earlier ones.
type Sources struct {
	Files     []string // YAML files, "-" is standard input
	Set       []string // a.b=c with c typed as it looks
	SetString []string // a.b=c with c as text
	SetFile   []string // a.b=path, the file's content as text
}

// Values reads and merges all sources.
func (s Sources) Values() (map[string]any, error) {
	o := values.Options{ValueFiles: s.Files, Values: s.Set, StringValues: s.SetString, FileValues: s.SetFile}
	v, err := o.MergeValues(getter.Providers{})
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	return v, nil
}

// At finds a value by its path; nil if there is none.
func At(values map[string]any, path ...string) any {
	var v any = values
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// Put sets a value at a path, making what lies between.
func Put(values map[string]any, value any, path ...string) {
	for _, p := range path[:len(path)-1] {
		next, ok := values[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			values[p] = next
		}
		values = next
	}
	values[path[len(path)-1]] = value
}

// Coalesced are the given values on top of the chart's own.
func (c *Chart) Coalesced(values map[string]any) (map[string]any, error) {
	v, err := util.CoalesceValues(c.chart, values)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	return v, nil
}

// Check says what is wrong with values: names that the chart does not know, with what is probably
// meant, and values of a wrong type. It does not run the templates.
func (c *Chart) Check(values map[string]any) error {
	v, err := c.Coalesced(values)
	if err != nil {
		return err
	}
	unknown, err := unknownNames(c.chart.Schema, v)
	if err != nil {
		return fmt.Errorf("chart %s: values.schema.json: %w", c.Name(), err)
	}
	if len(unknown) > 0 {
		errs := make([]error, len(unknown))
		for i, u := range unknown {
			errs[i] = errors.New(u)
		}
		return fmt.Errorf("values: %w", errors.Join(errs...))
	}
	if err := util.ValidateAgainstSchema(c.chart, v); err != nil {
		return fmt.Errorf("values: %w", err)
	}
	return nil
}

// Rendered is what a chart makes of values.
type Rendered struct {
	Manifest string // YAML documents
	Notes    string // for the person who installs
}

// recentKubernetes is what is rendered for when nobody says.
const recentKubernetes = "v1.37.0"

// Render runs the templates without a cluster. Templates that look something up in a cluster find nothing.
// kubeVersion is that of the cluster to write for, as "1.30.0"; empty means a recent one.
func (c *Chart) Render(name, namespace, kubeVersion string, values map[string]any) (Rendered, error) {
	if err := c.Check(values); err != nil {
		return Rendered{}, err
	}
	in := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler)))
	in.DryRunStrategy = action.DryRunClient
	in.ReleaseName, in.Namespace = name, namespace
	in.Replace = true // there is no release to collide with
	v, err := common.ParseKubeVersion(cmp.Or(kubeVersion, recentKubernetes))
	if err != nil {
		return Rendered{}, fmt.Errorf("version of Kubernetes %q: %w", kubeVersion, err)
	}
	in.KubeVersion = v
	out, err := in.RunWithContext(context.Background(), c.chart, values)
	if err != nil {
		return Rendered{}, fmt.Errorf("chart %s: %w", c.Name(), tidy(err))
	}
	rel, ok := out.(*release.Release)
	if !ok {
		return Rendered{}, fmt.Errorf("chart %s: unexpected kind of release %T", c.Name(), out)
	}
	return Rendered{Manifest: rel.Manifest, Notes: rel.Info.Notes}, nil
}

// driverFromEnv is where releases are kept: the environment variable that the helm program reads too.
func driverFromEnv() string { return os.Getenv("HELM_DRIVER") }

// ForgetDefaults takes the chart's own values away, as an upgrade does that reuses the values of the
// release before. Not while the chart is in use elsewhere.
func (c *Chart) ForgetDefaults() {
	c.chart.Values = map[string]any{}
}
