package manifest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// The truth table of both dialects: who gets in to TCP port 80 of a pod of namespace shop (with the
// label app=backend), and who to another port.
func TestWhoGetsIn(t *testing.T) {
	member := func(ns, app, team string) policy.Party {
		return policy.Party{Labels: cluster.PodLabels(
			cluster.Pod{Name: cluster.Name{Namespace: ns, Name: "x"}, Labels: map[string]string{"app": app}},
			cluster.Namespace{Name: ns, Labels: map[string]string{"team": team}})}
	}
	subject := member("shop", "backend", "a")
	subject.Ports = []policy.NamedPort{{Name: "http", Proto: datapath.ProtoTCP, Port: 80}}
	who := []struct {
		name  string
		party policy.Party
	}{
		{"front", member("shop", "front", "a")}, {"db", member("shop", "db", "a")}, {"away", member("other", "front", "b")},
		{"node", policy.Party{Labels: identity.ReservedIdentity(identity.RemoteNode).Labels}},
		{"world", policy.Outside(netip.MustParseAddr("192.0.2.1"))},
	}
	const (
		all      = "front db away node world"
		nobody   = ""
		sameSpec = `{"endpointSelector":{"matchLabels":{"app":"backend"}},`
	)
	np := func(spec string) string {
		return networkPolicy(`{"podSelector":{"matchLabels":{"app":"backend"}},` + spec + `}`)
	}
	cnp := func(spec string) string { return ciliumPolicy(sameSpec + spec + `}`) }
	ccnp := func(spec string) string { return clusterwidePolicy(sameSpec + spec + `}`) }
	port80 := `"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}]}]`
	cases := []struct {
		name, doc     string
		at80, at81    string
		ping          string
		otherSubjects bool // the policy concerns every pod of the namespace
	}{
		{"NP: no rules", np(`"ingress":[]`), nobody, nobody, nobody, false},
		{"NP: [{}]", np(`"ingress":[{}]`), all, all, all, false},
		{"NP: from []", np(`"ingress":[{"from":[]}]`), all, all, all, false},
		{"NP: ports alone", np(`"ingress":[{"ports":[{"port":80}]}]`), all, nobody, nobody, false},
		{"NP: named port", np(`"ingress":[{"ports":[{"port":"http"}]}]`), all, nobody, nobody, false},
		{"NP: a protocol alone", np(`"ingress":[{"ports":[{"protocol":"TCP"}]}]`), all, all, nobody, false},
		{"NP: podSelector {}", np(`"ingress":[{"from":[{"podSelector":{}}]}]`), "front db", "front db", "front db", false},
		{"NP: podSelector", np(`"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"front"}}}]}]`), "front", "front", "front", false},
		{"NP: namespaceSelector {}", np(`"ingress":[{"from":[{"namespaceSelector":{}}]}]`), "front db away", "front db away", "front db away", false},
		{"NP: namespaceSelector", np(`"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"other"}}}]}]`), "away", "away", "away", false},
		{"NP: namespaceSelector NotIn", np(`"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["a"]}]}}]}]`), "away", "away", "away", false},
		{"NP: both in one peer", np(`"ingress":[{"from":[{"namespaceSelector":{},"podSelector":{"matchLabels":{"app":"front"}}}]}]`), "front away", "front away", "front away", false},
		{"NP: ipBlock of everything is no pod", np(`"ingress":[{"from":[{"ipBlock":{"cidr":"0.0.0.0/0"}}]}]`), "world", "world", "world", false},
		{"NP: ipBlock with except", np(`"ingress":[{"from":[{"ipBlock":{"cidr":"192.0.0.0/8","except":["192.0.2.0/24"]}}]}]`), nobody, nobody, nobody, false},
		{"NP: Egress alone", np(`"policyTypes":["Egress"]`), all, all, all, false},
		{"NP: every pod", networkPolicy(`{"podSelector":{}}`), nobody, nobody, nobody, true},

		{"CNP: []", cnp(`"ingress":[]`), all, all, all, false},
		{"CNP: [{}]", cnp(`"ingress":[{}]`), nobody, nobody, nobody, false},
		{"CNP: fromEndpoints [{}]", cnp(`"ingress":[{"fromEndpoints":[{}]}]`), "front db", "front db", "front db", false},
		{"CNP: fromEndpoints []", cnp(`"ingress":[{"fromEndpoints":[]}]`), nobody, nobody, nobody, false},
		{"CNP: ports alone", cnp(`"ingress":[{` + port80 + `}]`), all, nobody, nobody, false},
		{"CNP: fromEndpoints [{}] and ports", cnp(`"ingress":[{"fromEndpoints":[{}],` + port80 + `}]`), "front db", nobody, nobody, false},
		{"CNP: fromEndpoints [] and ports", cnp(`"ingress":[{"fromEndpoints":[],` + port80 + `}]`), nobody, nobody, nobody, false},
		{"CNP: port 0 of TCP", cnp(`"ingress":[{"toPorts":[{"ports":[{"port":"0","protocol":"TCP"}]}]}]`), all, all, nobody, false},
		{"CNP: named port", cnp(`"ingress":[{"toPorts":[{"ports":[{"port":"http"}]}]}]`), all, nobody, nobody, false},
		{"CNP: icmps", cnp(`"ingress":[{"icmps":[{"fields":[{"type":8}]}]}]`), nobody, nobody, all, false},
		{"CNP: label", cnp(`"ingress":[{"fromEndpoints":[{"matchLabels":{"k8s:app":"front"}}]}]`), "front", "front", "front", false},
		{"CNP: another namespace", cnp(`"ingress":[{"fromEndpoints":[{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"other"}}]}]`), "away", "away", "away", false},
		{"CNP: namespace labels", cnp(`"ingress":[{"fromEndpoints":[{"matchLabels":{"io.cilium.k8s.namespace.labels.team":"b"}}]}]`), "away", "away", "away", false},
		{"CNP: every namespace", cnp(`"ingress":[{"fromEndpoints":[{"matchExpressions":[{"key":"io.kubernetes.pod.namespace","operator":"Exists"}]}]}]`), "front db away", "front db away", "front db away", false},
		{"CNP: reserved label", cnp(`"ingress":[{"fromEndpoints":[{"matchLabels":{"reserved:remote-node":""}}]}]`), "node", "node", "node", false},
		{"CNP: entity world", cnp(`"ingress":[{"fromEntities":["world"]}]`), "world", "world", "world", false},
		{"CNP: entity cluster", cnp(`"ingress":[{"fromEntities":["cluster"]}]`), "front db away node", "front db away node", "front db away node", false},
		{"CNP: entity all", cnp(`"ingress":[{"fromEntities":["all"]}]`), all, all, all, false},
		{"CNP: CIDR of everything is no pod", cnp(`"ingress":[{"fromCIDR":["0.0.0.0/0"]}]`), "world", "world", "world", false},
		{"CNP: deny alone isolates", cnp(`"ingressDeny":[{"fromEntities":["world"]}]`), nobody, nobody, nobody, false},
		{"CNP: deny without isolation", cnp(`"enableDefaultDeny":{"ingress":false},"ingressDeny":[{"fromEntities":["world"]}]`), "front db away node", "front db away node", "front db away node", false},
		{"CNP: deny beats allow", cnp(`"ingress":[{"fromEntities":["all"]}],"ingressDeny":[{"fromEndpoints":[{}],` + port80 + `}]`), "away node world", all, all, false},
		{"CNP: deny for ports alone denies everyone", cnp(`"ingress":[{"fromEntities":["all"]}],"ingressDeny":[{` + port80 + `}]`), nobody, all, all, false},
		{"CNP: HTTP rules grant nothing", cnp(`"ingress":[{"fromEntities":["all"],"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{"http":[{"method":"GET"}]}},{"ports":[{"port":"81"}]}]}]`), nobody, all, nobody, false},
		{"CNP: every HTTP request", cnp(`"ingress":[{"fromEntities":["all"],"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{"http":[{"method":"GET"},{}]}}]}]`), all, nobody, nobody, false},
		{"CNP: HTTP rules beside a rule for the port", cnp(`"ingress":[{"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{"http":[{"path":"/"}]}}]},{"fromEntities":["world"],` + port80 + `}]`), "world", nobody, nobody, false},
		{"CNP: authentication grants nothing", cnp(`"ingress":[{"authentication":{"mode":"required"},` + port80 + `},{"fromEntities":["remote-node"]}]`), "node", "node", "node", false},
		{"CNP: nodes by label grant nothing", cnp(`"ingress":[{"fromNodes":[{}]}]`), nobody, nobody, nobody, false},
		{"CNP: nodes by label denied", cnp(`"ingress":[{"fromEntities":["all"]}],"ingressDeny":[{"fromNodes":[{"matchLabels":{"a":"b"}}]}]`), "front db away world", "front db away world", "front db away world", false},
		{"CNP: other clusters denied", cnp(`"ingress":[{"fromEntities":["all"]}],"ingressDeny":[{"fromEntities":["cluster-mesh"],` + port80 + `}]`), nobody, all, all, false},
		{"CNP: every pod", ciliumPolicy(`{"endpointSelector":{},"ingress":[{}]}`), nobody, nobody, nobody, true},

		{"CCNP: fromEndpoints [{}]", ccnp(`"ingress":[{"fromEndpoints":[{}]}]`), "front db away", "front db away", "front db away", false},
		{"CCNP: fromEndpoints []", ccnp(`"ingress":[{"fromEndpoints":[]}]`), nobody, nobody, nobody, false},
		{"CCNP: label", ccnp(`"ingress":[{"fromEndpoints":[{"matchLabels":{"app":"front"}}]}]`), "front away", "front away", "front away", false},
		{"CCNP: every pod", clusterwidePolicy(`{"endpointSelector":{},"ingress":[{}]}`), nobody, nobody, nobody, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := decodeOne(t, c.doc).body.(policyBody).policy
			gets := func(to policy.Party, proto uint8, port uint16) string {
				var in []string
				for _, w := range who {
					if policy.Evaluate([]policy.Policy{p}, to, datapath.Ingress, w.party, proto, port).Allowed {
						in = append(in, w.name)
					}
				}
				return strings.Join(in, " ")
			}
			assert.Equal(t, c.at80, gets(subject, datapath.ProtoTCP, 80), "port 80")
			assert.Equal(t, c.at81, gets(subject, datapath.ProtoTCP, 81), "port 81")
			assert.Equal(t, c.ping, gets(subject, datapath.ProtoICMP, 8), "ping")
			other := all
			if c.otherSubjects {
				other = nobody
			}
			assert.Equal(t, other, gets(member("shop", "cache", "a"), datapath.ProtoTCP, 80), "another pod of the namespace")
			if !strings.Contains(c.doc, "Clusterwide") {
				assert.Equal(t, all, gets(member("other", "backend", "b"), datapath.ProtoTCP, 80), "a pod of another namespace")
			}
		})
	}
}
