//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * TC egress of the node's devices: what the node itself answers to clients of services, and what it complains of about their
 * packets, comes from the frontend. All else is left as it is.
 */
#include "lib/complaint.h"
#include "lib/fast.h"
#include "lib/license.h"
#include "lib/outside.h"

SEC("tc")
int to_network(struct __sk_buff *ctx)
{
	struct work *w;
	struct verdict v;
	struct pkt *p;
	int r;

	/* What the node sends itself has a socket; what its stack forwards has none. */
	if (!translates || !ctx->sk)
		return TC_ACT_UNSPEC;
	w = get_work();
	if (!w)
		return TC_ACT_UNSPEC;
	p = &w->pkt;
	begin(ctx, p, HOOK_TO_NETWORK);
	if (!read_plain(ctx, p, 0, ctx->protocol)) {
		begin(ctx, p, HOOK_TO_NETWORK);
		v = read_packet(ctx, p);
		if (v.action != GO_ON)
			return TC_ACT_UNSPEC;
	}
	if (is_translatable(p) && !is_port_of(PORT_OF_BACKEND, p->sender ? p->key.port[1] : p->key.port[0]))
		return TC_ACT_UNSPEC;
	r = rewrite_answer(ctx);
	if (!r)
		note_frag(p);
	if (!r || r == REASON_NAT_NO_MAPPING)
		return TC_ACT_UNSPEC;
	v = drop(r, EGRESS);
	count_packet(v.reason, v.direction, p->len);
	emit_drop(p, v);
	return TC_ACT_SHOT;
}
