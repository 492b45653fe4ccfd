package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/weirnet/weir/adapters/helm"
	"github.com/weirnet/weir/adapters/kubernetes/cluster"
	"github.com/weirnet/weir/ports"
)

// clusterStatusFlags are the flags of `weir status` for a cluster.
type clusterStatusFlags struct {
	wait           bool
	waitDuration   time.Duration
	ignoreWarnings bool
	workers        int
	json           bool
	interactive    bool
}

// complaints are what is wrong with one pod, or with a component as a whole (pod "").
type complaints struct {
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
}

// podCount is how many pods a component has.
type podCount struct {
	Type        string `json:"type"`
	Desired     int    `json:"desired"`
	Ready       int    `json:"ready"`
	Available   int    `json:"available"`
	Unavailable int    `json:"unavailable"`
}

// summary is the state of a cluster; its JSON has Cilium's keys.
type summary struct {
	Images    map[string]map[string]int         `json:"image_count"` // component → image → pods
	Phases    map[string]map[string]int         `json:"phase_count"` // component → phase → pods
	States    map[string]podCount               `json:"pod_state"`
	Pods      podsCount                         `json:"pods_count"`
	Agents    map[string]ports.Status           `json:"cilium_status"` // by pod
	Endpoints map[string]int                    `json:"cilium_endpoints"`
	Errors    map[string]map[string]*complaints `json:"errors"` // component → pod
	Collect   []string                          `json:"collection_errors"`
	Chart     string                            `json:"helm_chart_version"`
	Config    []string                          `json:"config_errors"`
	Features  []featureRow                      `json:"configuration"`

	components []cluster.Component
}

type podsCount struct {
	All     int `json:"all"`
	Managed int `json:"by_cilium"`
}

// featureRow is one line about how the cluster is configured.
type featureRow struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// clusterStatus prints the state of a cluster; with wait, once it is good or time is over.
func (g *globals) clusterStatus(ctx context.Context, f *clusterStatusFlags, cl clusterAccess) error {
	var s *summary
	deadline := g.now().Add(f.waitDuration)
	for {
		var err error
		if s, err = g.summarize(ctx, cl, f.workers); err != nil && (!f.wait || !cluster.IsUnreachable(err)) {
			return err
		}
		if !f.wait || err == nil && s.good(f.ignoreWarnings) || !g.now().Before(deadline) {
			if s == nil {
				return err
			}
			break
		}
		if f.interactive && s != nil {
			fmt.Fprint(g.out, "\x1b[H\x1b[2J")
			if err := s.write(g.out); err != nil {
				return err
			}
		}
		if err := g.sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	var err error
	if f.json {
		err = printJSON(g.out, s)
	} else {
		err = s.write(g.out)
	}
	if err == nil && !s.good(f.ignoreWarnings) {
		if f.wait {
			return fmt.Errorf("status check failed: not good within %s", f.waitDuration)
		}
		return errors.New("status check failed")
	}
	return err
}

// good says whether nothing is wrong.
func (s *summary) good(ignoreWarnings bool) bool {
	errors, warnings := s.count("")
	return errors == 0 && (ignoreWarnings || warnings == 0)
}

// count counts complaints about a component, or about all.
func (s *summary) count(component string) (errors, warnings int) {
	for name, pods := range s.Errors {
		if component != "" && name != component {
			continue
		}
		for _, c := range pods {
			errors += len(c.Errors)
			warnings += len(c.Warnings)
		}
	}
	if component == "" {
		errors += len(s.Config)
		warnings += len(s.Collect)
	}
	return errors, warnings
}

func (s *summary) complain(component, pod, format string, args ...any) {
	c := s.about(component, pod)
	c.Errors = append(c.Errors, fmt.Sprintf(format, args...))
}

func (s *summary) warn(component, pod, format string, args ...any) {
	c := s.about(component, pod)
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

func (s *summary) about(component, pod string) *complaints {
	if s.Errors[component] == nil {
		s.Errors[component] = map[string]*complaints{}
	}
	if s.Errors[component][pod] == nil {
		s.Errors[component][pod] = &complaints{Errors: []string{}, Warnings: []string{}}
	}
	return s.Errors[component][pod]
}

// summarize asks the API server, and each agent.
func (g *globals) summarize(ctx context.Context, cl clusterAccess, workers int) (*summary, error) {
	o, err := cl.Overview(ctx)
	if err != nil {
		return nil, err
	}
	s := &summary{Images: map[string]map[string]int{}, Phases: map[string]map[string]int{}, States: map[string]podCount{},
		Pods: podsCount{o.ClusterPods, o.Managed}, Agents: map[string]ports.Status{}, Endpoints: map[string]int{},
		Errors: map[string]map[string]*complaints{}, Collect: orEmpty(o.Errors), Config: []string{}, components: o.Components}
	for _, c := range o.Components {
		s.add(c)
	}
	values, err := cl.Config(ctx)
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		s.Config = append(s.Config, err.Error())
	case err != nil:
		s.Collect = append(s.Collect, err.Error())
	}
	g.askAgents(ctx, cl, s, workers)
	s.Features = features(values, s.Agents)
	s.Chart = "unknown"
	if h, err := g.helm(); err == nil {
		switch r, err := h.Current(); {
		case err == nil:
			s.Chart = r.ChartVersion
		case errors.Is(err, helm.ErrNotFound):
			s.Chart = "not installed by Helm"
		}
	}
	return s, nil
}

func (s *summary) add(c cluster.Component) {
	if !c.Found {
		s.complain(c.Name, "", "%s %s not found", c.Kind, c.Name)
		return
	}
	s.States[c.Name] = podCount{c.Kind, c.Desired, c.Ready, c.Available, c.Unavailable}
	s.Images[c.Name], s.Phases[c.Name] = map[string]int{}, map[string]int{}
	for _, p := range c.Pods {
		s.Phases[c.Name][p.Phase]++
		for _, i := range p.Images {
			s.Images[c.Name][i]++
		}
		if p.Problem != "" {
			s.complain(c.Name, p.Name, "%s", onNode(p.Node, p.Problem))
		} else if p.Phase == "Pending" {
			s.warn(c.Name, p.Name, "%s", onNode(p.Node, "pod is pending"))
		}
	}
	switch {
	case c.Desired == 0:
		s.warn(c.Name, "", "no pods are wanted")
	case c.Ready < c.Desired:
		s.complain(c.Name, "", "%d pods of %s %s are not ready", c.Desired-c.Ready, c.Kind, c.Name)
	case c.Available < c.Desired || c.Unavailable > 0:
		s.warn(c.Name, "", "%d pods of %s %s are not available yet", max(c.Desired-c.Available, c.Unavailable), c.Kind, c.Name)
	}
}

func onNode(node, text string) string {
	if node == "" {
		return text
	}
	return "node " + node + ": " + text
}

// askAgents asks every running agent how it is.
func (g *globals) askAgents(ctx context.Context, cl clusterAccess, s *summary, workers int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, workers))
	for _, p := range agentPods(s.components) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			status, err := agentStatus(ctx, cl, p.Name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.complain(cluster.AgentDaemonSet, p.Name, "%s", onNode(p.Node, "the agent does not say how it is: "+err.Error()))
				return
			}
			s.Agents[p.Name], s.Endpoints[p.Name] = status, status.Endpoints
			for _, problem := range status.Problems {
				s.complain(cluster.AgentDaemonSet, p.Name, "%s", onNode(p.Node, problem))
			}
			if !status.Healthy && len(status.Problems) == 0 {
				s.complain(cluster.AgentDaemonSet, p.Name, "%s", onNode(p.Node, "the agent is not healthy"))
			}
		}()
	}
	wg.Wait()
}

