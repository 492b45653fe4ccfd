package differential_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
)

// op is one thing that happens to both datapaths; exactly one field is set. The world is made of ops, too,
// so that a failing sequence can be cut down to what matters. Interfaces are slots (see rig), so that a
// recorded sequence means the same in every run.
type op struct {
	Endpoint *change[netip.Addr, datapath.Endpoint]                `json:"endpoint,omitempty"`
	Word     *change[datapath.EndpointID, datapath.EndpointPolicy] `json:"ep_policy,omitempty"`
	IPCache  *change[netip.Prefix, datapath.IPCache]               `json:"ipcache,omitempty"`
	Class    *change[datapath.ClassKey, datapath.Class]            `json:"class,omitempty"`
	Policy   *change[datapath.PolicyKey, datapath.PolicyRow]       `json:"policy,omitempty"`
	Node     *change[netip.Addr, datapath.Node]                    `json:"node,omitempty"`
	Service  *change[datapath.ServiceKey, datapath.Service]        `json:"service,omitempty"`
	SlotRow  *change[datapath.SlotKey, uint32]                     `json:"slot,omitempty"`
	Backend  *change[uint32, datapath.Backend]                     `json:"backend,omitempty"`
	BumpAddr *netip.Addr                                           `json:"bump_addr,omitempty"`
	BumpAll  bool                                                  `json:"bump_all,omitempty"`
	Flush    bool                                                  `json:"flush,omitempty"`
	Collect  bool                                                  `json:"collect,omitempty"`
	Advance  int                                                   `json:"advance_s,omitempty"`
	Packet   *injection                                            `json:"packet,omitempty"`
	Call     *call                                                 `json:"call,omitempty"`
}

// change writes a row; without a value it deletes the key.
type change[K comparable, V any] struct {
	Key   K
	Value *V `json:",omitempty"`
}

func (c change[K, V]) String() string {
	if c.Value == nil {
		return fmt.Sprintf("%v deleted", c.Key)
	}
	return fmt.Sprintf("%v = %+v", c.Key, *c.Value)
}

func put[K comparable, V any](k K, v V) *change[K, V] { return &change[K, V]{Key: k, Value: &v} }

func remove[K comparable, V any](k K) *change[K, V] { return &change[K, V]{Key: k} }

// injection is a packet at a hook.
type injection struct {
	Hook   kernel.Hook
	Slot   int
	VNI    uint32     `json:",omitempty"`
	Remote netip.Addr // IPv4, or invalid: no tunnel key
	Frame  frame
	Wire   bool `json:",omitempty"` // not by a test run: see wire_test.go
	Linear int  `json:",omitempty"` // on the wire: bytes in the first piece; 0: all, if the frame is not huge
	// What the frame was meant to be, for readers.
	Note string `json:",omitempty"`
}

func (i injection) String() string {
	s := fmt.Sprintf("%s slot %d", i.Hook, i.Slot)
	if i.Hook == kernel.FromOverlay {
		s += fmt.Sprintf(" VNI %d from %v", i.VNI, i.Remote)
	}
	if i.onWire() {
		s += fmt.Sprintf(" by wire, %d bytes, %d in one piece", len(i.Frame), i.Linear)
	}
	what := i.Note
	if p, err := packet.Read(i.Frame); err == nil {
		what = p.String()
	}
	return fmt.Sprintf("%s: %s\n        %s", s, what, digits(i.Frame))
}

// digits shows a frame; of a large one its ends.
func digits(b []byte) string {
	const most, head, tail = 2000, 400, 40
	if len(b) <= most {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%x… %d bytes …%x", b[:head], len(b)-head-tail, b[len(b)-tail:])
}

// frame is written in hexadecimal digits.
type frame []byte

func (f frame) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(f)), nil }

func (f *frame) UnmarshalText(text []byte) (err error) {
	*f, err = hex.DecodeString(string(text))
	return err
}

func (o op) String() string {
	switch {
	case o.Endpoint != nil:
		return fmt.Sprint("endpoint ", o.Endpoint)
	case o.Word != nil:
		return fmt.Sprint("ep_policy ", o.Word)
	case o.IPCache != nil:
		return fmt.Sprint("ipcache ", o.IPCache)
	case o.Class != nil:
		return fmt.Sprint("class ", o.Class)
	case o.Policy != nil:
		return fmt.Sprint("policy ", o.Policy)
	case o.Node != nil:
		return fmt.Sprint("node ", o.Node)
	case o.Service != nil:
		return fmt.Sprint("service ", o.Service)
	case o.SlotRow != nil:
		return fmt.Sprint("slot ", o.SlotRow)
	case o.Backend != nil:
		return fmt.Sprint("backend ", o.Backend)
	case o.BumpAddr != nil:
		return fmt.Sprint("bump ", o.BumpAddr)
	case o.BumpAll:
		return "bump everything"
	case o.Flush:
		return "flush the flows"
	case o.Collect:
		return "collect expired flows"
	case o.Advance != 0:
		return fmt.Sprintf("%d seconds pass", o.Advance)
	case o.Packet != nil:
		return o.Packet.String()
	case o.Call != nil:
		return o.Call.String()
	}
	return "nothing"
}

// text numbers the ops from 0, one a line.
func text(ops []op) string {
	var b strings.Builder
	for i, o := range ops {
		fmt.Fprintf(&b, "%4d  %s\n", i, o)
	}
	return b.String()
}

// encode writes ops as a corpus file: remarks after "#", then one op a line.
func encode(remark string, ops []op) ([]byte, error) {
	var b bytes.Buffer
	for line := range strings.Lines(remark) {
		fmt.Fprintf(&b, "# %s\n", strings.TrimRight(line, "\n"))
	}
	for _, o := range ops {
		line, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode %v: %w", o, err)
		}
		b.Write(append(line, '\n'))
	}
	return b.Bytes(), nil
}

func decode(data []byte) ([]op, error) {
	var ops []op
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var o op
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		ops = append(ops, o)
	}
	return ops, lines.Err()
}
