/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* ICMP errors: they pass when they speak of a flow that policy allows. */
#pragma once

#include "read.h"
#include "serve.h"

/* Reads the packet inside an ICMP error into the work's inner. False: it is too short, or a fragment that names no flow. */
static __always_inline bool read_inner(struct __sk_buff *ctx, const struct pkt *p, struct work *w)
{
	struct pkt *in = &w->inner;

	if (p->fragment)
		return false;
	__builtin_memset(in, 0, sizeof(*in));
	in->hook = HOOK_NONE;
	in->inner = 1;
	in->len = p->len;
	in->end = p->end;
	return !read_ip(ctx, true, p->l4_off + ICMP_HLEN, p->family == 4 ? ETH_P_IP : ETH_P_IPV6) && !in->fragment_lost;
}

/*
 * Finds the allowed flow that an ICMP error (see is_icmp_error) speaks of. Goes on if there is none; then the error is
 * judged as a message of its own. p->sender becomes the side opposite to the one that the error is for,
 * whoever reports it, so that delivery finds its way.
 */
static __always_inline struct verdict read_related(struct __sk_buff *ctx, struct pkt *p, struct flow **flow,
						   struct work *w)
{
	struct pkt *in = &w->inner;
	const struct addr *reader = dst_of(p), *inner_src;
	struct flow_side *to;
	struct flow *f;
	__u32 k;

	if (!read_inner(ctx, p, w))
		return go_on();
	k = in->sender & 1;
	inner_src = src_of(in);
	if (!addr_equal(inner_src, reader))
		return go_on();
	if (p->hook == HOOK_FROM_POD && !addr_equal(dst_of(in), src_of(p)))
		return go_on();
	f = find_flow(&in->key);
	if (!f)
		return go_on();
	if (!flow_is_current(f)) {
		in->sender = SENDER_NONE;
		if (decide(true, true))
			return go_on();
		f = &w->flow;
	}
	if (f->flags & FLOW_DENIED)
		return go_on();
	to = side_of(f, k);
	if (p->hook == HOOK_FROM_OVERLAY && to->route != ROUTE_PEER)
		return go_on();
	if (p->hook == HOOK_TO_POD && to->out_ifindex != p->ifindex)
		return go_on();
	p->sender = k ^ 1;
	*flow = f;
	return forward(route_direction(p, to));
}
