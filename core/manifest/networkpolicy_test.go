package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ruleCase is one specification and what it must become. findings are beginnings of lines.
type ruleCase struct {
	name     string
	spec     string
	want     []string
	findings []string
}

func (c ruleCase) run(t *testing.T, doc string) {
	t.Helper()
	obj, findings := Decode("a.yaml", []byte(doc))
	got := renderFindings(findings)
	require.Len(t, got, len(c.findings), "findings: %s", strings.Join(got, "\n"))
	for i, want := range c.findings {
		assert.Truef(t, strings.HasPrefix(got[i], want), "finding %d: want it to begin with\n  %s\ngot\n  %s", i, want, got[i])
	}
	refused := false
	for _, f := range findings {
		refused = refused || !f.Warning
		assert.Equal(t, "a.yaml", f.File)
		assert.NotEmpty(t, f.Object)
	}
	assert.Equal(t, !refused, obj.Valid())
	assert.True(t, obj.Known())
	if refused {
		assert.Empty(t, c.want)
		assert.Nil(t, obj.Upserts())
		return
	}
	assert.Equal(t, c.want, renderPolicy(obj.body.(policyBody).policy))
}

func networkPolicy(spec string) string {
	return fmt.Sprintf(`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"shop"},"spec":%s}`, spec)
}

const (
	inShop = "k8s:io.kubernetes.pod.namespace=shop"
	inAny  = "k8s:io.kubernetes.pod.namespace"
	nsKey  = "k8s:io.cilium.k8s.namespace.labels."
)

