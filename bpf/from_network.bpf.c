//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * TC ingress of the device to other nodes. A shortcut only: a packet, or what the tunnel carries, of a flow whose entry
 * leads to a pod goes straight there, and so does the first packet of a flow that a neighbour's pod opens to one. All
 * others go on to the stack, which routes what is for pods to to_pod, or hands it to the overlay device.
 */
#include "lib/fast.h"
#include "lib/finish.h"
#include "lib/license.h"

/* Judges the work's packet, which no flow entry knows. What to_pod would drop is left to it. */
static __always_inline int open_flow(struct __sk_buff *ctx)
{
	struct work *w = get_work();
	struct flow *f = NULL;
	struct verdict v;

	if (!w || !is_pod(get_endpoint(dst_of(&w->pkt))))
		return LEAVE;
	v = judge_packet(&w->pkt, &f, w);
	return v.action == FORWARD ? finish(ctx, &w->pkt, f, v) : LEAVE;
}

static __always_inline int go_direct(struct __sk_buff *ctx)
{
	int code = go_fast(ctx, HOOK_FROM_NETWORK);

	return code == OPEN ? open_flow(ctx) : code;
}

SEC("tc")
int from_network(struct __sk_buff *ctx)
{
	int code = LEAVE;

	if (ctx->pkt_type == PACKET_HOST)
		code = direct_ifindex ? go_direct(ctx) : go_through(ctx);
	return code == LEAVE ? TC_ACT_UNSPEC : code;
}
