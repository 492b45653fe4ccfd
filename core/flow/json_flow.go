package flow

import (
	"net/netip"
	"strings"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/policy"
)

// Event types of Hubble's CiliumEventType.
const (
	eventTypeDrop  = 1
	eventTypeTrace = 4
)

// Trace reasons of Hubble that this package writes: the first packet of a flow, and any other.
const (
	traceNew         = "NEW"
	traceEstablished = "ESTABLISHED"
	traceReply       = "REPLY"
)

type flowJSON struct {
	Time        string        `json:"time,omitempty"`
	UUID        string        `json:"uuid,omitempty"`
	Verdict     string        `json:"verdict,omitempty"`
	DropReason  uint32        `json:"drop_reason,omitempty"`
	IP          *ipJSON       `json:"IP,omitempty"`
	L4          *l4JSON       `json:"l4,omitempty"`
	Source      *endpointJSON `json:"source,omitempty"`
	Destination *endpointJSON `json:"destination,omitempty"`
	Type        string        `json:"Type,omitempty"`
	NodeName    string        `json:"node_name,omitempty"`
	IsReply     *bool         `json:"is_reply,omitempty"`
	EventType   *eventJSON    `json:"event_type,omitempty"`
	SourceSvc   *serviceJSON  `json:"source_service,omitempty"`
	DestSvc     *serviceJSON  `json:"destination_service,omitempty"`
	Direction   string        `json:"traffic_direction,omitempty"`
	Point       string        `json:"trace_observation_point,omitempty"`
	TraceReason string        `json:"trace_reason,omitempty"`
	DropDesc    string        `json:"drop_reason_desc,omitempty"`
	Interface   *ifaceJSON    `json:"interface,omitempty"`
	EgressOK    []policyJSON  `json:"egress_allowed_by,omitempty"`
	IngressOK   []policyJSON  `json:"ingress_allowed_by,omitempty"`
	EgressNo    []policyJSON  `json:"egress_denied_by,omitempty"`
	IngressNo   []policyJSON  `json:"ingress_denied_by,omitempty"`
	PolicyLog   []string      `json:"policy_log,omitempty"`
	Summary     string        `json:"Summary,omitempty"`
}

type ipJSON struct {
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Version     string `json:"ipVersion,omitempty"`
}

type l4JSON struct {
	TCP    *tcpJSON   `json:"TCP,omitempty"`
	UDP    *portsJSON `json:"UDP,omitempty"`
	ICMPv4 *icmpJSON  `json:"ICMPv4,omitempty"`
	ICMPv6 *icmpJSON  `json:"ICMPv6,omitempty"`
	SCTP   *portsJSON `json:"SCTP,omitempty"`
}

type portsJSON struct {
	Source      uint16 `json:"source_port,omitempty"`
	Destination uint16 `json:"destination_port,omitempty"`
}

type tcpJSON struct {
	portsJSON
	Flags map[string]bool `json:"flags,omitempty"`
}

type icmpJSON struct {
	Type uint8 `json:"type,omitempty"`
	Code uint8 `json:"code,omitempty"`
}

type endpointJSON struct {
	ID        uint32   `json:"ID,omitempty"`
	Identity  uint32   `json:"identity,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Labels    []string `json:"labels,omitempty"`
	Pod       string   `json:"pod_name,omitempty"`
}

type eventJSON struct {
	Type int32 `json:"type,omitempty"`
	Sub  int32 `json:"sub_type,omitempty"`
}

type serviceJSON struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

type ifaceJSON struct {
	Index uint32 `json:"index,omitempty"`
}

// policyJSON is Hubble's Policy. The label ruleLabel says which rule of the policy decided; a policy
// without it isolates the pod, and no rule of any policy allowed the packet.
type policyJSON struct {
	Name      string   `json:"name,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Labels    []string `json:"labels,omitempty"`
	Kind      string   `json:"kind,omitempty"`
}

const ruleLabel = "weir:rule="

