package differential_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/fakes/kernel"
	"github.com/weirnet/weir/fakes/packet"
	"github.com/weirnet/weir/ports"
)

// Services that take packets from the network. The programs ask the kernel's routes for the way to backends that the
// tables know no way to; the rig's namespace has one route in each family, for backends at the addresses in routed.
var (
	outsideAddrs = addrs("192.0.2.1", "2001:db8:1::1") // of the node, which clients of backends elsewhere get
	routed       = [2]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("64:ff9b::/96")}
	gateways     = [2]string{"192.0.2.9", "fd00:99::9"}
)

// words are the four words of an address as they lie in the kernel.
func words(a netip.Addr) (out [4]uint32) {
	b := a.As16()
	for i := range out {
		out[i] = native.Uint32(b[4*i:])
	}
	return out
}

// outside tells the fake what the programs are told by constants and routes.
func (r *rig) outside() kernel.Outside {
	return kernel.Outside{
		Outside: ports.Outside{Devices: []uint32{r.ifindex[slotNetwork]}, Addresses: outsideAddrs},
		Route: func(a netip.Addr) uint32 {
			if routed[familyOf(a)].Contains(a) {
				return r.ifindex[slotHost]
			}
			return 0
		},
	}
}

// makeRoutes makes the routes by the device of slotHost. Nothing is sent there: test runs only say what they would do.
func (r *rig) makeRoutes(t *testing.T) {
	t.Helper()
	for _, s := range []string{
		"ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1", "ipv6/conf/lo/disable_ipv6=0", "ipv6/conf/lo/forwarding=1",
		fmt.Sprintf("ipv6/conf/slot%d/accept_dad=0", slotHost), fmt.Sprintf("ipv6/conf/slot%d/addr_gen_mode=1", slotHost),
		fmt.Sprintf("ipv6/conf/slot%d/disable_ipv6=0", slotHost),
	} {
		name, value, _ := strings.Cut(s, "=")
		require.NoError(t, os.WriteFile("/proc/sys/net/"+name, []byte(value), 0), name)
	}
	device := fmt.Sprintf("slot%d", slotHost)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", "192.0.2.10/31", "dev", device}, {"route", "add", routed[0].String(), "via", gateways[0], "dev", device, "onlink"},
		{"addr", "add", "fd00:99::1/64", "dev", device, "nodad"}, {"-6", "route", "add", routed[1].String(), "via", gateways[1], "dev", device},
	} {
		out, err := exec.Command("ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %v: %s", args, out)
	}
}

// rewritten counts frames that were changed behind their Ethernet header.
func (x *tally) rewritten(i *injection, frame []byte) {
	before, _ := i.asSeen()
	const head = packet.EthernetLen
	if len(frame) <= head || len(before) <= head || bytes.Equal(frame[head:], before[head:]) {
		return
	}
	what, note := "packet", lookAt(i)
	for _, shape := range note.shapes {
		switch {
		case strings.Contains(shape, "later fragment"):
			what = "later fragment"
		case strings.Contains(shape, "first fragment"):
			what = "first fragment"
		case strings.Contains(shape, "ICMP error"), strings.Contains(shape, "ICMPv6 error"):
			what = "ICMP error"
		}
	}
	x.counts[fmt.Sprintf("rewritten at %s: %s", i.Hook, what)]++
}

// ageNAT makes all translations of the kernel older.
func (r *rig) ageNAT(d time.Duration) error {
	var key, value []byte
	rows := map[string][]byte{}
	it := r.nat.Iterate()
	for it.Next(&key, &value) {
		rows[string(key)] = append([]byte{}, value...)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read nat: %w", err)
	}
	for key, value := range rows {
		at := value[r.ends:]
		before := native.Uint64(at)
		native.PutUint64(at, before-min(before, uint64(d)))
		if err := r.nat.Put([]byte(key), value); err != nil {
			return fmt.Errorf("change nat: %w", err)
		}
	}
	return nil
}

// compareNAT is about a sequence that began at start.
func (r *rig) compareNAT(k *kernel.Kernel, start time.Time, seen *tally) (string, error) {
	rows, err := r.real.Translations()
	if err != nil {
		return "", err
	}
	fakes, err := k.Translations()
	if err != nil {
		return "", err
	}
	real := map[datapath.Tuple]datapath.Translation{}
	for _, x := range rows {
		real[x.From] = x
	}
	var b strings.Builder
	for _, f := range fakes {
		g, ok := real[f.From]
		if !ok {
			fmt.Fprintf(&b, "translation\n  only in the fake %+v\n", f)
			continue
		}
		delete(real, f.From)
		if g.Expires > 0 {
			seen.counts[fmt.Sprintf("translation, %s, reply %v, state %d, here %v", datapath.ProtoName(g.From.Proto), g.Reply, g.State, g.Here)]++
		}
		late := f.Expires - g.Expires // time went on in the kernel
		if f.Expires <= 0 && g.Expires <= 0 {
			late = 0
		}
		f.Expires, g.Expires = 0, 0
		if f != g {
			fmt.Fprintf(&b, "translation\n  kernel %+v\n  fake   %+v\n", g, f)
		}
		if late < -50*time.Millisecond || late > time.Since(start)+50*time.Millisecond {
			fmt.Fprintf(&b, "translation %+v\n  expires in the kernel %v earlier than in the fake\n", f, late)
		}
	}
	for _, x := range real {
		fmt.Fprintf(&b, "translation\n  only in the kernel %+v\n", x)
	}
	return b.String(), nil
}
