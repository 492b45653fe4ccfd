package connectivity

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Ports of the test pods' servers: HTTP, and UDP on the first.
const (
	PortHTTP        uint16 = 8080
	PortAlternative uint16 = 8081
	PortBeyond      uint16 = 8082
	// PortHost is that of its node which leads to an echo pod's PortHTTP.
	PortHost uint16 = 4000
)

// Names of ports, services and labels.
const (
	portNameHTTP    = "http-8080"
	portNameUDP     = "udp-8080"
	HeadlessService = "echo-headless"
	// ExternalIPService and LoadBalancerService lead to all echo pods by addresses that are not the cluster's.
	ExternalIPService   = "echo-external-ip"
	LoadBalancerService = "echo-loadbalancer"
	// loadBalancerClass keeps every real load balancer away from LoadBalancerService: the test gives
	// it its address.
	loadBalancerClass = "weir.io/connectivity-test"
	// OwnerLabel is on everything that the test makes.
	OwnerLabel = "weir.io/connectivity-test"
	// NamespaceLabel is on what the test makes for the whole cluster; its value is the test's namespace.
	NamespaceLabel = OwnerLabel + "-namespace"
	// DefaultNamespace is where the pods are.
	DefaultNamespace = "cilium-test-1"
	// otherSuffix makes the name of the second namespace.
	otherSuffix = "-ccnp1"
	// Container is the name of the pods' container.
	Container = "weir"
)

// Addresses of these services, from the ranges that are set aside for documentation: nothing real is there.
var (
	externalIPs     = []string{"198.51.100.53", "2001:db8:53::1"}
	loadBalancerIPs = []string{"203.0.113.53", "2001:db8:53::2"}
)

// Document is one Kubernetes object or several, in YAML or JSON.
type Document struct {
	Name    string // for people
	Content []byte
	// Optional objects are such that a cluster may refuse, whereupon their scenarios are left out.
	Optional bool
}

// Layout says where the test's pods go and what they run.
type Layout struct {
	Namespace       string
	Image           string
	Node, OtherNode string // OtherNode is empty on a single node
	NamespaceLabels map[string]string
	PodAnnotations  map[string]string
	Tolerations     []string // keys of taints
	NodeSelector    map[string]string
	// Disruption adds pods whose connections stay, an exchange every DisruptionInterval on each.
	Disruption         bool
	DisruptionInterval time.Duration
}

type tree = map[string]any

// Namespaces are those that belong to a test in the namespace given, itself first.
func Namespaces(namespace string) []string { return []string{namespace, namespace + otherSuffix} }

// NamespaceOf is the namespace that the pods of a role are in.
func (l Layout) NamespaceOf(role string) string {
	// Policies of the test's own namespace must not end the connections that are to stay.
	if role == RoleCCNPClient || role == RoleDisruptClient || role == RoleDisruptServer {
		return l.Namespace + otherSuffix
	}
	return l.Namespace
}

// Objects are the namespaces, the services and the workloads of a layout, in the order to make them in.
func (l Layout) Objects() []Document {
	nsLabels := map[string]string{OwnerLabel: "true", "app.kubernetes.io/name": "cilium-cli"}
	maps.Copy(nsLabels, l.NamespaceLabels)
	var out []Document
	for _, ns := range Namespaces(l.Namespace) {
		out = append(out, document("namespace "+ns, tree{
			"apiVersion": "v1", "kind": "Namespace", "metadata": tree{"name": ns, "labels": nsLabels},
		}))
	}
	for _, role := range l.Deployments() {
		out = append(out, document("service account "+role, tree{
			"apiVersion": "v1", "kind": "ServiceAccount", "metadata": l.meta(role, nil),
		}))
	}
	for _, role := range l.Deployments() {
		if isEcho(role) {
			out = append(out, l.service(role, "NodePort", map[string]string{"name": role}))
		}
	}
	echo := map[string]string{"kind": "echo"}
	out = append(out, l.service(HeadlessService, "None", echo), l.service(ExternalIPService, "ClusterIP", echo), l.service(LoadBalancerService, "LoadBalancer", echo))
	if l.Disruption {
		// Before its client: that one finds the address in its environment.
		out = append(out, l.service(RoleDisruptServer, "ClusterIP", map[string]string{"name": RoleDisruptServer}))
	}
	for _, role := range l.Deployments() {
		out = append(out, l.deployment(role))
	}
	return append(out, l.hostNetns())
}

// Deployments lists the Deployments of a layout.
func (l Layout) Deployments() []string {
	out := []string{RoleClient, RoleClient2, RoleClient3, RoleEchoSameNode, RoleEchoOtherNode, RoleCCNPClient}
	if l.OtherNode == "" {
		out = []string{RoleClient, RoleClient2, RoleEchoSameNode, RoleCCNPClient}
	}
	if l.Disruption {
		out = append(out, RoleDisruptServer, RoleDisruptClient)
	}
	return out
}

func isEcho(role string) bool { return fits("echo*", role) }

// podLabels are a role's own labels; policies select by them.
func podLabels(role string) map[string]string {
	out := map[string]string{"name": role, "kind": "client", OwnerLabel: "true"}
	switch role {
	case RoleClient2:
		out["other"] = "client"
	case RoleClient3:
		out["other"] = "client-other-node"
	case RoleEchoSameNode:
		out["kind"], out["other"] = "echo", "echo"
	case RoleEchoOtherNode:
		out["kind"], out["first"] = "echo", "echo"
	case RoleHostNetns, RoleCCNPClient, RoleDisruptServer, RoleDisruptClient:
		out["kind"] = role
	}
	return out
}

func (l Layout) meta(name string, labels map[string]string) tree {
	all := map[string]string{OwnerLabel: "true"}
	maps.Copy(all, labels)
	return tree{"name": name, "namespace": l.NamespaceOf(name), "labels": all}
}

