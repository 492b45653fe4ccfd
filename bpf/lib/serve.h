/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* From a packet that may use its flow entry to a verdict: the fast path, and the door to the slow one. */
#pragma once

#include "../maps/work.h"
#include "decide.h"
#include "frag.h"
#include "verdict.h"

/* Whether what the side's tables said when the flow was judged is what they say now. */
static __always_inline bool side_is_current(const struct flow_side *s)
{
	if (s->way == WAY_POD)
		return s->epoch == get_ep_policy(s->endpoint).epoch;
	return s->epoch == get_addr_epoch(s->bucket);
}

static __always_inline bool flow_is_current(const struct flow *f)
{
	return f->epoch == get_epoch() && side_is_current(&f->side[0]) && side_is_current(&f->side[1]);
}

/* The live entry of a flow, or NULL: an expired one counts as absent. */
static __always_inline struct flow *find_flow(const struct flow_key *key)
{
	struct flow *f = bpf_map_lookup_elem(&flows_v1, key);
	return f && f->expires_ns > now_ns() ? f : NULL;
}

/* The same for a packet of the flow. */
static __always_inline struct flow *find_flow_of(const struct pkt *p)
{
	struct flow *f = bpf_map_lookup_elem(&flows_v1, &p->key);
	return f && flow_is_live(f, p->sender) ? f : NULL;
}

/* The direction that a packet to this side counts for. */
static __always_inline enum direction route_direction(const struct pkt *p, const struct flow_side *to)
{
	return p->hook == HOOK_TO_POD || to->route == ROUTE_PEER ? INGRESS : EGRESS;
}

enum usage {
	SERVE = 0,    /* forward as recorded */
	JUDGE = 1,    /* as if there were no entry */
	RENEW = 2,    /* judge again in the entry's orientation */
	REFUSE = 3,   /* denied, with the recorded reason */
};

/* What the entry means for the packet. */
static __always_inline enum usage flow_usage(const struct pkt *p, struct flow *f)
{
	struct flow_side *from = side_of(f, p->sender), *to = side_of(f, p->sender ^ 1);
	bool entered = from->ifindex == p->entered;

	if (f->state == FLOW_TCP_CLOSING && is_opening(p))
		return JUDGE;
	if (p->sender != f->initiator && is_icmp_asking(p))
		return JUDGE;
	if (!flow_is_current(f))
		return RENEW;
	if (f->flags & FLOW_DENIED)
		return is_opening(p) && entered ? JUDGE : REFUSE;
	if (!entered)
		/* What comes from elsewhere is not the pod: it has no say in the pod's flow. */
		return p->hook != HOOK_FROM_POD && from->way == WAY_POD ? JUDGE : RENEW;
	if (p->hook == HOOK_FROM_OVERLAY && from->vni != p->vni)
		return RENEW;
	if (p->hook == HOOK_TO_POD && to->out_ifindex != p->ifindex)
		return RENEW;
	if (p->hook == HOOK_FROM_OVERLAY && to->route != ROUTE_PEER)
		return RENEW;
	/* Only between pods of neighbours: nothing on the wire is this node's own. */
	if (p->hook == HOOK_FROM_NETWORK && (to->route != ROUTE_PEER || from->route != ROUTE_DIRECT))
		return RENEW;
	return SERVE;
}

/*
 * The verdict on a packet by its flow. *flow is what find_flow gave; it becomes the entry to deliver by.
 */
static __always_inline struct verdict judge_packet(struct pkt *p, struct flow **flow, struct work *w)
{
	struct flow *f = *flow;
	enum usage use = f ? flow_usage(p, f) : JUDGE;
	int r;

	p->about = ABOUT_ENTRY;
	if (use == REFUSE)
		return drop(f->reason, f->direction);
	if (use == SERVE) {
		if (flow_note(f, p->sender, p->len, p->tcp_flags))
			emit_flow(p, f, EVENT_CLOSE);
	} else {
		p->about = ABOUT_WORK;
		r = decide(false, use == RENEW);
		*flow = f = &w->flow;
		if (r)
			return drop(r, f->direction);
	}
	note_frag(p);
	p->identity = side_of(f, p->sender)->identity;
	return forward(route_direction(p, side_of(f, p->sender ^ 1)));
}
