package bench

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

// The pods of the bed: client and server on one node, remote on the other.
const (
	namespace = "bench"
	clientPod = "client"
	serverPod = "server"
	remotePod = "remote"
)

// The services that are dialled, by the last part of their addresses.
const (
	nearService = 10 // in front of server
	farService  = 11 // in front of remote
)

func podName(name string) cluster.Name { return cluster.Name{Namespace: namespace, Name: name} }

// clusterIP is a service's address of a family.
func clusterIP(n, family int) netip.Addr {
	hi, lo := byte(n>>8), byte(n)
	if family == 4 {
		return netip.AddrFrom4([4]byte{10, 96, hi, lo})
	}
	a := netip.MustParseAddr("fd00:10:96::").As16()
	a[14], a[15] = hi, lo
	return netip.AddrFrom16(a)
}

func asFile(name, text string) []ports.LabManifest {
	if text == "" {
		return nil
	}
	return []ports.LabManifest{{File: name, Content: []byte(text)}}
}

func podManifests() []ports.LabManifest {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", namespace)
	for _, p := range []struct{ name, app, node string }{
		{clientPod, "client", "node1"}, {serverPod, "server", "node1"}, {remotePod, "remote", "node2"},
	} {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: %s, part: bed}}
spec:
  nodeName: %s
  containers: [{name: main, image: none, ports: [{containerPort: 80}]}]
`, p.name, namespace, p.app, p.node)
	}
	return asFile("pods", b.String())
}

// policyManifests are n policies that select all pods of the bed, in both directions. The first allows
// the traffic on its port; the others speak of peers and ports that there are none of.
func policyManifests(n int) []ports.LabManifest {
	var b strings.Builder
	for i := range n {
		peer, at := "part: bed", port
		if i > 0 {
			peer, at = fmt.Sprintf("app: other-%d", i), 10000+i
		}
		fmt.Fprintf(&b, `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: rule-%[1]d-of-%[2]d, namespace: %[3]s}
spec:
  podSelector: {matchLabels: {part: bed}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{podSelector: {matchLabels: {%[4]s}}}]
      ports: [{protocol: TCP, port: %[5]d}, {protocol: UDP, port: %[5]d}]
  egress:
    - to: [{podSelector: {matchLabels: {%[4]s}}}]
      ports: [{protocol: TCP, port: %[5]d}, {protocol: UDP, port: %[5]d}]
`, i, n, namespace, peer, at)
	}
	return asFile("policies", b.String())
}

// serviceManifests are the services that the bed has more of when there are to of them instead of from; none
// if that is not more. The first stands for two, one in front of each server; all others have the same
// backend.
func serviceManifests(from, to int) []ports.LabManifest {
	var b strings.Builder
	write := func(name, app string, address int) {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  clusterIP: %[3]s
  clusterIPs: [%[3]s, "%[4]s"]
  selector: {app: %[5]s}
  ports:
    - {name: tcp, protocol: TCP, port: %[6]d, targetPort: %[6]d}
    - {name: udp, protocol: UDP, port: %[6]d, targetPort: %[6]d}
`, name, namespace, clusterIP(address, 4), clusterIP(address, 6), app, port)
	}
	for i := from; i < to; i++ {
		if i == 0 {
			write("near", "server", nearService)
			write("far", "remote", farService)
			continue
		}
		write(fmt.Sprintf("filler-%d", i), "server", 255+i)
	}
	return asFile("services", b.String())
}
