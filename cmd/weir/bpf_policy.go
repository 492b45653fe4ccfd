package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/ports"
)

func newBPFPolicyGetCommand(g *globals) *cobra.Command {
	var all, numeric bool
	c := &cobra.Command{
		Use:     "get [ID|NAMESPACE/POD]",
		Aliases: []string{"list"},
		Short:   "Show the policy rows that the kernel judges an endpoint by",
		Long: `Show the policy rows that the kernel judges an endpoint by, each with the rule it comes from; without
an endpoint, those of all endpoints of the node.

The kernel holds rows for classes of peers; here every peer of a class has its own line, and ANY is
every peer that no longer line covers. Of several lines that cover a packet, one that names the peer
counts before ANY, and then the one with the longest PREFIX: the number of bits of protocol (8) and
port (16) that must be equal. The kernel does not count packets by row.`,
		Example: `  weir bpf policy get shop/backend-1
  weir bpf policy get 12 -n
  weir bpf policy get --all -o json`,
		Args: args(cobra.MaximumNArgs(1)),
	}
	c.Flags().BoolVar(&all, "all", false, "show every endpoint of the node")
	c.Flags().BoolVarP(&numeric, "numeric", "n", false, "show identities as numbers instead of labels")
	out := outputFlag(c, "json")
	c.RunE = func(c *cobra.Command, a []string) error {
		if all && len(a) == 1 {
			return usagef("an endpoint and --all exclude each other")
		}
		all := len(a) == 0
		agent := g.agent()
		eps, err := agent.Endpoints(c.Context())
		if err != nil {
			return err
		}
		if !all {
			want, err := parseEndpointArg(a[0])
			if err != nil {
				return err
			}
			e, err := want.find(eps)
			if err != nil {
				return err
			}
			eps = []ports.EndpointInfo{e}
		}
		sort.Slice(eps, func(i, j int) bool { return eps[i].ID < eps[j].ID })
		v, err := newPolicyView(c.Context(), agent)
		if err != nil {
			return err
		}
		list := make([]endpointPolicy, 0, len(eps))
		for _, e := range eps {
			p, err := v.endpoint(c.Context(), e)
			if err != nil {
				return err
			}
			list = append(list, p)
		}
		if out.json() {
			if all {
				return printJSON(g.out, list)
			}
			return printJSON(g.out, list[0])
		}
		for i, p := range list {
			if all {
				if i > 0 {
					fmt.Fprintln(g.out)
				}
				fmt.Fprintf(g.out, "Endpoint ID: %d\nPod: %s\nPolicy ID: %s\n", p.Endpoint, p.Pod, policyIDText(p.PolicyID))
			}
			if err := writePolicyRows(g.out, p.Rows, numeric); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// endpointPolicy is what the kernel judges one endpoint by.
type endpointPolicy struct {
	Endpoint datapath.EndpointID `json:"endpoint"`
	Pod      string              `json:"pod"`
	PolicyID datapath.PolicyID   `json:"policyID"` // 0: no policy in force, nothing passes
	Rows     []policyRow         `json:"rows"`
}

type policyRow struct {
	Policy    string   `json:"policy"`
	Direction string   `json:"direction"`
	Identity  *uint32  `json:"identity,omitempty"` // absent: any peer
	Labels    []string `json:"labels,omitempty"`
	Class     uint32   `json:"class"`
	PortProto string   `json:"portProto"`
	ProxyPort uint16   `json:"proxyPort,omitempty"`
	Prefix    uint8    `json:"prefix"`
	Rule      string   `json:"rule"`
	cookie    datapath.Cookie
}

// policyView joins the kernel's tables with the names of what they hold.
type policyView struct {
	agent   ports.Inspector
	word    map[datapath.EndpointID]datapath.EndpointPolicy
	rows    map[datapath.PolicyID][]ports.Row[datapath.PolicyKey, datapath.PolicyRow]
	members map[uint8]map[datapath.Class][]identity.ID // by generation
	labels  map[identity.ID][]string
	rules   map[datapath.Cookie]string
}

func newPolicyView(ctx context.Context, agent ports.Inspector) (*policyView, error) {
	d, err := agent.Tables(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := agent.Identities(ctx)
	if err != nil {
		return nil, err
	}
	v := &policyView{
		agent: agent, word: map[datapath.EndpointID]datapath.EndpointPolicy{},
		rows:    map[datapath.PolicyID][]ports.Row[datapath.PolicyKey, datapath.PolicyRow]{},
		members: map[uint8]map[datapath.Class][]identity.ID{},
		labels:  map[identity.ID][]string{}, rules: map[datapath.Cookie]string{},
	}
	for _, r := range d.EndpointPolicy {
		v.word[r.Key] = r.Value
	}
	for _, r := range d.Policy {
		v.rows[r.Key.Policy] = append(v.rows[r.Key.Policy], r)
	}
	for _, r := range d.Classes {
		gen := v.members[r.Key.Generation]
		if gen == nil {
			gen = map[datapath.Class][]identity.ID{}
			v.members[r.Key.Generation] = gen
		}
		gen[r.Value] = append(gen[r.Value], r.Key.Identity)
	}
	for _, i := range ids {
		v.labels[i.ID] = i.Labels
	}
	return v, nil
}

// endpoint lists the rows in force for an endpoint, one for each peer.
func (v *policyView) endpoint(ctx context.Context, e ports.EndpointInfo) (endpointPolicy, error) {
	id := v.word[e.ID].Policy
	out := endpointPolicy{Endpoint: e.ID, Pod: e.Pod.String(), PolicyID: id, Rows: []policyRow{}}
	for _, r := range v.rows[id] {
		rule, err := v.rule(ctx, r.Value)
		if err != nil {
			return out, err
		}
		row := policyRow{
			Policy: "Deny", Direction: "Ingress", Class: uint32(r.Key.Class), PortProto: portProto(r.Key),
			ProxyPort: r.Value.ProxyPort, Rule: rule, cookie: r.Value.Cookie,
		}
		if r.Value.Allow {
			row.Policy = "Allow"
		}
		if r.Key.Direction == datapath.Egress {
			row.Direction = "Egress"
		}
		if !r.Key.AnyProto {
			row.Prefix = 8 + r.Key.PortBits
		}
		if r.Key.Class == 0 {
			out.Rows = append(out.Rows, row)
			continue
		}
		for _, peer := range v.members[id.Generation()][r.Key.Class] {
			one, n := row, uint32(peer)
			one.Identity, one.Labels = &n, v.labels[peer]
			out.Rows = append(out.Rows, one)
		}
	}
	sort.SliceStable(out.Rows, func(i, j int) bool { return out.Rows[i].before(out.Rows[j]) })
	return out, nil
}

// before orders rows for reading: ingress first, named peers by number and then ANY, the most
// specific ports first.
func (r policyRow) before(o policyRow) bool {
	switch {
	case r.Direction != o.Direction:
		return r.Direction == "Ingress"
	case (r.Identity == nil) != (o.Identity == nil):
		return r.Identity != nil
	case r.Identity != nil && *r.Identity != *o.Identity:
		return *r.Identity < *o.Identity
	case r.Prefix != o.Prefix:
		return r.Prefix > o.Prefix
	}
	return r.PortProto < o.PortProto
}

// rule names the rule of a row.
func (v *policyView) rule(ctx context.Context, r datapath.PolicyRow) (string, error) {
	if text, ok := v.rules[r.Cookie]; ok {
		return text, nil
	}
	verdict, err := v.agent.Rule(ctx, r.Cookie)
	text := verdict.String()
	switch {
	case errors.Is(err, ports.ErrNotFound) && r.Cookie == 0:
		text = map[bool]string{true: "no policy", false: "no rule"}[r.Allow]
	case errors.Is(err, ports.ErrNotFound):
		text = fmt.Sprintf("rule %d, no longer in force", r.Cookie)
	case err != nil:
		return "", err
	}
	v.rules[r.Cookie] = text
	return text, nil
}

// portProto writes the ports of a row: 80/TCP, 8080-8087/TCP, ANY/UDP, 8/ICMPv4 (a message type), or
// ANY for all protocols.
func portProto(k datapath.PolicyKey) string {
	if k.AnyProto {
		return "ANY"
	}
	first, last := k.Port, k.Port|uint16(1<<(16-uint(k.PortBits))-1)
	ports := fmt.Sprint(first)
	switch {
	case k.PortBits == 0:
		ports = "ANY"
	case k.PortBits < 16:
		ports = fmt.Sprintf("%d-%d", first, last)
	}
	return ports + "/" + datapath.ProtoName(k.Proto)
}

func writePolicyRows(w io.Writer, rows []policyRow, numeric bool) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "Policy stats empty. Perhaps the policy enforcement is disabled?")
		return err
	}
	peers := "LABELS (source:key[=value])"
	if numeric {
		peers = "IDENTITY"
	}
	t := newTable(w, "POLICY", "DIRECTION", peers, "PORT/PROTO", "PROXY PORT", "AUTH TYPE", "BYTES", "PACKETS", "PREFIX", "RULE")
	for _, r := range rows {
		lines := []string{"ANY"}
		switch {
		case r.Identity != nil && (numeric || len(r.Labels) == 0):
			lines = []string{fmt.Sprint(*r.Identity)}
		case r.Identity != nil:
			lines = r.Labels
		case numeric:
			lines = []string{"0"}
		}
		proxy := "NONE"
		if r.ProxyPort != 0 {
			proxy = fmt.Sprint(r.ProxyPort)
		}
		t.row(r.Policy, r.Direction, lines[0], r.PortProto, proxy, "disabled", "-", "-", fmt.Sprint(r.Prefix), r.Rule)
		for _, l := range lines[1:] {
			t.row("", "", l)
		}
	}
	return t.flush()
}
