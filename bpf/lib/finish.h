/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The one exit of every TC program: carry the verdict out, count it, report a drop. */
#pragma once

#include "../maps/counters.h"
#include "events.h"
#include "tunnel.h"
#include "verdict.h"

/* Sends the packet where the receiving side of its flow lives. May turn into a drop. */
static __always_inline int deliver(struct __sk_buff *ctx, struct pkt *p, struct flow *f, struct verdict *v)
{
	struct flow_side *to = side_of(f, p->sender ^ 1);

	if (p->hook == HOOK_TO_POD)
		return TC_ACT_OK;
	if (to->route == ROUTE_PEER) {
		bpf_skb_store_bytes(ctx, 0, to->dst_mac, 12, 0);
		if (ctx->pkt_type != PACKET_HOST)
			bpf_skb_change_type(ctx, PACKET_HOST);
		return bpf_redirect_peer(to->out_ifindex, 0);
	}
	if (to->route == ROUTE_TUNNEL) {
		v->reason = set_tunnel(ctx, p->identity, &to->tunnel);
		if (!v->reason)
			return bpf_redirect(overlay_ifindex, 0);
		v->action = DROP;
		return TC_ACT_SHOT;
	}
	if (to->route == ROUTE_DIRECT)
		return send_direct(&to->tunnel);
	return TC_ACT_OK;
}

/* f is the flow entry, for FORWARD. */
static __always_inline int finish(struct __sk_buff *ctx, struct pkt *p, struct flow *f, struct verdict v)
{
	int code = TC_ACT_SHOT;

	switch (v.action) {
	case PASS:
		code = TC_ACT_OK;
		if (p->hook == HOOK_FROM_OVERLAY && ctx->pkt_type != PACKET_HOST)
			bpf_skb_change_type(ctx, PACKET_HOST);
		break;
	case FORWARD:
		if (f)
			code = deliver(ctx, p, f, &v);
		break;
	case TUNNEL:
		code = bpf_redirect(overlay_ifindex, 0);
		break;
	}
	count_packet(v.reason, v.direction, p->len);
	if (v.action == DROP)
		emit_drop(p, v);
	return code;
}
