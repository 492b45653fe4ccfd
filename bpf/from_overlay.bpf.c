//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TC ingress of the overlay device: what other nodes send. */
#include "lib/fast.h"
#include "lib/finish.h"
#include "lib/license.h"
#include "lib/outside.h"
#include "lib/read.h"
#include "lib/related.h"
#include "lib/serve.h"
#include "lib/tunnel.h"
#include "maps/work.h"

/* Whether the flow entry already knows the sending node, so that it need not be looked up. */
static __always_inline bool knows_sender(const struct pkt *p, struct flow *f)
{
	struct flow_side *from;

	if (!f)
		return false;
	from = side_of(f, p->sender);
	return from->route == ROUTE_TUNNEL && addr_equal(&from->tunnel, &p->underlay) && flow_is_current(f);
}

/* What is for the node itself is not judged. */
static __always_inline struct verdict check_target(const struct pkt *p)
{
	struct endpoint *ep = get_endpoint(dst_of(p));

	if (!ep)
		return drop(REASON_UNKNOWN_TARGET, INGRESS);
	return is_pod(ep) ? go_on() : pass(INGRESS);
}

SEC("tc")
int from_overlay(struct __sk_buff *ctx)
{
	struct work *w;
	struct flow *f = NULL;
	bool known = false;
	struct verdict v;
	struct pkt *p;
	int code = go_fast(ctx, HOOK_FROM_OVERLAY);

	if (code != LEAVE && code != OPEN)
		return code;
	w = get_work();
	if (!w)
		return TC_ACT_SHOT;
	p = &w->pkt;
	v = go_on();
	if (code == LEAVE) {
		begin(ctx, p, HOOK_FROM_OVERLAY);
		v = read_packet(ctx, p);
	}
	if (v.action == GO_ON)
		v = read_tunnel(ctx, p);
	if (v.action == GO_ON) {
		if (code == LEAVE && !p->fragment_lost)
			f = find_flow(&p->key);
		known = knows_sender(p, f);
	}
	if (v.action == GO_ON && !known)
		v = check_sender(p);
	if (v.action == GO_ON && !known) {
		v = check_target(p);
		if (v.action == PASS && translates) {
			code = serve_outside(ctx, p);
			if (code >= 0)
				return code;
			if (code == OPEN) {
				v = check_target(p);
				f = find_flow(&p->key);
			}
		}
	}
	if (v.action == GO_ON && p->fragment_lost)
		v = drop(REASON_FRAGMENT_NOT_FOUND, INGRESS);
	if (v.action == GO_ON && is_icmp_error(p)) {
		v = read_related(ctx, p, &f, w);
		if (v.action == GO_ON)
			f = find_flow(&p->key); /* it may have been renewed */
	}
	if (v.action == GO_ON)
		v = judge_packet(p, &f, w);
	return finish(ctx, p, f, v);
}
