// Package nftables masquerades pods' traffic that leaves the cluster, with one table of nftables that is
// exchanged as a whole. Tables of others are left alone, and so is ours by who filters rules by the names that
// kube-proxy uses. It runs no external program.
package nftables

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/core/prefix"
	"github.com/weirnet/weir/ports"
)

// TableName is the table's name, in the family inet.
const TableName = "weir"

const (
	chainName = "postrouting"
	// comment begins the comment of each rule; the device follows, if it names one.
	comment = "weir masquerade"
	// chunk bounds the elements of a message, whose length the kernel reads as 16 bits.
	chunk = 512
	// maxDeviceName in bytes (IFNAMSIZ less the terminating zero).
	maxDeviceName = 15
)

// ownDevices begin the names of devices by which packets stay inside the cluster.
var ownDevices = []string{"lxc", "cilium_"}

// family is what differs between IPv4 and IPv6.
type family struct {
	name      string
	proto     byte
	key       nftables.SetDatatype
	bytes     uint32
	src, dst  uint32 // offsets in the header
	is4       bool
	pods, set string // names of the sets
}

var families = []family{
	{"IPv4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 4, 12, 16, true, "pods4", "inside4"},
	{"IPv6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 16, 8, 24, false, "pods6", "inside6"},
}

// Config of a Masquerade.
type Config struct {
	// Netns is the path of the network namespace to act in; empty: that of the process.
	Netns string
}

// Masquerade implements ports.Masquerade. It keeps nothing between calls. One writer at a time; anybody may
// read.
type Masquerade struct{ netns string }

var _ ports.Masquerade = (*Masquerade)(nil)

// New returns a Masquerade; it touches nothing yet.
func New(c Config) *Masquerade { return &Masquerade{netns: c.Netns} }

// do runs f with a connection in the namespace.
func (m *Masquerade) do(f func(*nftables.Conn) error) error {
	return netns.Do(m.netns, func() error {
		// All sets may have to go in one message.
		big := func(c *netlink.Conn) error { return c.SetWriteBuffer(16 << 20) }
		c, err := nftables.New(nftables.WithSockOptions(big))
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		return f(c)
	})
}

func ourTable() *nftables.Table {
	return &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
}

// SyncMasquerade implements ports.Masquerade.
func (m *Masquerade) SyncMasquerade(r ports.MasqueradeRules) error {
	if err := check(r); err != nil {
		return fmt.Errorf("masquerade: %w", err)
	}
	r = r.Normal()
	err := m.do(func(c *nftables.Conn) error {
		have, exists, err := read(c)
		if err != nil {
			return err
		}
		if exists == (len(r.Sources) > 0) && have.Equal(r) {
			return nil
		}
		return replace(c, r)
	})
	if err != nil {
		return fmt.Errorf("masquerade: table inet %s: %w", TableName, err)
	}
	return nil
}

// Masqueraded implements ports.Masquerade.
func (m *Masquerade) Masqueraded() (r ports.MasqueradeRules, err error) {
	err = m.do(func(c *nftables.Conn) (err error) {
		r, _, err = read(c)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("masquerade: read table inet %s: %w", TableName, err)
	}
	return r, nil
}

func check(r ports.MasqueradeRules) error {
	for field, ps := range map[string][]netip.Prefix{"sources": r.Sources, "inside": r.Inside} {
		for i, p := range ps {
			if !p.IsValid() || p.Addr().Is4In6() {
				return fmt.Errorf("%s[%d] %s: must be a valid prefix, IPv4 unmapped", field, i, p)
			}
		}
	}
	for i, d := range r.Devices {
		name := strings.TrimSuffix(d, "+")
		if name == "" || len(name) > maxDeviceName || strings.ContainsAny(name, "/ \t\n\"") {
			return fmt.Errorf("devices[%d] %q: must be a device name of 1 to %d bytes, or the beginning of one and +", i, d, maxDeviceName)
		}
	}
	return nil
}

// replace exchanges the table in one transaction.
func replace(c *nftables.Conn, r ports.MasqueradeRules) error {
	t := ourTable()
	c.AddTable(t) // what is absent cannot be deleted
	c.DelTable(t)
	if len(r.Sources) > 0 {
		t = c.AddTable(ourTable())
		chain := c.AddChain(&nftables.Chain{
			Name: chainName, Table: t, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		for _, f := range families {
			for name, ps := range map[string][]netip.Prefix{f.pods: r.Sources, f.set: r.Inside} {
				if err := addSet(c, t, f, name, ps); err != nil {
					return err
				}
			}
			devices := r.Devices
			if len(devices) == 0 {
				devices = []string{""}
			}
			for _, d := range devices {
				c.AddRule(&nftables.Rule{
					Table: t, Chain: chain, Exprs: f.rule(d),
					UserData: userdata.AppendString(nil, userdata.TypeComment, strings.TrimSpace(comment+" "+d)),
				})
			}
		}
	}
	return c.Flush()
}

func addSet(c *nftables.Conn, t *nftables.Table, f family, name string, ps []netip.Prefix) error {
	set := &nftables.Set{Table: t, Name: name, KeyType: f.key, Interval: true}
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	var all []nftables.SetElement
	for _, r := range prefix.Ranges(ps) {
		if r.First.Is4() != f.is4 {
			continue
		}
		all = append(all, nftables.SetElement{Key: r.First.AsSlice()})
		if after := r.Last.Next(); after.IsValid() {
			all = append(all, nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
	}
	for part := range slices.Chunk(all, chunk) {
		if err := c.SetAddElements(set, part); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// rule matches the family, the device, a pod as source and what is not inside as destination.
func (f family) rule(device string) []expr.Any {
	es := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.proto}},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
	}
	for _, own := range ownDevices {
		es = append(es, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte(own)})
	}
	if device != "" {
		name, open := strings.CutSuffix(device, "+")
		data := []byte(name)
		if !open {
			data = append(data, make([]byte, maxDeviceName+1-len(name))...)
		}
		es = append(es, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data})
	}
	return append(es,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: f.bytes},
		&expr.Lookup{SourceRegister: 1, SetName: f.pods},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dst, Len: f.bytes},
		&expr.Lookup{SourceRegister: 1, SetName: f.set, Invert: true},
		&expr.Masq{},
	)
}

// read says what the kernel has. Rules that are not as replace makes them are none.
func read(c *nftables.Conn) (r ports.MasqueradeRules, exists bool, err error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return r, false, err
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }) {
		return r, false, nil
	}
	devices, whole, err := readRules(c)
	if err != nil || !whole {
		return r, true, ignoreGone(err)
	}
	r.Devices = devices
	for _, f := range families {
		for name, into := range map[string]*[]netip.Prefix{f.pods: &r.Sources, f.set: &r.Inside} {
			ps, err := readSet(c, f, name)
			if err != nil {
				return ports.MasqueradeRules{}, true, ignoreGone(err)
			}
			*into = append(*into, ps...)
		}
	}
	return r.Normal(), true, nil
}

