package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// read takes what is more than a word, and says what is wrong with it.
func (n *NodePorts) read(v reader) (errs []error) {
	if r := v.list("node-port-range"); len(r) > 0 {
		if len(r) == 1 {
			r = strings.Split(r[0], "-")
		}
		first, last := uint64(0), uint64(0)
		var err, err2 error
		if len(r) == 2 {
			first, err = strconv.ParseUint(r[0], 10, 16)
			last, err2 = strconv.ParseUint(r[1], 10, 16)
		}
		if err != nil || err2 != nil || first == 0 || first > last {
			errs = append(errs, fmt.Errorf("node-port-range: %q; allowed: first and last port, such as 30000,32767", v.text("node-port-range")))
		}
		n.First, n.Last = uint16(first), uint16(last)
	}
	for _, d := range n.Devices {
		if name := strings.TrimSuffix(d, "+"); len(name) > 15 || strings.ContainsAny(name, "/") || name == "" && d != "+" {
			errs = append(errs, fmt.Errorf("devices: %q; allowed: names of at most 15 bytes, with a + at the end for the rest", d))
		}
	}
	if h := v.text("kube-proxy-replacement-healthz-bind-address"); h != "" {
		var err error
		if n.Healthz, err = netip.ParseAddrPort(h); err != nil || n.Healthz.Port() == 0 {
			errs = append(errs, fmt.Errorf("kube-proxy-replacement-healthz-bind-address: %q; allowed: an address and a port, such as 0.0.0.0:10256", h))
		}
	}
	return errs
}
