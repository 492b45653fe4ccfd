/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Changing a packet's addresses and ports, with its checksums. */
#pragma once

#include "nat.h"
#include "read.h"

#define IPV4_CHECKSUM_OFF 10
#define IPV4_ADDRS_OFF 12
#define IPV6_ADDRS_OFF 8
#define TCP_CHECKSUM_OFF 16
#define UDP_CHECKSUM_OFF 6

/*
 * Changes the addresses at an offset of the frame. The kernel keeps a sum over the packet that some cards give: IPv4's own
 * checksum balances what changes in the header, IPv6's addresses must be told (flags) unless they are part of what a checksum covers.
 */
static __always_inline int rewrite_addrs(struct __sk_buff *ctx, __u32 off, __u8 family, const struct addr *to,
					 __s64 diff, __u64 flags)
{
	if (family == 4) {
		__be32 pair[2] = {to[0].w[3], to[1].w[3]};

		return bpf_l3_csum_replace(ctx, off + IPV4_CHECKSUM_OFF, 0, diff, 0) ||
		       bpf_skb_store_bytes(ctx, off + IPV4_ADDRS_OFF, pair, sizeof(pair), 0);
	}
	return bpf_skb_store_bytes(ctx, off + IPV6_ADDRS_OFF, to, 2 * sizeof(*to), flags);
}

/* Both ports as they lie in a header. */
static __always_inline __be32 ports_of(const struct tuple *t)
{
	return bpf_htonl((__u32)t->sport << 16 | t->dport);
}

static __always_inline __s64 addrs_diff(struct tuple *from, struct tuple *to)
{
	return bpf_csum_diff((__be32 *)&from->src, 2 * sizeof(struct addr), (__be32 *)&to->src, 2 * sizeof(struct addr), 0);
}

/*
 * Writes the work's translation into the packet. A later fragment has no ports, and its first
 * one's checksum covers all.
 */
__noinline int rewrite(struct __sk_buff *ctx)
{
	struct work *w = get_work();
	struct tuple *from, *to;
	__u32 checksum_off;
	__u64 flags = 0;
	struct pkt *p;
	__s64 diff;

	if (!w)
		return REASON_INVALID_PACKET;
	p = &w->pkt;
	from = &w->tuple;
	to = &w->nat.to;
	diff = addrs_diff(from, to);
	if (rewrite_addrs(ctx, ETH_HLEN, p->family, &to->src, diff, BPF_F_RECOMPUTE_CSUM))
		return REASON_INVALID_PACKET;
	checksum_off = p->l4_off + (p->key.proto == PROTO_TCP ? TCP_CHECKSUM_OFF : UDP_CHECKSUM_OFF);
	if (p->key.proto == PROTO_UDP)
		flags = BPF_F_MARK_MANGLED_0; /* without a checksum it stays so */
	if (p->key.proto != PROTO_SCTP && p->fragment != FRAGMENT_LATER) {
		__be32 was = ports_of(from), is = ports_of(to);

		if (bpf_l4_csum_replace(ctx, checksum_off, 0, diff, flags | BPF_F_PSEUDO_HDR) ||
		    bpf_l4_csum_replace(ctx, checksum_off, was, is, flags | sizeof(is)) ||
		    bpf_skb_store_bytes(ctx, p->l4_off, &is, sizeof(is), 0))
			return REASON_INVALID_PACKET;
	}
	return REASON_NONE;
}

/* Lets what was read of a packet follow what was written into it. */
static __always_inline void reread(struct pkt *p, const struct tuple *t)
{
	set_addrs(p, &t->src, &t->dst);
	set_ports(p, t->sport, t->dport);
	p->port = t->dport;
}
