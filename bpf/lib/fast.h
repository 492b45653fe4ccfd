/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The fast path: a plain TCP or UDP packet in the middle of a flow that its entry serves. It reads the headers where they
 * lie, looks the flow up, and decides nothing: whatever is not plain, or not served, is left untouched to the
 * way that all packets can take. The two must agree; test/differential plays every packet against one specification.
 */
#pragma once

#include "../maps/counters.h"
#include "read.h"
#include "serve.h"
#include "tunnel.h"

/* Not the fast path's business. No program returns this. */
#define LEAVE (-2)

/* TCP flags that change what is known of a connection. */
#define TCP_TURNING (TCP_SYN | TCP_FIN | TCP_RST)

#define IPV4_HLEN 20
#define IPV6_HLEN 40

/*
 * Reads a packet without options, extension headers or fragments, in the linear part. False: it is another, or
 * not intact.
 */
static __always_inline bool read_plain(struct __sk_buff *ctx, struct pkt *p)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct l4_header *l4;
	struct addr src, dst;
	__u32 payload, off;

	if (ctx->vlan_present)
		return false;
	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4_header *h = data + ETH_HLEN;

		if ((void *)(h + 1) > end || h->version_ihl != 0x45 || h->fragment & bpf_htons(0x3fff))
			return false;
		p->key.proto = h->proto;
		src = addr_from_ipv4(h->src);
		dst = addr_from_ipv4(h->dst);
		payload = bpf_ntohs(h->total) - IPV4_HLEN; /* a shorter total becomes longer than any frame */
		off = ETH_HLEN + IPV4_HLEN;
	} else if (ctx->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6_header *h = data + ETH_HLEN;

		if ((void *)(h + 1) > end || bpf_ntohl(h->version_class_label) >> 28 != 6)
			return false;
		p->key.proto = h->next;
		src = h->src;
		dst = h->dst;
		if (addr_is_ipv4(&src) || addr_is_ipv4(&dst))
			return false;
		payload = bpf_ntohs(h->payload);
		off = ETH_HLEN + IPV6_HLEN;
	} else {
		return false;
	}
	if (payload > p->len || off + payload > p->len)
		return false;
	l4 = data + off;
	if (p->key.proto == PROTO_TCP) {
		if (payload < sizeof(*l4) || (void *)(l4 + 1) > end)
			return false;
		p->tcp_flags = l4->tcp_flags;
	} else if (p->key.proto == PROTO_UDP) {
		if (payload < 8 || (void *)l4 + 8 > end)
			return false;
	} else {
		return false;
	}
	set_addrs(p, &src, &dst);
	set_ports(p, bpf_ntohs(l4->sport), bpf_ntohs(l4->dport));
	return true;
}

/* Notes a packet that turns nothing; see flow_note. */
static __always_inline void note_plain(struct flow *f, const struct pkt *p, __u64 now)
{
	struct flow_side *s = side_of(f, p->sender);

	__sync_fetch_and_add(&s->packets, 1);
	__sync_fetch_and_add(&s->bytes, p->len);
	if (p->key.proto == PROTO_TCP) {
		if (p->tcp_flags & ~s->tcp_flags)
			__sync_fetch_and_or(&s->tcp_flags, p->tcp_flags);
		f->expires_ns = now + LIFETIME_TCP_ESTABLISHED_S * NSEC_PER_SEC;
	} else {
		f->expires_ns = now + LIFETIME_OTHER_S * NSEC_PER_SEC;
	}
}

/* Rewrites the Ethernet addresses of a frame that read_plain has read. */
static __always_inline bool write_macs(struct __sk_buff *ctx, const __u8 macs[12])
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + ETH_HLEN > end)
		return false;
	__builtin_memcpy(data, macs, 12);
	return true;
}

/* Forwards the packet by its flow entry and returns the program's result, or LEAVE. */
static __always_inline int go_fast(struct __sk_buff *ctx, enum hook hook)
{
	struct pkt p;
	struct flow_side *to;
	struct flow *f;
	__u64 now;
	int code;

	begin(ctx, &p, hook);
	if (!read_plain(ctx, &p) || p.tcp_flags & TCP_TURNING)
		return LEAVE;
	f = bpf_map_lookup_elem(&flows_v1, &p.key);
	if (!f)
		return LEAVE;
	now = now_ns();
	if (f->expires_ns <= now || (f->state != FLOW_OTHER && f->state != FLOW_TCP_ESTABLISHED))
		return LEAVE;
	if (hook == HOOK_FROM_OVERLAY) {
		struct verdict v = read_tunnel(ctx, &p);

		if (v.action != GO_ON || !addr_equal(&side_of(f, p.sender)->tunnel, &p.underlay))
			return LEAVE;
	}
	if (flow_usage(&p, f) != SERVE)
		return LEAVE;
	to = side_of(f, p.sender ^ 1);
	if (hook == HOOK_TO_POD || to->route == ROUTE_STACK) {
		code = TC_ACT_OK;
	} else if (to->route == ROUTE_PEER) {
		if (!write_macs(ctx, to->dst_mac))
			return LEAVE;
		if (ctx->pkt_type != PACKET_HOST)
			bpf_skb_change_type(ctx, PACKET_HOST);
		code = bpf_redirect_peer(to->out_ifindex, 0);
	} else if (to->route == ROUTE_DIRECT) {
		code = send_direct(&to->tunnel);
	} else {
		if (set_tunnel(ctx, side_of(f, p.sender)->identity, &to->tunnel))
			return LEAVE;
		code = bpf_redirect(overlay_ifindex, 0);
	}
	note_plain(f, &p, now);
	count_packet(REASON_NONE, route_direction(&p, to), p.len);
	return code;
}
