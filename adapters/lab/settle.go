package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// revisionPatience is how long an agent gets to number a changed policy anew. One that reads to the
// same rules as before never gets a new number, so silence is no error.
const revisionPatience = 500 * time.Millisecond

// labelsPatience is how long an agent gets to give an endpoint the identity of its pod's labels. A pod
// whose labels are refused keeps the ones it had.
const labelsPatience = 2 * time.Second

// settlement waits until every agent has taken in what a command changed.
type settlement struct {
	l         *Lab
	revisions map[string]uint64 // by node, before the change
	put, gone []*object
	policies  bool
}

// newSettlement notes how the agents are before a change. Agents that do not run are left out: they
// read everything when they start.
func (l *Lab) newSettlement(ctx context.Context) (*settlement, error) {
	s := &settlement{l: l, revisions: map[string]uint64{}}
	for _, n := range l.st.Nodes {
		if !n.Agent.alive() {
			continue
		}
		st, err := l.agent(n.Name).Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("node %s: status: %w", n.Name, err)
		}
		s.revisions[n.Name] = st.Revision
	}
	return s, nil
}

func (s *settlement) written(o *object) {
	s.put = append(s.put, o)
	s.policies = s.policies || isPolicy(o)
}

func (s *settlement) deleted(o *object) { s.gone = append(s.gone, o) }

func isPolicy(o *object) bool { return strings.HasSuffix(o.kind, "NetworkPolicy") }

func policyRef(o *object) policy.Ref {
	return policy.Ref{Kind: o.kind, Namespace: o.namespace, Name: o.name}
}

// wait returns once all agents know the policies and services that were written, have forgotten those
// that were deleted, publish the endpoints of their pods, have no row left to write, and know the
// identities of each other's pods.
func (s *settlement) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.l.o.SettleTimeout)
	defer cancel()
	pods, err := s.l.pods()
	if err != nil {
		return err
	}
	begin := time.Now()
	home := map[cluster.Name]identity.ID{} // by the node that the pod is on
	err = s.each(ctx, func(a Agent, node string) (string, error) {
		list, err := a.Endpoints(ctx)
		if err != nil {
			return "", err
		}
		if what := s.missingEndpoints(list, node, pods, time.Since(begin)); what != "" {
			return what, nil
		}
		for _, e := range list {
			home[e.Pod] = e.Identity
		}
		return s.missing(ctx, a, node, time.Since(begin))
	})
	if err != nil {
		return err
	}
	return s.each(ctx, func(a Agent, node string) (string, error) {
		t, err := a.Tables(ctx)
		if err != nil {
			return "", err
		}
		return missingIdentities(t, node, pods, home), nil
	})
}

// each asks every agent that ran before the change until it misses nothing.
func (s *settlement) each(ctx context.Context, missing func(a Agent, node string) (string, error)) error {
	for _, n := range s.l.st.Nodes {
		if _, ok := s.revisions[n.Name]; !ok {
			continue
		}
		client := s.l.agent(n.Name)
		for {
			what, err := missing(client, n.Name)
			if err == nil && what == "" {
				break
			}
			if sleep(ctx, 20*time.Millisecond) != nil {
				if err != nil {
					what = err.Error()
				}
				return fmt.Errorf("node %s: the agent did not take in the change within %s: %s", n.Name, s.l.o.SettleTimeout, what)
			}
		}
	}
	return nil
}

// missing names something that an agent has not taken in yet; empty if there is nothing.
func (s *settlement) missing(ctx context.Context, a Agent, node string, waited time.Duration) (string, error) {
	st, err := a.Status(ctx)
	if err != nil {
		return "", err
	}
	if s.policies && st.Revision == s.revisions[node] && waited < revisionPatience {
		return "the policies have no new revision", nil
	}
	if what, err := s.missingPolicies(ctx, a); what != "" || err != nil {
		return what, err
	}
	if what, err := s.missingServices(ctx, a); what != "" || err != nil {
		return what, err
	}
	for _, t := range st.Tables {
		if t.Pending > 0 {
			return fmt.Sprintf("table %s has %d rows to write (%s)", t.Name, t.Pending, t.Error), nil
		}
	}
	return "", nil
}