func flowToJSON(f *Flow) flowJSON {
	e := f.Event
	j := flowJSON{
		Time: timestamp(f.Time), UUID: f.UUID, NodeName: f.Node, Type: "L3_L4",
		IP: ipToJSON(e), L4: l4ToJSON(e), Source: endpointToJSON(f.Source), Destination: endpointToJSON(f.Dest),
		SourceSvc: serviceToJSON(f.SourceSvc), DestSvc: serviceToJSON(f.DestSvc),
		Direction: DirectionName(e.Direction), Summary: Summary(e),
	}
	if f.Verdict != VerdictUnknown {
		j.Verdict = f.Verdict.String()
	}
	if e.Point != datapath.PointUnknown {
		j.Point = PointName(e.Point)
	}
	if e.Type == datapath.EventDrop {
		j.DropReason, j.DropDesc = uint32(e.Reason), ReasonName(e.Reason)
		j.EventType = &eventJSON{Type: eventTypeDrop, Sub: int32(e.Reason)}
	} else {
		j.EventType = &eventJSON{Type: eventTypeTrace, Sub: int32(e.Point)}
		j.TraceReason = traceReason(e)
	}
	if f.ReplyKnown() {
		reply := e.Reply
		j.IsReply = &reply
	}
	if e.Ifindex != 0 {
		j.Interface = &ifaceJSON{e.Ifindex}
	}
	j.EgressOK, j.EgressNo, j.PolicyLog = verdictToJSON(f.Egress, j.PolicyLog)
	j.IngressOK, j.IngressNo, j.PolicyLog = verdictToJSON(f.Ingress, j.PolicyLog)
	return j
}

// ReplyKnown says whether the flow's Reply means something: a packet that was dropped without ever
// having been part of a flow runs in neither direction of one.
func (f *Flow) ReplyKnown() bool { return f.Event.Type != datapath.EventDrop || f.Event.Reply }

func traceReason(e datapath.Event) string {
	switch {
	case e.Type == datapath.EventNew:
		return traceNew
	case e.Reply:
		return traceReply
	}
	return traceEstablished
}

func ipToJSON(e datapath.Event) *ipJSON {
	if !e.Src.Addr().IsValid() || !e.Dst.Addr().IsValid() {
		return nil
	}
	v := "IPv6"
	if e.Src.Addr().Unmap().Is4() {
		v = "IPv4"
	}
	return &ipJSON{Source: e.Src.Addr().Unmap().String(), Destination: e.Dst.Addr().Unmap().String(), Version: v}
}

func l4ToJSON(e datapath.Event) *l4JSON {
	ports := portsJSON{Source: e.Src.Port(), Destination: e.Dst.Port()}
	switch e.Proto {
	case datapath.ProtoTCP:
		t := &tcpJSON{portsJSON: ports, Flags: map[string]bool{}}
		for _, f := range tcpFlagNames {
			if e.TCPFlags&f.bit != 0 {
				t.Flags[f.name] = true
			}
		}
		return &l4JSON{TCP: t}
	case datapath.ProtoUDP:
		return &l4JSON{UDP: &ports}
	case datapath.ProtoSCTP:
		return &l4JSON{SCTP: &ports}
	case datapath.ProtoICMP:
		return &l4JSON{ICMPv4: &icmpJSON{e.ICMPType, e.ICMPCode}}
	case datapath.ProtoICMPv6:
		return &l4JSON{ICMPv6: &icmpJSON{e.ICMPType, e.ICMPCode}}
	}
	return nil
}

func endpointToJSON(e Endpoint) *endpointJSON {
	return &endpointJSON{e.ID, uint32(e.Identity), e.Namespace, e.Labels, e.Pod}
}

func serviceToJSON(s *Service) *serviceJSON {
	if s == nil {
		return nil
	}
	return &serviceJSON{s.Name, s.Namespace}
}

func verdictToJSON(v *policy.Verdict, log []string) (allowed, denied []policyJSON, _ []string) {
	switch {
	case v == nil:
	case v.Rule.Path != "":
		p := []policyJSON{policyToJSON(v.Rule.Policy, v.Rule.Path)}
		if v.Allowed {
			return p, nil, log
		}
		return nil, p, log
	case !v.Allowed:
		for _, r := range v.Isolating {
			denied = append(denied, policyToJSON(r, ""))
		}
	case v.Note != "":
		log = append(log, v.Note)
	}
	return nil, denied, log
}

func policyToJSON(r policy.Ref, path string) policyJSON {
	p := policyJSON{Name: r.Name, Namespace: r.Namespace, Kind: r.Kind}
	if path != "" {
		p.Labels = []string{ruleLabel + path}
	}
	return p
}

