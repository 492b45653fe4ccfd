package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// object is what the API server sends, as JSON.
type object = map[string]any

// proxyAPI is as much of an API server as kube-proxy needs: lists that never change, and watches that say nothing.
type proxyAPI struct {
	lists map[string]object // by path
}

// newProxyAPI knows one node and services whose only backend has the given addresses, named and numbered as those of
// the lab are.
func newProxyAPI(node, backend []netip.Addr, services int) *proxyAPI {
	meta := func(name string) object {
		return object{"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"}
	}
	var addresses []object
	for _, ip := range families(node) {
		addresses = append(addresses, object{"type": "InternalIP", "address": ip.String()})
	}
	ports := []object{
		{"name": "tcp", "protocol": "TCP", "port": port, "targetPort": port},
		{"name": "udp", "protocol": "UDP", "port": port, "targetPort": port},
	}
	slicePorts := []object{{"name": "tcp", "protocol": "TCP", "port": port}, {"name": "udp", "protocol": "UDP", "port": port}}
	var svcs, epslices []object
	for i := range services {
		name, at := "near", nearService
		if i > 0 {
			name, at = fmt.Sprintf("filler-%d", i), 255+i
		}
		svcs = append(svcs, object{"metadata": meta(name), "spec": object{
			"type": "ClusterIP", "clusterIP": clusterIP(at, 4).String(),
			"clusterIPs": []string{clusterIP(at, 4).String(), clusterIP(at, 6).String()},
			"ipFamilies": []string{"IPv4", "IPv6"}, "ipFamilyPolicy": "RequireDualStack", "ports": ports,
		}})
		for _, ip := range families(backend) {
			kind := "IPv4"
			if ip.Is6() {
				kind = "IPv6"
			}
			m := meta(name + "-" + strings.ToLower(kind))
			m["labels"] = object{"kubernetes.io/service-name": name}
			epslices = append(epslices, object{
				"metadata": m, "addressType": kind, "ports": slicePorts,
				"endpoints": []object{{"addresses": []string{ip.String()}, "conditions": object{"ready": true}, "nodeName": proxyNode}},
			})
		}
	}
	list := func(version, kind string, items []object) object {
		return object{"apiVersion": version, "kind": kind + "List", "metadata": object{"resourceVersion": "1"}, "items": items}
	}
	self := object{"metadata": object{"name": proxyNode, "uid": proxyNode, "resourceVersion": "1"}, "status": object{"addresses": addresses}}
	return &proxyAPI{map[string]object{
		"/api/v1/nodes":    list("v1", "Node", []object{self}),
		"/api/v1/services": list("v1", "Service", svcs),
		"/apis/discovery.k8s.io/v1/endpointslices": list("discovery.k8s.io/v1", "EndpointSlice", epslices),
		"/apis/networking.k8s.io/v1/servicecidrs":  list("networking.k8s.io/v1", "ServiceCIDR", []object{}),
		"/api/v1/nodes/" + proxyNode:               merge(object{"apiVersion": "v1", "kind": "Node"}, self),
		"/version":                                 {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
	}}
}

func merge(a, b object) object {
	for k, v := range b {
		a[k] = v
	}
	return a
}

func (a *proxyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(code int, o object) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(o)
	}
	failure := func(code int, reason string) {
		answer(code, object{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason})
	}
	q := r.URL.Query()
	o, known := a.lists[r.URL.Path]
	switch {
	case r.Method == http.MethodPost: // events
		failure(http.StatusForbidden, "Forbidden")
	case !known:
		failure(http.StatusNotFound, "NotFound")
	case q.Get("sendInitialEvents") == "true":
		failure(http.StatusUnprocessableEntity, "Invalid") // then the client lists
	case q.Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		answer(http.StatusOK, o)
	}
}
