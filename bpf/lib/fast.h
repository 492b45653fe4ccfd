/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The fast path: a plain TCP or UDP packet of a flow that its entry serves. It reads the headers where they
 * lie, looks the flow up, and decides nothing: whatever is not plain, or not served, is left untouched to the
 * way that all packets can take. The two must agree; test/differential plays every packet against one specification.
 */
#pragma once

#include "../maps/counters.h"
#include "read.h"
#include "serve.h"
#include "tunnel.h"
#include "wire.h"

#define IPV4_HLEN 20
#define IPV6_HLEN 40

/*
 * Reads a packet without options, extension headers or fragments, in the linear part, whose Ethernet header has
 * this many bytes before it. False: it is another, or not intact.
 */
static __always_inline bool read_plain(struct __sk_buff *ctx, struct pkt *p, __u32 before, __be16 ethertype)
{
	void *data = (void *)(long)ctx->data + before, *end = (void *)(long)ctx->data_end;
	struct l4_header *l4;
	struct addr src, dst;
	__u32 payload, off;

	if (ctx->vlan_present)
		return false;
	if (ethertype == bpf_htons(ETH_P_IP)) {
		struct ipv4_header *h = data + ETH_HLEN;

		if ((void *)(h + 1) > end || h->version_ihl != 0x45 || h->fragment & bpf_htons(0x3fff))
			return false;
		p->key.proto = h->proto;
		p->family = 4;
		p->ecn = h->tos & ECN_MASK;
		p->hop_limit = h->ttl;
		src = addr_from_ipv4(h->src);
		dst = addr_from_ipv4(h->dst);
		payload = bpf_ntohs(h->total) - IPV4_HLEN; /* a shorter total becomes longer than any frame */
		off = ETH_HLEN + IPV4_HLEN;
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		struct ipv6_header *h = data + ETH_HLEN;

		if ((void *)(h + 1) > end || bpf_ntohl(h->version_class_label) >> 28 != 6)
			return false;
		p->key.proto = h->next;
		p->family = 6;
		p->ecn = bpf_ntohl(h->version_class_label) >> 20 & ECN_MASK;
		p->hop_limit = h->hop_limit;
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
		p->headers = off - ETH_HLEN + (l4->data_offset >> 4) * 4;
	} else if (p->key.proto == PROTO_UDP) {
		if (payload < 8 || (void *)l4 + 8 > end)
			return false;
		p->headers = off - ETH_HLEN + 8;
	} else {
		return false;
	}
	p->l4_off = off;
	set_addrs(p, &src, &dst);
	p->port = bpf_ntohs(l4->dport);
	set_ports(p, bpf_ntohs(l4->sport), p->port);
	return true;
}

/* Reports a flow that this packet closed. Events are about the packet at work. */
static __always_inline void report_closed(struct pkt *p, struct flow *f)
{
	struct work *w = get_work();

	if (!w)
		return;
	w->pkt = *p;
	w->pkt.about = ABOUT_ENTRY;
	emit_flow(&w->pkt, f, EVENT_CLOSE);
}

/* Enters a packet that was sent on its way into the books. */
static __always_inline void note_fast(struct pkt *p, struct flow *f, enum direction d)
{
	if (flow_note(f, p->sender, p->len, p->tcp_flags))
		report_closed(p, f);
	count_packet(REASON_NONE, d, p->len);
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

/* Sends a packet that the flow entry serves on its way. Returns the program's result, or LEAVE with the packet as it was. */
static __always_inline int send_fast(struct __sk_buff *ctx, struct pkt *p, struct flow *f, struct flow_side *to)
{
	__u32 identity = side_of(f, p->sender)->identity;
	int code;

	switch (to->route) {
	case ROUTE_PEER:
		if (!write_macs(ctx, to->dst_mac))
			return LEAVE;
		if (ctx->pkt_type != PACKET_HOST)
			bpf_skb_change_type(ctx, PACKET_HOST);
		return bpf_redirect_peer(to->out_ifindex, 0);
	case ROUTE_DIRECT:
		return send_direct(&to->tunnel);
	case ROUTE_TUNNEL:
		code = send_encapsulated(ctx, p, identity, &to->tunnel);
		if (code != LEAVE)
			return code;
		return set_tunnel(ctx, identity, &to->tunnel) ? LEAVE : bpf_redirect(overlay_ifindex, 0);
	}
	return TC_ACT_OK;
}

/* Keeps what was read of a packet for the slow path. */
static __always_inline int open_fast(const struct pkt *p)
{
	struct work *w = get_work();

	if (!w)
		return LEAVE;
	w->pkt = *p;
	return OPEN;
}

/* Whether a packet begins a flow whatever was there before. */
static __always_inline bool is_first(const struct pkt *p, const struct flow *f)
{
	return !f || (f->state == FLOW_TCP_CLOSING && is_opening(p));
}

/* Forwards the packet by its flow entry and returns the program's result, LEAVE, or OPEN. */
static __always_inline int go_fast(struct __sk_buff *ctx, enum hook hook)
{
	struct pkt p;
	struct flow_side *to;
	struct flow *f;
	int code;

	begin(ctx, &p, hook);
	if (!read_plain(ctx, &p, 0, ctx->protocol))
		return LEAVE;
	if (hook == HOOK_FROM_NETWORK && p.hop_limit <= 1)
		return LEAVE;
	f = find_flow_of(&p);
	/* from_overlay has a question about an entry that is over. */
	if (hook == HOOK_FROM_OVERLAY ? !f : is_first(&p, f))
		return open_fast(&p);
	if (hook == HOOK_FROM_OVERLAY) {
		struct verdict v = read_tunnel(ctx, &p);

		if (v.action != GO_ON || !addr_equal(&side_of(f, p.sender)->tunnel, &p.underlay))
			return LEAVE;
	}
	if (flow_usage(&p, f) != SERVE)
		return LEAVE;
	/* What a pod answers in a service's name is for the way that can rewrite it. */
	if (hook == HOOK_FROM_POD && f->flags & FLOW_TRANSLATED)
		return LEAVE;
	to = side_of(f, p.sender ^ 1);
	code = hook == HOOK_TO_POD ? TC_ACT_OK : send_fast(ctx, &p, f, to);
	if (code == LEAVE)
		return LEAVE;
	note_fast(&p, f, route_direction(&p, to));
	return code;
}

/*
 * Takes a packet out of the tunnel before the overlay device sees it, as from_overlay would forward it, and
 * returns the program's result, or LEAVE.
 */
static __always_inline int go_through(struct __sk_buff *ctx)
{
	struct flow_side *to;
	__be16 ethertype;
	struct flow *f;
	struct pkt p;

	if (!underlay_addr4)
		return LEAVE;
	begin(ctx, &p, HOOK_FROM_OVERLAY);
	p.ifindex = p.entered = overlay_ifindex;
	if (!read_outer(ctx, &p, &ethertype) || !read_plain(ctx, &p, sizeof(struct outer), ethertype))
		return LEAVE;
	f = find_flow_of(&p);
	if (!f || !addr_equal(&side_of(f, p.sender)->tunnel, &p.underlay) || flow_usage(&p, f) != SERVE)
		return LEAVE;
	to = side_of(f, p.sender ^ 1);
	if (!strip_outer(ctx, &p))
		return LEAVE;
	if (!write_macs(ctx, to->dst_mac))
		return TC_ACT_SHOT; /* cannot be: there was an Ethernet header */
	note_fast(&p, f, INGRESS);
	return bpf_redirect_peer(to->out_ifindex, 0);
}
