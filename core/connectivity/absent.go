package connectivity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Absent is a test that users of Cilium's connectivity test know and that is not among Tests.
type Absent struct {
	Name string
	Why  string // what it would take
}

// absent are the tests that are not there, by what weir has not.
var absent = []struct{ why, names string }{
	{"no layer 7", `north-south-loadbalancing-with-l7-policy pod-to-pod-with-l7-policy-encryption pod-to-pod-with-l7-policy-encryption-v2
		egress-gateway-with-l7-policy echo-ingress-l7 echo-ingress-l7-via-hostport echo-ingress-l7-named-port
		echo-ingress-from-client-tiered-wildcard-pass-l7 client-egress-l7 client-egress-l7-method client-egress-l7-named-port
		client-egress-tls-sni client-egress-tls-sni-denied client-egress-l7-tls-deny-without-headers client-egress-l7-tls-headers
		client-egress-l7-tls-headers-sni client-egress-l7-set-header to-fqdns-with-ccec-listener l7-lb`},
	{"no Ingress", `pod-to-ingress-service pod-to-ingress-service-deny-all pod-to-ingress-service-deny-backend-service
		pod-to-ingress-service-deny-ingress-identity pod-to-ingress-service-allow-ingress-identity
		pod-to-ingress-service-deny-source-egress-other-node outside-to-ingress-service outside-to-ingress-service-deny-world-identity
		outside-to-ingress-service-deny-cidr outside-to-ingress-service-deny-all-ingress`},
	{"no DNS names in policies", `dns-only to-fqdns to-fqdns-with-proxy`},
	{"no authentication", `echo-ingress-auth-always-fail echo-ingress-mutual-auth-spiffe`},
	{"no encryption", `pod-to-pod-encryption pod-to-pod-encryption-v2 node-to-node-encryption strict-mode-encryption strict-mode-encryption-v2
		ztunnel-pod-to-pod-encryption ipsec-key-derivation-validation no-ipsec-xfrm-errors`},
	{"no egress gateway", `egress-gateway egress-gateway-multigateway egress-gateway-excluded-cidrs`},
	{"no cluster mesh", `cluster-entity-multi-cluster policy-local-cluster-egress clustermesh-endpointslice-sync`},
	{"no BGP", `bgp-control-plane-v1 bgp-control-plane-v2`},
	{"no host firewall", `host-firewall-ingress host-firewall-egress`},
	{"no local redirect policies", `local-redirect-policy local-redirect-policy-with-node-dns`},
	{"no nodes in CIDR rules", `pod-to-node-cidrpolicy pod-to-controlplane-host-cidr`},
	{"no bandwidth limits", `network-qos network-bandwidth-limit`},
	{"no multicast", `multicast`},
	{"no metrics", `allow-all-with-metrics-check`},
	{"no agents that probe each other", `health`},
	{"no measurements", `network-perf`},
	{"no way to pods from outside but node ports (north-south-loadbalancing)", `no-policies-from-outside`},
	{"no pods on control plane nodes (host-entity-egress has the same policy)", `pod-to-controlplane-host`},
}

// AbsentTests lists them, sorted by name.
func AbsentTests() []Absent {
	var out []Absent
	for _, a := range absent {
		for _, name := range strings.Fields(a.names) {
			out = append(out, Absent{Name: name, Why: a.why})
		}
	}
	slices.SortFunc(out, func(a, b Absent) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// AbsentSummary counts them in one line.
func AbsentSummary() string {
	var parts []string
	for _, a := range absent {
		what, _, _ := strings.Cut(a.why, " (")
		parts = append(parts, fmt.Sprintf("%s (%d)", strings.TrimPrefix(what, "no "), len(strings.Fields(a.names))))
	}
	return fmt.Sprintf("%d tests of Cilium's are not there, for want of: %s; --list names them", len(AbsentTests()), strings.Join(parts, ", "))
}
