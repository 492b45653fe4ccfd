//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * TC ingress of the node's devices. On the one to other nodes it is a shortcut: a packet, or what the tunnel carries, of a flow
 * whose entry leads to a pod goes straight there, and so does the first packet of a flow that a neighbour's pod opens to one.
 * On all, packets for services get their backend, and answers of backends elsewhere go back to the clients. All others go
 * on to the stack, which routes what is for pods to to_pod, or hands it to the overlay device.
 */
#include "lib/fast.h"
#include "lib/finish.h"
#include "lib/license.h"
#include "lib/outside.h"

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

/* The shortcuts of the devices that lead to other nodes. */
static __always_inline int go_short(struct __sk_buff *ctx)
{
	int code = LEAVE;

	if (direct_ifindex) {
		if (ctx->ifindex == direct_ifindex)
			code = go_fast(ctx, HOOK_FROM_NETWORK);
		return code == OPEN ? open_flow(ctx) : code;
	}
	return ctx->ifindex == underlay_ifindex ? go_through(ctx) : LEAVE;
}

/* Services: leaves what is not theirs, or not intact, and what goes on to somebody here. */
static __always_inline int serve(struct __sk_buff *ctx)
{
	struct work *w = get_work();
	struct verdict v;
	struct pkt *p;
	int code;

	if (!w)
		return LEAVE;
	p = &w->pkt;
	begin(ctx, p, HOOK_FROM_NETWORK);
	if (!read_plain(ctx, p, 0, ctx->protocol)) {
		begin(ctx, p, HOOK_FROM_NETWORK);
		v = read_packet(ctx, p);
		if (v.action != GO_ON)
			return LEAVE;
	}
	code = serve_outside(ctx, p);
	return code == OPEN ? LEAVE : code;
}

SEC("tc")
int from_network(struct __sk_buff *ctx)
{
	int code = LEAVE;

	if (ctx->pkt_type == PACKET_HOST) {
		code = go_short(ctx);
		if (code == LEAVE && translates)
			code = serve(ctx);
	}
	return code == LEAVE ? TC_ACT_UNSPEC : code;
}