// ignoreGone: somebody removes the table while it is read.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || err != nil && strings.Contains(err.Error(), unix.ENOENT.Error()) {
		return nil
	}
	return err
}

// readRules returns the devices of the rules, and whether there are exactly those that must be.
func readRules(c *nftables.Conn) (devices []string, whole bool, err error) {
	t := ourTable()
	chain, err := c.ListChain(t, chainName)
	if err != nil {
		return nil, false, err
	}
	if chain.Hooknum == nil || *chain.Hooknum != *nftables.ChainHookPostrouting || chain.Type != nftables.ChainTypeNAT {
		return nil, false, nil
	}
	rules, err := c.GetRules(t, chain)
	if err != nil {
		return nil, false, err
	}
	count := map[string]int{}
	for _, r := range rules {
		text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		device, ok := strings.CutPrefix(text, comment)
		if !ok {
			return nil, false, nil
		}
		count[strings.TrimSpace(device)]++
	}
	for d, n := range count {
		if n != len(families) {
			return nil, false, nil
		}
		if d != "" {
			devices = append(devices, d)
		}
	}
	return devices, len(count) > 0 && (len(devices) == 0 || len(devices) == len(count)), nil
}

func readSet(c *nftables.Conn, f family, name string) ([]netip.Prefix, error) {
	elements, err := c.GetSetElements(&nftables.Set{Table: ourTable(), Name: name, KeyType: f.key, Interval: true, KeyByteOrder: binaryutil.BigEndian})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(elements, func(a, b nftables.SetElement) int {
		if d := bytes.Compare(a.Key, b.Key); d != 0 {
			return d
		}
		return boolInt(b.IntervalEnd) - boolInt(a.IntervalEnd)
	})
	var out []netip.Prefix
	var open netip.Addr
	last := prefix.RangeOf(netip.PrefixFrom(map[bool]netip.Addr{true: netip.IPv4Unspecified(), false: netip.IPv6Unspecified()}[f.is4], 0)).Last
	for _, e := range elements {
		a, ok := netip.AddrFromSlice(e.Key)
		if !ok || a.Is4() != f.is4 {
			return nil, fmt.Errorf("set %s: key of %d bytes", name, len(e.Key))
		}
		switch {
		case !e.IntervalEnd:
			open = a
		case open.IsValid():
			out = append(out, prefix.Range{First: open, Last: a.Prev()}.Prefixes()...)
			open = netip.Addr{}
		}
	}
	if open.IsValid() {
		out = append(out, prefix.Range{First: open, Last: last}.Prefixes()...)
	}
	return out, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
