//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TC egress of a pod's host-side veth: what the node's stack sends to the pod. */
#include "lib/fast.h"
#include "lib/finish.h"
#include "lib/license.h"
#include "lib/read.h"
#include "lib/related.h"
#include "lib/serve.h"
#include "maps/work.h"

static __always_inline struct verdict check_neighbour(const struct pkt *p)
{
	if (p->key.proto == PROTO_ICMPV6 && p->fragment != FRAGMENT_LATER &&
	    (p->icmp_type == 135 || p->icmp_type == 136) && p->hop_limit == 255)
		return pass(INGRESS);
	return go_on();
}

/* Reads a packet of any kind, and finds its flow. Decides already about those that are not judged like others. */
static __always_inline struct verdict read_any(struct __sk_buff *ctx, struct work *w, struct flow **f)
{
	struct pkt *p = &w->pkt;
	struct verdict v;

	begin(ctx, p, HOOK_TO_POD);
	v = read_packet(ctx, p);
	if (v.action == GO_ON)
		v = check_neighbour(p);
	if (v.action == GO_ON && p->fragment_lost)
		v = drop(REASON_FRAGMENT_NOT_FOUND, INGRESS);
	if (v.action == GO_ON && is_icmp_error(p))
		v = read_related(ctx, p, f, w);
	if (v.action == GO_ON)
		*f = find_flow(&p->key);
	return v;
}

SEC("tc")
int to_pod(struct __sk_buff *ctx)
{
	struct work *w;
	struct flow *f = NULL;
	struct verdict v;
	struct pkt *p;
	int code = go_fast(ctx, HOOK_TO_POD);

	if (code != LEAVE && code != OPEN)
		return code;
	w = get_work();
	if (!w)
		return TC_ACT_SHOT;
	p = &w->pkt;
	v = code == OPEN ? go_on() : read_any(ctx, w, &f);
	if (v.action == GO_ON)
		v = judge_packet(p, &f, w);
	return finish(ctx, p, f, v);
}
