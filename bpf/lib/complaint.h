/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * ICMP errors about translated packets: they are for whoever sent the packet before it was translated, and quote it as
 * that one sent it.
 */
#pragma once

#include "related.h"
#include "rewrite.h"

#define ICMP_CHECKSUM_OFF 2

/*
 * Finds the translation of the work's ICMP error, by the row of the answer to the packet that it quotes. The work's tuple becomes
 * the quoted one, its pair what is to be quoted, and its nat the answer's row, whose ends the error gets; but whoever complains
 * about a packet to a client keeps his address towards a backend here. Returns enum found.
 */
__noinline int find_complaint(struct __sk_buff *ctx)
{
	struct work *w = get_work();
	struct pkt *p, *in;
	struct nat *row;

	if (!w)
		return FOUND_NOTHING;
	p = &w->pkt;
	in = &w->inner;
	if (!is_icmp_error(p) || !read_inner(ctx, p, w) || !is_translatable(in))
		return FOUND_NOTHING;
	if (!addr_equal(src_of(in), dst_of(p)))
		return FOUND_NOTHING;
	tuple_of(&w->tuple, in);
	reverse(&w->pair, &w->tuple);
	row = bpf_map_lookup_elem(&nat_v1, &w->pair);
	if (!nat_is_live(row))
		return FOUND_NOTHING;
	w->nat = *row;
	reverse(&w->pair, &w->nat.to);
	if (w->nat.kind == NAT_REPLY)
		return FOUND_REPLY;
	if (!w->nat.here)
		return FOUND_AWAY;
	w->nat.to.src = *src_of(p);
	return FOUND_HERE;
}

/* Lets what was read of the error follow what was written into it. */
static __always_inline void reread_complaint(struct pkt *p, const struct tuple *t)
{
	__u16 both = p->key.port[0];

	set_addrs(p, &t->src, &t->dst);
	set_ports(p, both, both);
}

/* Writes what find_complaint found. The quoted packet's own L4 checksum, which nobody can check, stays. */
__noinline int rewrite_complaint(struct __sk_buff *ctx)
{
	struct work *w = get_work();
	struct pkt *p, *in;
	__s64 outer, inner;
	__be32 was, is;
	__u32 sum;

	if (!w)
		return REASON_INVALID_PACKET;
	p = &w->pkt;
	in = &w->inner;
	inner = addrs_diff(&w->tuple, &w->pair);
	was = is = 0;
	if (in->fragment != FRAGMENT_LATER) {
		was = ports_of(&w->tuple);
		is = ports_of(&w->pair);
		if (bpf_skb_store_bytes(ctx, in->l4_off, &is, sizeof(is), 0))
			return REASON_INVALID_PACKET;
	}
	if (rewrite_addrs(ctx, p->l4_off + ICMP_HLEN, p->family, &w->pair.src, inner, 0))
		return REASON_INVALID_PACKET;
	w->tuple.src = *src_of(p);
	w->tuple.dst = *dst_of(p);
	outer = addrs_diff(&w->tuple, &w->nat.to);
	if (rewrite_addrs(ctx, ETH_HLEN, p->family, &w->nat.to.src, outer, BPF_F_RECOMPUTE_CSUM))
		return REASON_INVALID_PACKET;
	sum = p->l4_off + ICMP_CHECKSUM_OFF;
	if (p->family == 6 && (bpf_l4_csum_replace(ctx, sum, 0, outer, BPF_F_PSEUDO_HDR) || bpf_l4_csum_replace(ctx, sum, 0, inner, 0)))
		return REASON_INVALID_PACKET;
	return bpf_l4_csum_replace(ctx, sum, was, is, sizeof(is)) ? REASON_INVALID_PACKET : REASON_NONE;
}

/* Lets the work's packet, an answer or an error about a request, come from the frontend. Returns a reason not to, or 0. */
static __always_inline int rewrite_answer(struct __sk_buff *ctx)
{
	if (find_answer() == FOUND_REPLY)
		return rewrite(ctx);
	return find_complaint(ctx) == FOUND_REPLY ? rewrite_complaint(ctx) : REASON_NAT_NO_MAPPING;
}
