package lab

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/core/cluster"
)

// The service prefixes that cluster addresses are given out from.
var (
	services4 = netip.MustParsePrefix("10.96.0.0/16")
	services6 = netip.MustParsePrefix("fd00:10:96::/112")
)

// serviceManifest is what the lab reads of a Service.
type serviceManifest struct {
	Spec struct {
		Type           string   `json:"type"`
		ClusterIP      string   `json:"clusterIP"`
		ClusterIPs     []string `json:"clusterIPs"`
		IPFamilies     []string `json:"ipFamilies"`
		IPFamilyPolicy string   `json:"ipFamilyPolicy"`
		Ports          []struct {
			Name     string `json:"name"`
			Protocol string `json:"protocol"`
			Port     int    `json:"port"`
		} `json:"ports"`
	} `json:"spec"`
}

// addresses are the cluster addresses; none for headless and external ones.
func (m *serviceManifest) addresses() []netip.Addr {
	var out []netip.Addr
	for _, s := range append([]string{m.Spec.ClusterIP}, m.Spec.ClusterIPs...) {
		if a, err := netip.ParseAddr(s); err == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func hasFrontend(o *object) bool {
	var m serviceManifest
	return o.decode(&m) == nil && len(m.addresses()) > 0 && len(m.Spec.Ports) > 0
}

// assignClusterIPs does what an API server does for a Service without cluster addresses: it keeps
// those that the stored one has, or takes free ones. A service that does not say which families it wants
// gets both.
func (l *Lab) assignClusterIPs(o *object) []cluster.Finding {
	var m serviceManifest
	if err := o.decode(&m); err != nil {
		return []cluster.Finding{o.finding("", "cannot be read as a Service: %v", err)}
	}
	if m.Spec.Type == "ExternalName" || m.Spec.ClusterIP != "" || len(m.Spec.ClusterIPs) > 0 {
		return nil
	}
	taken := map[netip.Addr]bool{}
	stored, err := l.storedKind("Service")
	if err != nil {
		return []cluster.Finding{o.finding("spec.clusterIP", "cannot be assigned: %v", err)}
	}
	for _, s := range stored {
		var other serviceManifest
		if s.decode(&other) != nil {
			continue
		}
		if s.namespace == o.namespace && s.name == o.name {
			if ips := other.addresses(); len(ips) > 0 {
				setClusterIPs(o, ips)
				return nil
			}
		}
		for _, ip := range other.addresses() {
			taken[ip] = true
		}
	}
	var ips []netip.Addr
	for _, f := range m.families() {
		ip, err := freeAddress(f, taken)
		if err != nil {
			return []cluster.Finding{o.finding("spec.clusterIP", "cannot be assigned: %v", err)}
		}
		ips = append(ips, ip)
	}
	setClusterIPs(o, ips)
	return nil
}

// families are the prefixes to take addresses from, in the order that the service wants.
func (m *serviceManifest) families() []netip.Prefix {
	var out []netip.Prefix
	for _, f := range m.Spec.IPFamilies {
		switch f {
		case "IPv4":
			out = append(out, services4)
		case "IPv6":
			out = append(out, services6)
		}
	}
	switch {
	case len(out) > 0:
		return out
	case m.Spec.IPFamilyPolicy == "SingleStack":
		return []netip.Prefix{services4}
	}
	return []netip.Prefix{services4, services6}
}

func freeAddress(p netip.Prefix, taken map[netip.Addr]bool) (netip.Addr, error) {
	// The first 256 are left to manifests that name addresses.
	ip := p.Addr()
	for range 255 {
		ip = ip.Next()
	}
	for range 60000 {
		ip = ip.Next()
		if !taken[ip] {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no free address", p)
}

func setClusterIPs(o *object, ips []netip.Addr) {
	var list []any
	for _, ip := range ips {
		list = append(list, ip.String())
	}
	o.set(list[0], "spec", "clusterIP")
	o.set(list, "spec", "clusterIPs")
}
