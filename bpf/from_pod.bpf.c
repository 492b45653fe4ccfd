//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TC ingress of a pod's host-side veth: everything that the pod sends. */
#include "lib/abi.h"
#include "lib/fast.h"
#include "lib/finish.h"
#include "lib/license.h"
#include "lib/outside.h"
#include "lib/read.h"
#include "lib/related.h"
#include "lib/serve.h"
#include "maps/work.h"

/* Neighbour discovery goes to the stack, other link-local ICMPv6 nowhere. */
static __always_inline struct verdict check_icmpv6(const struct pkt *p)
{
	if (p->key.proto != PROTO_ICMPV6 || p->fragment == FRAGMENT_LATER)
		return go_on();
	if ((p->icmp_type == 135 || p->icmp_type == 136) && p->hop_limit == 255)
		return pass(EGRESS);
	if ((p->icmp_type >= 130 && p->icmp_type <= 134) || p->icmp_type == 137 || p->icmp_type == 143)
		return drop(REASON_FORBIDDEN_ICMPV6, EGRESS);
	return go_on();
}

/* An ICMP error may speak of any flow, but only the pod itself may send it. */
static __always_inline struct verdict check_source(struct pkt *p)
{
	struct endpoint *ep = get_endpoint(src_of(p));

	if (!is_pod(ep) || ep->ifindex != p->ifindex)
		return drop(REASON_INVALID_SOURCE, EGRESS);
	p->identity = ep->identity;
	return go_on();
}

/* Reads a packet of any kind, and finds its flow. Decides already about those that are not judged like others. */
static __always_inline struct verdict read_any(struct __sk_buff *ctx, struct work *w, struct flow **f)
{
	struct pkt *p = &w->pkt;
	struct verdict v;

	begin(ctx, p, HOOK_FROM_POD);
	v = read_packet(ctx, p);
	if (v.action == GO_ON)
		v = check_icmpv6(p);
	if (v.action == GO_ON && p->fragment_lost)
		v = drop(REASON_FRAGMENT_NOT_FOUND, EGRESS);
	if (v.action == GO_ON && is_icmp_error(p)) {
		v = check_source(p);
		if (v.action == GO_ON)
			v = read_related(ctx, p, f, w);
	}
	if (v.action == GO_ON)
		*f = find_flow(&p->key);
	return v;
}

/*
 * Lets an answer come from the frontend that the client talks to. Such a packet must not meet the stack, which takes a source of
 * its own for forged: then it leaves by the device that the client is behind. Returns the program's result, or LEAVE with
 * the verdict: go on.
 */
__noinline int answer(struct __sk_buff *ctx, __u32 by_stack)
{
	struct work *w = get_work();
	__u32 len;
	int r;

	if (!w)
		return TC_ACT_SHOT;
	len = w->pkt.len;
	r = rewrite_answer(ctx);
	if (r)
		return -r;
	if (!by_stack)
		return LEAVE;
	count_packet(REASON_NONE, EGRESS, len);
	return send_routed(w->nat.ifindex);
}

/* Whether the packet is an answer of a pod that the initiator of the flow knows as a service. */
static __always_inline bool is_answer(const struct pkt *p, const struct flow *f)
{
	return translates && f->flags & FLOW_TRANSLATED && (p->sender & 1) != (f->initiator & 1);
}

SEC("tc")
int from_pod(struct __sk_buff *ctx)
{
	struct work *w;
	struct flow *f = NULL;
	struct verdict v;
	struct pkt *p;
	int code = go_fast(ctx, HOOK_FROM_POD);

	if (code != LEAVE && code != OPEN)
		return code;
	w = get_work();
	if (!w)
		return TC_ACT_SHOT;
	p = &w->pkt;
	v = code == OPEN ? go_on() : read_any(ctx, w, &f);
	if (v.action == GO_ON)
		v = judge_packet(p, &f, w);
	if (v.action == FORWARD && f && is_answer(p, f)) {
		code = answer(ctx, takes_stack(side_of(f, f->initiator)));
		if (code >= 0)
			return code;
		if (code != LEAVE)
			v = drop(-code, EGRESS);
	}
	return finish(ctx, p, f, v);
}
