package crds

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"pgregory.net/rapid"

	"github.com/weirnet/weir/core/manifest"
)

// exception is a reason for which the agent refuses what the API server takes. Each finding tells the
// user, and the operator writes it into the policy's status.
type exception struct {
	name, reason string
	findings     []string // parts of their messages
}

const (
	unsupported = "part of the API, and nothing of it can be enforced: the object may be stored, and takes effect when weir learns it"
	tooDear     = "CEL could say it, but for the longest lists that fit into a request it would cost more than the API server grants"
	noWords     = "schemas have no words for it"
)

var exceptions = []exception{
	{"policies for nodes", unsupported, []string{"policies for nodes are not supported"}},
	{"a range of ports for DNS", tooDear, []string{"rules for DNS need single ports"}},
	{"regular expressions", noWords, []string{"is not a regular expression"}},
	{"a range that ends before it begins", tooDear, []string{"is less than port"}},
	{"an exception outside of the prefix", tooDear, []string{"is not a part of"}},
	{"keys of matchLabels", tooDear, []string{"unknown label source", "is not a label key", "no such reserved label"}},
	{"labels that are no part of identities", noWords, []string{"differs"}},
	{"pods of another namespace", "expressions can't see the object's namespace", []string{"asks for pods of another namespace"}},
}

// exempt names the exception that a finding belongs to, "" if to none.
func exempt(message string) string {
	for _, e := range exceptions {
		if slices.ContainsFunc(e.findings, func(part string) bool { return strings.Contains(message, part) }) {
			return e.name
		}
	}
	return ""
}

// verdicts asks both sides for what they say of a policy.
type verdicts struct {
	api      error    // nil: accepted
	findings []string // of the agent, without warnings
	names    []string // of the exceptions that all findings belong to; nil if one belongs to none
}

func judge(t require.TestingT, ctx context.Context, client dynamic.Interface, doc map[string]any) verdicts {
	u := &unstructured.Unstructured{Object: doc}
	resource := "ciliumnetworkpolicies"
	switch u.GetKind() {
	case manifest.KindCiliumClusterwideNetworkPolicy:
		resource = "ciliumclusterwidenetworkpolicies"
	case manifest.KindCiliumCIDRGroup:
		resource = "ciliumcidrgroups"
	}
	dry := strict
	dry.DryRun = []string{metav1.DryRunAll}
	var to dynamic.ResourceInterface = client.Resource(u.GroupVersionKind().GroupVersion().WithResource(resource))
	if u.GetNamespace() != "" {
		to = client.Resource(u.GroupVersionKind().GroupVersion().WithResource(resource)).Namespace(u.GetNamespace())
	}
	var v verdicts
	_, v.api = to.Create(ctx, u, dry)
	if v.api != nil {
		require.True(t, apierrors.IsInvalid(v.api) || apierrors.IsBadRequest(v.api), "%v", v.api)
	}
	data, err := json.Marshal(doc)
	require.NoError(t, err)
	o, findings := manifest.Decode("", data)
	known := true
	for _, f := range findings {
		if f.Warning {
			continue
		}
		v.findings = append(v.findings, f.Field+": "+f.Message)
		name := exempt(f.Message)
		known = known && name != ""
		v.names = append(v.names, name)
	}
	require.Equal(t, o.Valid(), len(v.findings) == 0)
	if !known {
		v.names = nil
	}
	return v
}

// agree says that both sides accept, both refuse, or the agent alone refuses for reasons that are
// exceptions. It returns those.
func agree(t require.TestingT, v verdicts, doc any) []string {
	switch {
	case v.api == nil && len(v.findings) > 0:
		text, _ := json.MarshalIndent(doc, "", " ")
		require.NotNil(t, v.names, "the API server accepts, the agent refuses:\n%s\n%s", strings.Join(v.findings, "\n"), text)
		return v.names
	case v.api != nil && len(v.findings) == 0:
		text, _ := json.MarshalIndent(doc, "", " ")
		require.Failf(t, "disagreement", "the API server refuses, the agent accepts:\n%v\n%s", v.api, text)
	}
	return nil
}

// agreementCase is a policy by its spec. exception names why the agent alone refuses.
type agreementCase struct {
	name, spec string
	refused    bool // by both
	exception  string
	says       string // part of the API server's message
}

func (c agreementCase) run(t *testing.T, ctx context.Context, client dynamic.Interface, kind string) {
	namespace := `,"namespace":"shop"`
	if kind != manifest.KindCiliumNetworkPolicy {
		namespace = ""
	}
	var doc map[string]any
	text := `{"apiVersion":"cilium.io/v2","kind":"` + kind + `","metadata":{"name":"p"` + namespace + `},` + c.spec + `}`
	require.NoError(t, json.Unmarshal([]byte(text), &doc), text)
	v := judge(t, ctx, client, doc)
	got := agree(t, v, doc)
	if v.api != nil {
		t.Log(v.api)
	}
	switch {
	case c.exception != "":
		assert.Equal(t, []string{c.exception}, slices.Compact(got), "%v", v.findings)
	case c.refused:
		assert.Error(t, v.api)
		assert.NotEmpty(t, v.findings)
		if c.says != "" {
			assert.ErrorContains(t, v.api, c.says)
		}
	default:
		assert.NoError(t, v.api)
		assert.Empty(t, v.findings)
	}
}

func TestAgreement(t *testing.T) {
	ctx, _, client := installed(t)
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.run(t, ctx, client, manifest.KindCiliumNetworkPolicy) })
	}
	for _, c := range clusterwideCases() {
		t.Run("clusterwide "+c.name, func(t *testing.T) { c.run(t, ctx, client, manifest.KindCiliumClusterwideNetworkPolicy) })
	}
	for _, c := range groupCases() {
		t.Run("group "+c.name, func(t *testing.T) { c.run(t, ctx, client, manifest.KindCiliumCIDRGroup) })
	}
	used := map[string]bool{}
	for _, c := range append(cases(), clusterwideCases()...) {
		used[c.exception] = true
	}
	for _, e := range exceptions {
		assert.True(t, used[e.name], "no case shows the exception %q", e.name)
	}
}

func TestAgreementOfRandomPolicies(t *testing.T) {
	ctx, _, client := installed(t)
	accepted, refused, excepted := 0, 0, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		doc := randomPolicy(t)
		v := judge(t, ctx, client, doc)
		for _, name := range agree(t, v, doc) {
			excepted[name]++
		}
		if v.api == nil {
			accepted++
		} else {
			refused++
		}
	})
	t.Logf("accepted %d, refused %d, accepted but for %v", accepted, refused, excepted)
	assert.NotZero(t, accepted, "policies are accepted")
	assert.NotZero(t, refused, "policies are refused")
}
