package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// obj is a part of a manifest.
type obj = map[string]any

// writer puts objects into the cluster directory, a file each, as JSON or YAML.
type writer struct {
	dir  string
	yaml bool
}

// put writes one object in one step: readers see the old one or the new.
func (w writer) put(o obj) error {
	meta := o["metadata"].(obj)
	sub, ext := filepath.Join(w.dir, fmt.Sprint(o["kind"]), fmt.Sprint(meta["namespace"])), ".json"
	if err := os.MkdirAll(sub, 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(o)
	if err == nil && w.yaml {
		data, err = yaml.JSONToYAML(data)
		ext = ".yaml"
	}
	if err != nil {
		return err
	}
	path := filepath.Join(sub, fmt.Sprint(meta["name"])+ext)
	tmp := filepath.Join(sub, ".new")
	if err := os.WriteFile(tmp, bytes.TrimSpace(data), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (w writer) remove(kind string) error { return os.RemoveAll(filepath.Join(w.dir, kind)) }

func node() obj {
	return obj{
		"apiVersion": "v1", "kind": "Node", "metadata": obj{"name": nodeName},
		"spec":   obj{"podCIDR": podCIDR.String(), "podCIDRs": []string{podCIDR.String()}},
		"status": obj{"addresses": []obj{{"type": "InternalIP", "address": nodeAddr.String()}}},
	}
}

// addr4 is the i-th address after a base.
func addr4(base string, i int) netip.Addr {
	b := netip.MustParseAddr(base).As4()
	n := (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) + uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func vip(i int) netip.Addr { return addr4("10.96.0.16", i) }

func serviceName(i int) (namespace, name string) {
	return fmt.Sprintf("team-%02d", i%50), fmt.Sprintf("service-%05d", i)
}

// service is the i-th of many, as an API server returns it.
func service(namespace, name string, addr netip.Addr) obj {
	return obj{
		"apiVersion": "v1", "kind": "Service",
		"metadata": obj{"name": name, "namespace": namespace, "labels": obj{"app": name}},
		"spec": obj{
			"type": "ClusterIP", "clusterIP": addr.String(), "clusterIPs": []string{addr.String()},
			"selector": obj{"app": name}, "sessionAffinity": "None",
			"ports": []obj{{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}},
		},
	}
}

func endpointSlice(namespace, name string, backends ...netip.Addr) obj {
	var endpoints []obj
	for i, a := range backends {
		endpoints = append(endpoints, obj{
			"addresses":  []string{a.String()},
			"conditions": obj{"ready": true, "serving": true, "terminating": false},
			"nodeName":   fmt.Sprintf("node%d", 2+i%100), "zone": "zone-a",
			"targetRef": obj{"kind": "Pod", "namespace": namespace, "name": fmt.Sprintf("%s-%d", name, i)},
		})
	}
	return obj{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata": obj{"name": name + "-abcde", "namespace": namespace,
			"labels": obj{"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
		"ports":     []obj{{"name": "http", "port": 8080, "protocol": "TCP"}},
		"endpoints": endpoints,
	}
}

// services writes n services of per endpoints each; no two share a backend.
func (w writer) services(n, per int) error {
	for i := range n {
		namespace, name := serviceName(i)
		backends := make([]netip.Addr, per)
		for j := range backends {
			backends[j] = addr4("10.128.0.1", i*per+j)
		}
		if err := w.put(service(namespace, name, vip(i))); err != nil {
			return err
		}
		if err := w.put(endpointSlice(namespace, name, backends...)); err != nil {
			return err
		}
	}
	return nil
}

func pod(namespace, name, app string) obj {
	return obj{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": obj{"name": name, "namespace": namespace, "uid": "uid-" + namespace + "-" + name, "labels": obj{"app": app}},
		"spec": obj{"nodeName": nodeName, "containers": []obj{{"name": "main", "image": "app",
			"ports": []obj{{"name": "http", "containerPort": 8080, "protocol": "TCP"}}}}},
		"status": obj{"phase": "Running", "conditions": []obj{{"type": "Ready", "status": "True"}}},
	}
}

// policy is the i-th of many, of one to three rules.
func policy(i int) obj {
	var rules []obj
	for r := range 1 + i%3 {
		rules = append(rules, obj{
			"fromEndpoints": []obj{{"matchLabels": obj{"app": fmt.Sprintf("app-%d", (7*i+r)%100)}}},
			"toPorts":       []obj{{"ports": []obj{{"port": fmt.Sprint(1000 + i%500 + r), "protocol": "TCP"}}}},
		})
	}
	return obj{
		"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
		"metadata": obj{"name": fmt.Sprintf("policy-%04d", i), "namespace": "apps"},
		"spec": obj{"endpointSelector": obj{"matchLabels": obj{"app": fmt.Sprintf("app-%d", i%100)}},
			"ingress": rules},
	}
}

// gate lets only pods of one app reach the probed server.
func gate(from string) obj {
	return obj{
		"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": obj{"name": "gate", "namespace": "probe"},
		"spec": obj{"podSelector": obj{"matchLabels": obj{"app": "server-a"}}, "policyTypes": []string{"Ingress"},
			"ingress": []obj{{"from": []obj{{"podSelector": obj{"matchLabels": obj{"app": from}}}}}}},
	}
}
