package helm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	releaser "helm.sh/helm/v4/pkg/release"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
)

// ErrNotFound says that there is no release of a name.
var ErrNotFound = errors.New("not installed")

// Release is one revision of what is installed.
type Release struct {
	Name, Namespace string
	Revision        int // from 1
	Status          string
	ChartVersion    string
	AppVersion      string
	Manifest, Notes string
	Description     string
	Updated         time.Time
}

// Client works on the release of one name in one cluster. It is not for concurrent use.
type Client struct {
	target Target
	config *action.Configuration
}

// Open makes a client. Nothing is sent yet. Warnings of Helm go to log; nil drops them.
func Open(t Target, log *slog.Logger) (*Client, error) {
	handler := slog.DiscardHandler
	if log != nil {
		handler = log.Handler()
	}
	config := action.NewConfiguration(action.ConfigurationSetLogger(handler))
	if err := config.Init(newGetter(t), t.Namespace, driverFromEnv()); err != nil {
		return nil, fmt.Errorf("helm: %w", err)
	}
	return &Client{target: t, config: config}, nil
}

// Change says how to install or upgrade.
type Change struct {
	Values map[string]any
	DryRun bool          // ask the cluster, change nothing
	Wait   time.Duration // for everything to be ready; 0 does not wait
}

// Install installs the chart. A release of the name may not exist.
func (c *Client) Install(ctx context.Context, chart *Chart, o Change) (Release, error) {
	if err := chart.Check(o.Values); err != nil {
		return Release{}, err
	}
	in := action.NewInstall(c.config)
	in.ReleaseName, in.Namespace = c.target.Release, c.target.Namespace
	in.CreateNamespace = true
	in.WaitStrategy, in.Timeout = wait(o.Wait)
	in.DryRunStrategy = dryRun(o.DryRun)
	out, err := in.RunWithContext(ctx, chart.chart, o.Values)
	return c.result("install", out, err)
}

// Reuse says which values an upgrade starts from.
type Reuse int

// The ways. ResetThenReuse takes the new chart's defaults and what the user had set; Keep takes
// what was in force, without the new chart's defaults; Reset takes the new chart's defaults only.
const (
	ResetThenReuse Reuse = iota
	Keep
	Reset
)

// Upgrade brings an installed release to the chart and values. Of older revisions history stay, 0 is all.
func (c *Client) Upgrade(ctx context.Context, chart *Chart, reuse Reuse, history int, o Change) (Release, error) {
	up := action.NewUpgrade(c.config)
	up.Namespace = c.target.Namespace
	up.ResetValues, up.ReuseValues, up.ResetThenReuseValues = reuse == Reset, reuse == Keep, reuse == ResetThenReuse
	up.MaxHistory = history
	// What values say counts: somebody may have changed an object by hand since, or by 'weir config set'.
	up.ForceConflicts, up.ServerSideApply = true, "true"
	up.WaitStrategy, up.Timeout = wait(o.Wait)
	up.DryRunStrategy = dryRun(o.DryRun)
	values, err := c.merged(chart, reuse, o.Values)
	if err != nil {
		return Release{}, err
	}
	if err := chart.Check(values); err != nil {
		return Release{}, err
	}
	out, err := up.RunWithContext(ctx, c.target.Release, chart.chart, o.Values)
	return c.result("upgrade", out, err)
}

// merged is what the user wants all in all: what was set before, if it is reused, and what is set now.
func (c *Client) merged(chart *Chart, reuse Reuse, now map[string]any) (map[string]any, error) {
	if reuse == Reset {
		return now, nil
	}
	before, err := c.Values(reuse == Keep)
	if err != nil {
		return nil, err
	}
	return mergeInto(before, now), nil
}

func mergeInto(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		b, bothMaps := out[k].(map[string]any)
		o, isMap := v.(map[string]any)
		if bothMaps && isMap {
			out[k] = mergeInto(b, o)
			continue
		}
		out[k] = v
	}
	return out
}

// Uninstall removes the release and its history. A wait of more than 0 waits until everything is gone.
func (c *Client) Uninstall(_ context.Context, d time.Duration) error {
	un := action.NewUninstall(c.config)
	un.WaitStrategy, un.Timeout = wait(d)
	un.DeletionPropagation = "background"
	if d > 0 {
		un.DeletionPropagation = "foreground" // what is waited for goes after its pods
	}
	if _, err := un.Run(c.target.Release); err != nil {
		return c.failed("uninstall", err)
	}
	return nil
}

// Values are those that the user set, or with all those that are in force.
func (c *Client) Values(all bool) (map[string]any, error) {
	get := action.NewGetValues(c.config)
	get.AllValues = all
	v, err := get.Run(c.target.Release)
	if err != nil {
		return nil, c.failed("get values", err)
	}
	return v, nil
}

// Current is the newest revision, or ErrNotFound.
func (c *Client) Current() (Release, error) {
	out, err := action.NewStatus(c.config).Run(c.target.Release)
	return c.result("get release", out, err)
}

// History lists the revisions that are kept, the oldest first.
func (c *Client) History() ([]Release, error) {
	list, err := action.NewHistory(c.config).Run(c.target.Release)
	if err != nil {
		return nil, c.failed("get history", err)
	}
	out := make([]Release, 0, len(list))
	for _, r := range list {
		rel, err := c.result("get history", r, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, rel)
	}
	return out, nil
}

func (c *Client) result(operation string, out releaser.Releaser, err error) (Release, error) {
	if err != nil {
		return Release{}, c.failed(operation, err)
	}
	r, ok := out.(*release.Release)
	if !ok {
		return Release{}, fmt.Errorf("%s %s: unexpected kind of release %T", operation, c.target.Release, out)
	}
	rel := Release{Name: r.Name, Namespace: r.Namespace, Revision: r.Version, Manifest: r.Manifest}
	if r.Info != nil {
		rel.Status, rel.Notes, rel.Description, rel.Updated = r.Info.Status.String(), r.Info.Notes, r.Info.Description, r.Info.LastDeployed
	}
	if r.Chart != nil && r.Chart.Metadata != nil {
		rel.ChartVersion, rel.AppVersion = r.Chart.Metadata.Version, r.Chart.Metadata.AppVersion
	}
	return rel, nil
}

func (c *Client) failed(operation string, err error) error {
	if errors.Is(err, driver.ErrReleaseNotFound) || errors.Is(err, driver.ErrNoDeployedReleases) {
		return fmt.Errorf("%s: release %s in namespace %s: %w", operation, c.target.Release, c.target.Namespace, ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", operation, c.target.Release, tidy(err))
}

// wait is Helm's way to say how long to wait. Even without it there is a limit for each request.
func wait(d time.Duration) (kube.WaitStrategy, time.Duration) {
	if d > 0 {
		return kube.StatusWatcherStrategy, d
	}
	return kube.HookOnlyStrategy, 5 * time.Minute
}

func dryRun(on bool) action.DryRunStrategy {
	if on {
		return action.DryRunServer
	}
	return action.DryRunNone
}