func (s *settlement) missingPolicies(ctx context.Context, a Agent) (string, error) {
	if !slices.ContainsFunc(append(slices.Clone(s.put), s.gone...), isPolicy) {
		return "", nil
	}
	info, err := a.Policies(ctx)
	if err != nil {
		return "", err
	}
	known := map[policy.Ref]bool{}
	for _, p := range info.Policies {
		known[p.Ref] = true
	}
	for _, o := range s.put {
		if isPolicy(o) && !known[policyRef(o)] {
			return o.title() + " is not in force", nil
		}
	}
	for _, o := range s.gone {
		if isPolicy(o) && known[policyRef(o)] {
			return o.title() + " is still in force", nil
		}
	}
	return "", nil
}

func (s *settlement) missingServices(ctx context.Context, a Agent) (string, error) {
	isService := func(o *object) bool { return o.kind == "Service" }
	if !slices.ContainsFunc(append(slices.Clone(s.put), s.gone...), isService) {
		return "", nil
	}
	list, err := a.Services(ctx)
	if err != nil {
		return "", err
	}
	known := map[string]bool{}
	for _, x := range list {
		known[x.Name] = true
	}
	for _, o := range s.put {
		if isService(o) && hasFrontend(o) && !known[o.podName().String()] {
			return o.title() + " is not known", nil
		}
	}
	for _, o := range s.gone {
		if isService(o) && known[o.podName().String()] {
			return o.title() + " is still known", nil
		}
	}
	return "", nil
}

func (s *settlement) missingEndpoints(list []ports.EndpointInfo, node string, pods []*podState, waited time.Duration) string {
	for _, p := range pods {
		if p.Node != node || p.HostNetwork || len(p.IPs) == 0 {
			continue
		}
		i := slices.IndexFunc(list, func(e ports.EndpointInfo) bool { return e.Pod == p.Name })
		if i < 0 {
			return "pod " + p.Name.String() + " has no endpoint"
		}
		e := list[i]
		if e.State != "ready" {
			return fmt.Sprintf("endpoint of pod %s is %s", p.Name, e.State)
		}
		if want := s.l.labelsOf(p.Name); want != nil && waited < labelsPatience && !slices.Equal(e.Labels, want) {
			return fmt.Sprintf("endpoint of pod %s has labels %s", p.Name, e.Labels)
		}
	}
	return ""
}

// labelsOf gives the labels that decide a pod's identity, as agents list them; nil if they cannot be
// told.
func (l *Lab) labelsOf(n cluster.Name) []string {
	type manifest struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			ServiceAccountName string `json:"serviceAccountName"`
		} `json:"spec"`
	}
	var pod, namespace manifest
	o, err := l.stored("Pod", n.Namespace, n.Name)
	if err != nil || o.decode(&pod) != nil {
		return nil
	}
	if o, err := l.stored("Namespace", "", n.Namespace); err == nil && o.decode(&namespace) != nil {
		return nil
	}
	return cluster.PodLabels(
		cluster.Pod{Name: n, Labels: pod.Metadata.Labels, ServiceAccount: pod.Spec.ServiceAccountName},
		cluster.Namespace{Name: n.Namespace, Labels: namespace.Metadata.Labels},
	).Strings()
}

// missingIdentities names a pod of another node whose address an agent does not have, or with another
// identity than its own node says.
func missingIdentities(t ports.TablesDump, node string, pods []*podState, home map[cluster.Name]identity.ID) string {
	known := map[netip.Prefix]identity.ID{}
	for _, r := range t.IPCache {
		known[r.Key] = r.Value.Identity
	}
	for _, p := range pods {
		want, ok := home[p.Name]
		if !ok || p.Node == node || p.HostNetwork {
			continue
		}
		for _, ip := range p.IPs {
			if id := known[netip.PrefixFrom(ip, ip.BitLen())]; id != want {
				return fmt.Sprintf("%s of pod %s has identity %s, on its own node %s", ip, p.Name, id, want)
			}
		}
	}
	return ""
}