func flowFromJSON(j *flowJSON) (*Flow, error) {
	if j.Type != "" && j.Type != "L3_L4" || j.IP == nil {
		return nil, ErrNotRecorded
	}
	f := &Flow{UUID: j.UUID, Node: j.NodeName, Source: j.Source.endpoint(), Dest: j.Destination.endpoint(),
		SourceSvc: j.SourceSvc.service(), DestSvc: j.DestSvc.service()}
	var err error
	if f.Time, err = parseTime("time", j.Time); err != nil {
		return nil, err
	}
	f.Event.Time = f.Time
	if j.Verdict != "" && j.Verdict != VerdictUnknown.String() {
		if f.Verdict, err = ParseVerdict(j.Verdict); err != nil {
			return nil, err
		}
	}
	if err := j.addresses(&f.Event); err != nil {
		return nil, err
	}
	j.event(&f.Event)
	f.Event.SrcIdentity, f.Event.DstIdentity = f.Source.Identity, f.Dest.Identity
	f.Event.SrcEndpoint, f.Event.DstEndpoint = datapath.EndpointID(f.Source.ID), datapath.EndpointID(f.Dest.ID)
	f.Egress = verdictFromJSON(datapath.Egress, j.EgressOK, j.EgressNo)
	f.Ingress = verdictFromJSON(datapath.Ingress, j.IngressOK, j.IngressNo)
	for _, note := range j.PolicyLog {
		if note == policy.NoteLocalHost && f.Ingress == nil {
			f.Ingress = &policy.Verdict{Allowed: true, Note: note}
		}
	}
	f.Event.EgressJudged, f.Event.IngressJudged = f.Egress != nil, f.Ingress != nil
	return f, nil
}

func (j *endpointJSON) endpoint() Endpoint {
	if j == nil {
		return Endpoint{}
	}
	return Endpoint{j.ID, identity.ID(j.Identity), j.Namespace, j.Pod, j.Labels}
}

func (j *serviceJSON) service() *Service {
	if j == nil {
		return nil
	}
	return &Service{j.Name, j.Namespace}
}

func (j *flowJSON) addresses(e *datapath.Event) error {
	src, err := netip.ParseAddr(j.IP.Source)
	if err != nil {
		return &ValueError{Field: "IP.source", Value: j.IP.Source, Allowed: []string{"an IP address"}}
	}
	dst, err := netip.ParseAddr(j.IP.Destination)
	if err != nil {
		return &ValueError{Field: "IP.destination", Value: j.IP.Destination, Allowed: []string{"an IP address"}}
	}
	var ports portsJSON
	if l := j.L4; l != nil {
		switch {
		case l.TCP != nil:
			e.Proto, ports = datapath.ProtoTCP, l.TCP.portsJSON
			for _, f := range tcpFlagNames {
				if l.TCP.Flags[f.name] {
					e.TCPFlags |= f.bit
				}
			}
		case l.UDP != nil:
			e.Proto, ports = datapath.ProtoUDP, *l.UDP
		case l.SCTP != nil:
			e.Proto, ports = datapath.ProtoSCTP, *l.SCTP
		case l.ICMPv4 != nil:
			e.Proto, e.ICMPType, e.ICMPCode = datapath.ProtoICMP, l.ICMPv4.Type, l.ICMPv4.Code
		case l.ICMPv6 != nil:
			e.Proto, e.ICMPType, e.ICMPCode = datapath.ProtoICMPv6, l.ICMPv6.Type, l.ICMPv6.Code
		}
	}
	e.Src, e.Dst = netip.AddrPortFrom(src, ports.Source), netip.AddrPortFrom(dst, ports.Destination)
	return nil
}

// event fills what kind of event it was.
func (j *flowJSON) event(e *datapath.Event) {
	e.Type = datapath.EventNew
	if j.EventType != nil && j.EventType.Type == eventTypeDrop {
		e.Type, e.Reason = datapath.EventDrop, datapath.Reason(j.DropReason)
		if r, err := ParseReason(j.DropDesc); err == nil {
			e.Reason = r
		}
	}
	e.Point = parsePoint(j.Point)
	if j.Direction == DirectionName(datapath.Egress) {
		e.Direction = datapath.Egress
	}
	if j.IsReply != nil {
		e.Reply = *j.IsReply
	}
	if j.Interface != nil {
		e.Ifindex = j.Interface.Index
	}
	if e.Type != datapath.EventDrop {
		parseSummary(j.Summary, e)
	}
}

func verdictFromJSON(dir datapath.Direction, allowed, denied []policyJSON) *policy.Verdict {
	if len(allowed) == 0 && len(denied) == 0 {
		return nil
	}
	v := &policy.Verdict{Allowed: len(denied) == 0}
	for _, p := range append(append([]policyJSON(nil), denied...), allowed...) {
		ref := policy.Ref{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}
		path := ""
		for _, l := range p.Labels {
			if s, ok := strings.CutPrefix(l, ruleLabel); ok {
				path = s
			}
		}
		switch {
		case path == "" && !v.Allowed:
			v.Isolating = append(v.Isolating, ref)
		case v.Rule.Policy.Name == "":
			// What others wrote names the policy but not the rule.
			if path == "" {
				path = "rule not recorded"
			}
			v.Rule = policy.RuleRef{Policy: ref, Direction: dir, Path: path}
		}
	}
	return v
}