func (l Layout) service(name, kind string, selector map[string]string) Document {
	spec := tree{
		"selector": selector, "ipFamilyPolicy": "PreferDualStack",
		"ports": []any{
			tree{"name": portNameHTTP, "port": PortHTTP, "targetPort": PortHTTP, "protocol": "TCP"},
			tree{"name": portNameUDP, "port": PortHTTP, "targetPort": PortHTTP, "protocol": "UDP"},
		},
	}
	o := tree{"apiVersion": "v1", "kind": "Service", "metadata": l.meta(name, map[string]string{"kind": "echo"}), "spec": spec}
	if kind == "None" {
		spec["clusterIP"] = "None"
	} else {
		spec["type"] = kind
	}
	switch name {
	case ExternalIPService:
		spec["externalIPs"] = externalIPs
	case LoadBalancerService:
		spec["loadBalancerClass"], spec["allocateLoadBalancerNodePorts"] = loadBalancerClass, false
		var ingress []any
		for _, a := range loadBalancerIPs {
			ingress = append(ingress, tree{"ip": a})
		}
		o["status"] = tree{"loadBalancer": tree{"ingress": ingress}}
	}
	d := document("service "+name, o)
	d.Optional = name == ExternalIPService || name == LoadBalancerService
	return d
}

func (l Layout) deployment(role string) Document {
	node := l.Node
	if role == RoleClient3 || role == RoleEchoOtherNode || role == RoleDisruptServer && l.OtherNode != "" {
		node = l.OtherNode
	}
	spec := l.podSpec()
	spec["serviceAccountName"] = role
	if isEcho(role) {
		spec["containers"].([]any)[0].(tree)["ports"].([]any)[0].(tree)["hostPort"] = PortHost
	}
	if role == RoleDisruptClient {
		// In brackets, which an IPv4 address may have and an IPv6 address must.
		spec["containers"].([]any)[0].(tree)["args"] = []string{"connectivity", "hold", "--interval", l.DisruptionInterval.String(),
			fmt.Sprintf("[$(TEST_CONN_DISRUPT_SERVER_SERVICE_HOST)]:%d", PortHTTP)}
	}
	spec["affinity"] = onNode(node)
	labels := podLabels(role)
	return document("deployment "+role, tree{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": l.meta(role, labels),
		"spec": tree{
			"replicas": 1, "selector": tree{"matchLabels": tree{"name": role}},
			"template": tree{"metadata": l.templateMeta(labels), "spec": spec},
		},
	})
}

// onNode pins a pod to a node and leaves the placing to the scheduler, which says why if it can't.
func onNode(name string) tree {
	return tree{"nodeAffinity": tree{"requiredDuringSchedulingIgnoredDuringExecution": tree{
		"nodeSelectorTerms": []any{tree{"matchFields": []any{
			tree{"key": "metadata.name", "operator": "In", "values": []string{name}},
		}}},
	}}}
}

func (l Layout) hostNetns() Document {
	spec := l.podSpec()
	spec["hostNetwork"] = true
	container := spec["containers"].([]any)[0].(tree)
	// On the node's network a server's port could be taken: this pod only sends.
	container["args"] = []string{"connectivity", "serve", "--no-listen"}
	delete(container, "ports")
	delete(container, "startupProbe")
	labels := podLabels(RoleHostNetns)
	return document("daemonset "+RoleHostNetns, tree{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": l.meta(RoleHostNetns, labels),
		"spec": tree{
			"selector": tree{"matchLabels": tree{"name": RoleHostNetns}},
			"template": tree{"metadata": l.templateMeta(labels), "spec": spec},
		},
	})
}

func (l Layout) templateMeta(labels map[string]string) tree {
	m := tree{"labels": labels}
	if len(l.PodAnnotations) > 0 {
		m["annotations"] = l.PodAnnotations
	}
	return m
}

func (l Layout) podSpec() tree {
	probe := tree{"httpGet": tree{"path": "/", "port": PortHTTP}}
	// Only until it listens: a later policy must not make the pod unready and take it out of its service.
	start := tree{"periodSeconds": 1, "failureThreshold": 120, "timeoutSeconds": 5}
	maps.Copy(start, probe)
	spec := tree{
		"terminationGracePeriodSeconds": 1,
		"containers": []any{tree{
			"name": Container, "image": l.Image, "imagePullPolicy": "IfNotPresent",
			"command": []string{"/usr/bin/weir"}, "args": []string{"connectivity", "serve"},
			"env": []any{tree{"name": "POD_NAME", "valueFrom": tree{"fieldRef": tree{"fieldPath": "metadata.name"}}}},
			"ports": []any{
				tree{"name": portNameHTTP, "containerPort": PortHTTP, "protocol": "TCP"},
				tree{"name": "http-8081", "containerPort": PortAlternative, "protocol": "TCP"},
				tree{"name": "http-8082", "containerPort": PortBeyond, "protocol": "TCP"},
				tree{"name": "udp-8080", "containerPort": PortHTTP, "protocol": "UDP"},
			},
			"startupProbe":    start,
			"securityContext": tree{"capabilities": tree{"add": []string{"NET_RAW"}}}, // echo requests
		}},
	}
	if len(l.NodeSelector) > 0 {
		spec["nodeSelector"] = l.NodeSelector
	}
	var tolerations []any
	for _, key := range l.Tolerations {
		tolerations = append(tolerations, tree{"key": key, "operator": "Exists"})
	}
	if tolerations != nil {
		spec["tolerations"] = tolerations
	}
	return spec
}

func document(name string, o tree) Document {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("connectivity: %s cannot be written: %v", name, err))
	}
	return Document{Name: name, Content: b}
}
