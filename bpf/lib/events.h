/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the programs tell the agent. */
#pragma once

#include "../maps/events.h"
#include "../maps/flows.h"
#include "../maps/work.h"
#include "config.h"
#include "packet.h"
#include "verdict.h"

static __always_inline enum point hook_point(__u8 hook)
{
	if (hook == HOOK_FROM_POD)
		return POINT_FROM_ENDPOINT;
	if (hook == HOOK_FROM_NETWORK)
		return POINT_FROM_NETWORK;
	if (hook == HOOK_TO_NETWORK)
		return POINT_TO_NETWORK;
	return hook == HOOK_FROM_OVERLAY ? POINT_FROM_OVERLAY : POINT_FROM_STACK;
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP;
}

/* What the flow entry adds to an event. */
static __always_inline void describe_flow(struct event *e, const struct pkt *p, struct flow *f)
{
	struct flow_side *src = side_of(f, p->sender), *dst = side_of(f, p->sender ^ 1);
	struct flow_side *initiator = side_of(f, f->initiator), *other = side_of(f, f->initiator ^ 1);

	e->src_identity = src->identity;
	e->dst_identity = dst->identity;
	e->src_endpoint = src->endpoint;
	e->dst_endpoint = dst->endpoint;
	e->egress_cookie = f->egress_cookie;
	e->ingress_cookie = f->ingress_cookie;
	e->egress_judged = !!(f->flags & FLOW_EGRESS_JUDGED);
	e->ingress_judged = !!(f->flags & FLOW_INGRESS_JUDGED);
	e->reply = (p->sender & 1) != (f->initiator & 1);
	if (e->type == EVENT_CLOSE) {
		e->packets[0] = initiator->packets;
		e->packets[1] = other->packets;
		e->bytes[0] = initiator->bytes;
		e->bytes[1] = other->bytes;
	}
}

/* Writes one event about the packet at work. An event that does not fit is counted. */
__noinline int emit(__u32 type, __u32 point, __u32 reason, __u32 direction)
{
	struct work *w = get_work();
	struct flow *f = NULL;
	struct event *e;
	struct pkt *p;

	if (!w)
		return 0;
	e = bpf_ringbuf_reserve(&events_v1, sizeof(*e), 0);
	if (!e) {
		__u32 zero = 0;
		__u64 *lost = bpf_map_lookup_elem(&lost_v1, &zero);

		if (lost)
			__sync_fetch_and_add(lost, 1);
		return 0;
	}
	p = &w->pkt;
	if (p->about == ABOUT_WORK)
		f = &w->flow;
	else if (p->about == ABOUT_ENTRY)
		f = bpf_map_lookup_elem(&flows_v1, &p->key);
	__builtin_memset(e, 0, sizeof(*e));
	e->timestamp_ns = bpf_ktime_get_boot_ns();
	e->type = type;
	e->point = point;
	e->reason = reason;
	e->direction = direction;
	e->ifindex = p->ifindex;
	e->length = p->len;
	e->family = p->family;
	if (p->family) {
		e->src = *src_of(p);
		e->dst = *dst_of(p);
		e->proto = p->key.proto;
		e->tcp_flags = p->tcp_flags;
		e->icmp_type = p->icmp_type;
		e->icmp_code = p->icmp_code;
		if (has_ports(p->key.proto)) {
			e->src_port = p->sender ? p->key.port[1] : p->key.port[0];
			e->dst_port = p->sender ? p->key.port[0] : p->key.port[1];
		}
		if (f)
			describe_flow(e, p, f);
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline void emit_drop(struct pkt *p, struct verdict v)
{
	emit(EVENT_DROP, hook_point(p->hook), v.reason, v.direction);
}

/* Whether packets to a side are left to the kernel's routes. */
static __always_inline bool takes_stack(const struct flow_side *to)
{
	return to->route == ROUTE_STACK || (to->route == ROUTE_DIRECT && !direct_ifindex);
}

/* EVENT_NEW and EVENT_CLOSE: the packet goes on to the other side. */
static __always_inline void emit_flow(struct pkt *p, struct flow *f, enum event_type type)
{
	struct flow_side *to = side_of(f, p->sender ^ 1);
	enum point point = to->route == ROUTE_PEER     ? POINT_TO_ENDPOINT
			   : to->route == ROUTE_TUNNEL ? POINT_TO_OVERLAY
			   : takes_stack(to) && !(f->flags & FLOW_TRANSLATED) ? POINT_TO_STACK
						       : POINT_TO_NETWORK;

	emit(type, point, REASON_NONE, f->flags & FLOW_INGRESS_JUDGED ? INGRESS : EGRESS);
}