func TestNetworkPolicy(t *testing.T) {
	isolated := "for " + inShop + " isolate-ingress"
	cases := []ruleCase{
		{name: "the guide's backend-ingress", spec: `{"podSelector":{"matchLabels":{"app":"backend"}},"policyTypes":["Ingress"],
			"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"frontend"}}}],"ports":[{"protocol":"TCP","port":8080}]}]}`,
			want: []string{"for k8s:app=backend," + inShop + " isolate-ingress", "ingress ingress[0] allow: [{k8s:app=frontend," + inShop + "}] [TCP/8080]"}},
		{name: "no rules: ingress denied", spec: `{"podSelector":{}}`, want: []string{isolated}},
		{name: "no pod selector: every pod", spec: `{}`, want: []string{isolated}},
		{name: "ingress [] denies", spec: `{"podSelector":{},"ingress":[]}`, want: []string{isolated}},
		{name: "ingress null denies", spec: `{"podSelector":{},"ingress":null}`, want: []string{isolated}},
		{name: "ingress [{}] allows all", spec: `{"podSelector":{},"ingress":[{}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [anyone] [everything]"}},
		{name: "from [] and ports [] do not restrict", spec: `{"podSelector":{},"ingress":[{"from":[],"ports":[]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [anyone] [everything]"}},
		{name: "ports alone: anyone", spec: `{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [anyone] [TCP/80]"}},
		{name: "policyTypes default: egress rules isolate egress too", spec: `{"podSelector":{},"egress":[{}]}`,
			want: []string{isolated + " isolate-egress", "egress egress[0] allow: [anyone] [everything]"}},
		{name: "policyTypes default: an empty egress list is none", spec: `{"podSelector":{},"egress":[]}`, want: []string{isolated}},
		{name: "policyTypes [] is the default", spec: `{"podSelector":{},"policyTypes":[]}`, want: []string{isolated}},
		{name: "policyTypes Egress alone: ingress open, egress denied", spec: `{"podSelector":{},"policyTypes":["Egress"]}`,
			want: []string{"for " + inShop + " isolate-egress"}},
		{name: "both types, no rules", spec: `{"podSelector":{},"policyTypes":["Ingress","Egress"]}`, want: []string{isolated + " isolate-egress"}},
		{name: "rules of a direction that policyTypes leaves out", spec: `{"podSelector":{},"policyTypes":["Ingress"],"egress":[{"to":[{"podSelector":{}}]}]}`,
			want: []string{isolated}, findings: []string{"warning: spec.egress: without effect"}},
		{name: "namespace selector by label", spec: `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"a"}}}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [{" + nsKey + "team=a," + inAny + "}] [everything]"}},
		{name: "empty namespace selector: pods, not hosts", spec: `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{}}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [{" + inAny + "}] [everything]"}},
		{name: "excluding namespace selector: pods, not hosts", spec: `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"env","operator":"NotIn","values":["prod","stage"]}]}}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [{" + nsKey + "env notin (prod,stage)," + inAny + "}] [everything]"}},
		{name: "both selectors in one peer: and", spec: `{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"x"}},"namespaceSelector":{"matchLabels":{"team":"a"}}}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [{k8s:app=x," + nsKey + "team=a," + inAny + "}] [everything]"}},
		{name: "two peers: or", spec: `{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"x"}}},{"namespaceSelector":{"matchLabels":{"team":"a"}}}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [{k8s:app=x," + inShop + "}, {" + nsKey + "team=a," + inAny + "}] [everything]"}},
		{name: "ipBlock with except", spec: `{"podSelector":{},"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.2.0.0/16"]}},{"ipBlock":{"cidr":"2001:db8::/32"}}]}]}`,
			want: []string{isolated + " isolate-egress", "egress egress[0] allow: [10.0.0.0/8 but 10.1.0.0/16 but 10.2.0.0/16, 2001:db8::/32] [everything]"}},
		{name: "host bits in a cidr", spec: `{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.1.2.3/8"}}]}]}`,
			want:     []string{isolated, "ingress ingress[0] allow: [10.0.0.0/8] [everything]"},
			findings: []string{`warning: spec.ingress[0].from[0].ipBlock.cidr: "10.1.2.3/8" has bits beyond its length; it means 10.0.0.0/8`}},
		{name: "ports: default protocol, names, ranges, protocol alone", spec: `{"podSelector":{},"ingress":[{"ports":[{"port":53,"protocol":"UDP"},{"port":"http"},{"port":8000,"endPort":9000},{"protocol":"SCTP"},{}]}]}`,
			want: []string{isolated, "ingress ingress[0] allow: [anyone] [UDP/53, TCP/http, TCP/8000-9000, SCTP, TCP]"}},
		{name: "selector operators", spec: `{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["1","2"]},{"key":"b","operator":"Exists"},{"key":"c","operator":"DoesNotExist","values":[]}]}}`,
			want: []string{"for !k8s:c,k8s:a in (1,2),k8s:b," + inShop + " isolate-ingress"}},

		{name: "unknown operator", spec: `{"podSelector":{"matchExpressions":[{"key":"a","operator":"Equals","values":["1"]}]}}`,
			findings: []string{`spec.podSelector.matchExpressions[0].operator: unknown operator "Equals"; allowed: In, NotIn, Exists, DoesNotExist`}},
		{name: "values against the operator", spec: `{"podSelector":{"matchExpressions":[{"key":"a","operator":"In"},{"key":"a","operator":"Exists","values":["x"]},{"operator":"In","values":["x"]},{"key":"a"}]}}`,
			findings: []string{
				"spec.podSelector.matchExpressions[0].values: operator In needs at least one value",
				"spec.podSelector.matchExpressions[1].values: operator Exists takes no values, got 1",
				"spec.podSelector.matchExpressions[2].key: missing",
				"spec.podSelector.matchExpressions[3].operator: missing"}},
		{name: "labels out of form", spec: `{"podSelector":{"matchLabels":{"a b":"x","ok":"not ok","n":5,"y":true}}}`,
			findings: []string{
				`spec.podSelector.matchLabels["n"]: want text, got the number 5; put it in quotes`,
				`spec.podSelector.matchLabels["y"]: want text, got true; put it in quotes`,
				`spec.podSelector.matchLabels["a b"]: "a b" is not a label key`,
				`spec.podSelector.matchLabels["ok"]: "not ok" is not a label value`}},
		{name: "a label that is no part of an identity", spec: `{"podSelector":{"matchLabels":{"pod-template-hash":"abc"}}}`,
			findings: []string{`spec.podSelector.matchLabels["pod-template-hash"]: label "pod-template-hash" differs`}},
		{name: "bad CIDRs", spec: `{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/33"}},{"ipBlock":{"cidr":"10.0.0.1"}},{"ipBlock":{"cidr":"::ffff:10.0.0.0/104"}},{"ipBlock":{}},{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16","10.0.0.0/8","x"]}}]}]}`,
			findings: []string{
				`spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.0/33" is not a CIDR`,
				`spec.ingress[0].from[1].ipBlock.cidr: "10.0.0.1" is not a CIDR`,
				`spec.ingress[0].from[2].ipBlock.cidr: "::ffff:10.0.0.0/104" is not a CIDR`,
				`spec.ingress[0].from[3].ipBlock.cidr: missing`,
				`spec.ingress[0].from[4].ipBlock.except[0]: 11.0.0.0/16 is not a part of 10.0.0.0/8`,
				`spec.ingress[0].from[4].ipBlock.except[1]: 10.0.0.0/8 is not a part of 10.0.0.0/8`,
				`spec.ingress[0].from[4].ipBlock.except[2]: "x" is not a CIDR`}},
		{name: "bad ports", spec: `{"podSelector":{},"ingress":[{"ports":[{"port":70000},{"port":0},{"port":"80"},{"port":80,"endPort":79},{"port":"http","endPort":90},{"endPort":90},{"port":80,"protocol":"tcp"},{"port":1.5},{"port":80,"endPort":70000},{"port":[]}]}]}`,
			findings: []string{
				"spec.ingress[0].ports[0].port: 70000 is out of range; allowed: 1 to 65535",
				"spec.ingress[0].ports[1].port: 0 is out of range; allowed: 1 to 65535",
				`spec.ingress[0].ports[2].port: "80" is not a port; want a number from 1 to 65535, unquoted`,
				"spec.ingress[0].ports[3].endPort: 79 is less than port 80",
				`spec.ingress[0].ports[4].endPort: can't stand with the named port "http"`,
				"spec.ingress[0].ports[5].endPort: needs port",
				`spec.ingress[0].ports[6].protocol: unknown protocol "tcp"; allowed: TCP, UDP, SCTP`,
				"spec.ingress[0].ports[7].port: 1.5 is not a whole number",
				"spec.ingress[0].ports[8].endPort: 70000 is out of range",
				"spec.ingress[0].ports[9].port: want a port number or name, got a list"}},
		{name: "bad peers", spec: `{"podSelector":{},"ingress":[{"from":[{},{"podSelector":null},{"ipBlock":{"cidr":"10.0.0.0/8"},"podSelector":{}},null,"x"]}]}`,
			findings: []string{
				"spec.ingress[0].from[3]: empty entry",
				"spec.ingress[0].from[0]: names no peer; want one of podSelector, namespaceSelector, ipBlock",
				"spec.ingress[0].from[1]: names no peer",
				"spec.ingress[0].from[2]: ipBlock can't stand with podSelector or namespaceSelector",
				`spec.ingress[0].from[4]: want an object, got the text "x"`}},
		{name: "an empty rule entry is no rule for all", spec: `{"podSelector":{},"ingress":[null]}`,
			findings: []string{"spec.ingress[0]: empty entry"}},
		{name: "unknown fields everywhere", spec: `{"podSelector":{"matchLabel":{}},"ingres":[],"ingress":[{"form":[],"to":[],"ports":[{"prot":"TCP"}]}]}`,
			findings: []string{
				"spec.ingres: unknown field; allowed: podSelector, ingress, egress, policyTypes",
				"spec.podSelector.matchLabel: unknown field; allowed: matchLabels, matchExpressions",
				"spec.ingress[0].form: unknown field; allowed: from, ports",
				"spec.ingress[0].to: unknown field; allowed: from, ports",
				"spec.ingress[0].ports[0].prot: unknown field; allowed: protocol, port, endPort"}},
		{name: "wrong types", spec: `{"podSelector":[],"policyTypes":["ingress","Both"],"ingress":{}}`,
			findings: []string{
				"spec.podSelector: want an object, got a list",
				"spec.ingress: want a list, got an object",
				`spec.policyTypes[0]: unknown policy type "ingress"; allowed: Ingress, Egress`,
				`spec.policyTypes[1]: unknown policy type "Both"`}},
		{name: "no spec", spec: `null`, findings: []string{"spec: missing"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, networkPolicy(c.spec)) })
	}
}