func agentPods(components []cluster.Component) (out []cluster.ComponentPod) {
	for _, c := range components {
		if c.Name != cluster.AgentDaemonSet {
			continue
		}
		for _, p := range c.Pods {
			if p.Phase == "Running" && p.Problem == "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// agentStatus asks one agent. An unhealthy one answers too, with another exit status.
func agentStatus(ctx context.Context, cl clusterAccess, pod string) (ports.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var out, complaint strings.Builder
	err := cl.Exec(ctx, pod, []string{agentProgram, "status", "-o", "json"}, &out, &complaint)
	var s ports.Status
	if jsonErr := json.Unmarshal([]byte(out.String()), &s); jsonErr == nil {
		return s, nil
	}
	if text := strings.TrimSpace(complaint.String()); text != "" {
		text, _, _ = strings.Cut(text, "\n")
		return s, errors.New(text)
	}
	if err == nil {
		err = errors.New("no answer")
	}
	return s, err
}

// features are the rows about the configuration, from cilium-config and from what agents say they do.
func features(values map[string]string, agents map[string]ports.Status) []featureRow {
	if values == nil {
		return nil
	}
	routing := values["routing-mode"]
	if routing == "tunnel" {
		routing = "Tunnel [" + values["tunnel-protocol"] + "]"
	} else if routing != "" {
		routing = strings.ToUpper(routing[:1]) + routing[1:]
	}
	seen := map[string]bool{}
	for _, a := range agents {
		if a.Routing != "" {
			seen[a.Routing] = true
		}
	}
	if len(seen) > 0 {
		var list []string
		for r := range seen {
			list = append(list, r)
		}
		sort.Strings(list)
		routing = strings.Join(list, ", ")
	}
	kpr := "False"
	if values["kube-proxy-replacement"] == "true" {
		kpr = "True"
	}
	asked := func(keys ...string) string {
		for _, k := range keys {
			if values[k] == "true" {
				return "Disabled   (" + k + "=true is set, and not available yet)"
			}
		}
		return "Disabled"
	}
	return []featureRow{
		{"KubeProxyReplacement", kpr},
		{"IPAM", values["ipam"]},
		{"Routing", routing},
		{"Encryption", asked("enable-wireguard", "enable-ipsec", "enable-ztunnel")},
		{"BandwidthManager", asked("enable-bandwidth-manager")},
	}
}
