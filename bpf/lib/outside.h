/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where translated packets go that leave the node again. */
#pragma once

#include "../maps/counters.h"
#include "../maps/ipcache.h"
#include "complaint.h"
#include "events.h"
#include "rewrite.h"
#include "tunnel.h"
#include "verdict.h"
#include "wire.h"

/* What the sender is for the node that the packet is tunnelled to. */
static __always_inline __u32 sender_vni(const struct pkt *p, const struct addr *client)
{
	__u32 world = p->family == 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
	struct ipcache *row;

	if (p->hook == HOOK_FROM_OVERLAY)
		return p->vni;
	row = get_ipcache(client);
	return row && row->identity && row->identity <= IDENTITY_MAX_CLUSTER ? row->identity : world;
}

/* Asks the kernel's routes for the device to an address; 0: there is no way. */
static __noinline __u32 device_to(struct __sk_buff *ctx, const struct tuple *t)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.ifindex = LOOPBACK_IFINDEX,
		.l4_protocol = t->proto,
		.ipv4_src = t->src.w[3],
		.ipv4_dst = t->dst.w[3],
	};
	long r;

	if (!addr_is_ipv4(&t->dst)) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, &t->src, sizeof(t->src));
		__builtin_memcpy(fib.ipv6_dst, &t->dst, sizeof(t->dst));
	}
	r = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	return r == BPF_FIB_LKUP_RET_SUCCESS || r == BPF_FIB_LKUP_RET_NO_NEIGH ? fib.ifindex : 0;
}

/* Sends a packet by a device to whatever neighbour the kernel's routes name. */
static __always_inline int send_routed(__u32 ifindex)
{
	return bpf_redirect_neigh(ifindex, NULL, 0, 0);
}

/*
 * Sends the packet, which was rewritten, to a backend elsewhere or back to its client. Returns the program's result; a
 * negative one is a reason to drop.
 */
__noinline int send_away(struct __sk_buff *ctx, __u32 reply)
{
	struct work *w = get_work();
	struct ipcache *row;
	struct addr remote = {};
	struct pkt *p;
	__u32 ifindex;
	int r;

	if (!w)
		return -REASON_NO_ROUTE;
	p = &w->pkt;
	row = get_ipcache(&w->nat.to.dst);
	if (row && row->direct && !reply && direct_ifindex)
		return send_direct(&row->tunnel);
	if (row && !row->direct)
		remote = row->tunnel;
	if (addr_is_zero(&remote) && reply)
		remote = w->nat.node;
	if (!addr_is_zero(&remote)) {
		r = set_tunnel(ctx, reply ? IDENTITY_REMOTE_NODE : sender_vni(p, &w->tuple.src), &remote);
		return r ? -r : (int)bpf_redirect(overlay_ifindex, 0);
	}
	ifindex = reply ? w->nat.ifindex : device_to(ctx, &w->nat.to);
	return ifindex ? send_routed(ifindex) : -REASON_NO_ROUTE;
}

/*
 * Serves a packet that was read and is for no pod, at from_network and from_overlay. Returns the program's result, LEAVE if
 * it is no business of services, or OPEN if it was rewritten and goes on to somebody here.
 */
static __always_inline int serve_outside(struct __sk_buff *ctx, struct pkt *p)
{
	int found = find_translation(), code;
	struct work *w = get_work();
	__u32 len = p->len;
	struct verdict v;

	if (!w)
		return LEAVE;
	code = -found;
	if (found == FOUND_NOTHING) {
		found = find_complaint(ctx);
		if (found == FOUND_NOTHING)
			return LEAVE;
		code = -rewrite_complaint(ctx);
		reread_complaint(p, &w->nat.to);
	} else if (found <= FOUND_REPLY) {
		note_frag(p); /* under the addresses of the wire, by which the later fragments are known */
		code = -rewrite(ctx);
		reread(p, &w->nat.to);
	}
	if (!code && found == FOUND_HERE)
		return OPEN;
	if (!code)
		code = send_away(ctx, found == FOUND_REPLY);
	if (code >= 0) {
		count_packet(REASON_NONE, EGRESS, len);
		return code;
	}
	v = drop(-code, INGRESS);
	count_packet(v.reason, v.direction, len);
	emit_drop(p, v);
	return TC_ACT_SHOT;
}
