/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reading a packet into struct pkt. Headers are copied with bpf_skb_load_bytes, which also reaches data
 * outside the linear part, so there is one way of reading whatever shape the packet comes in.
 */
#pragma once

#include "../maps/work.h"
#include "addr.h"
#include "frag.h"
#include "packet.h"
#include "verdict.h"

struct ipv4_header {
	__u8 version_ihl;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 proto;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

struct ipv6_header {
	__be32 version_class_label;
	__be16 payload;
	__u8 next;
	__u8 hop_limit;
	struct addr src;
	struct addr dst;
};

/* The first bytes of TCP, UDP, SCTP and ICMP, as far as any of them is of interest. */
struct l4_header {
	union {
		struct {
			__be16 sport;
			__be16 dport;
		};
		struct {
			__u8 icmp_type;
			__u8 icmp_code;
			__be16 icmp_checksum;
		};
	};
	__be16 icmp_id;
	__u8 rest[6];
	__u8 data_offset; /* TCP: in the high half, in words of 4 bytes */
	__u8 tcp_flags;
	__u8 tail[6];
};

enum ipv6_next {
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_AH = 51,
	NEXT_DEST_OPTIONS = 60,
	NEXT_ICMPV6 = 58,
};

#define MAX_EXTENSION_HEADERS 8
#define ICMP_HLEN 8

/* Puts addresses and ports into the order of a flow key. */
static __always_inline void set_addrs(struct pkt *p, const struct addr *src, const struct addr *dst)
{
	p->sender = addr_after(src, dst);
	p->key.addr[0] = p->sender ? *dst : *src;
	p->key.addr[1] = p->sender ? *src : *dst;
}

static __always_inline void set_ports(struct pkt *p, __u16 sport, __u16 dport)
{
	/* A packet from an address to itself is ordered by its ports. */
	if (addr_equal(&p->key.addr[0], &p->key.addr[1]))
		p->sender = sport > dport;
	p->key.port[0] = p->sender ? dport : sport;
	p->key.port[1] = p->sender ? sport : dport;
}

/* The ports of an ICMP message: see datapath.NewFlowKey. */
static __always_inline void set_icmp_ports(struct pkt *p, __u16 id)
{
	bool v6 = p->key.proto == PROTO_ICMPV6;
	__u16 both = (__u16)p->icmp_type << 8 | p->icmp_code;

	if (p->icmp_type == (v6 ? 128 : 8))
		set_ports(p, id, 0);
	else if (p->icmp_type == (v6 ? 129 : 0))
		set_ports(p, 0, id);
	else
		set_ports(p, both, both);
	p->port = p->icmp_type;
}

static __always_inline enum reason read_ipv4(struct __sk_buff *ctx, struct pkt *p, __u32 off)
{
	struct ipv4_header h;
	struct addr src, dst;
	__u32 hlen, total, fragment;

	if (bpf_skb_load_bytes(ctx, off, &h, sizeof(h)) || h.version_ihl >> 4 != 4)
		return REASON_INVALID_PACKET;
	hlen = (h.version_ihl & 15) * 4;
	total = bpf_ntohs(h.total);
	if (hlen < sizeof(h) || total < hlen)
		return REASON_INVALID_PACKET;
	if (!p->inner || off + total < p->end) {
		if (off + total > p->len)
			return REASON_INVALID_PACKET;
		p->end = off + total;
	}
	if (off + hlen > p->end) /* an ICMP error quotes less than the options */
		return REASON_INVALID_PACKET;
	p->family = 4;
	p->l4_off = off + hlen;
	p->hop_limit = h.ttl;
	p->key.proto = h.proto;
	src = addr_from_ipv4(h.src);
	dst = addr_from_ipv4(h.dst);
	set_addrs(p, &src, &dst);

	fragment = bpf_ntohs(h.fragment);
	if (fragment & 0x3fff) {
		p->fragment = fragment & 0x1fff ? FRAGMENT_LATER : FRAGMENT_FIRST;
		p->fragment_id = bpf_ntohs(h.id);
		p->fragment_proto = h.proto;
	}
	return REASON_NONE;
}

/* Walks the extension headers; leaves l4_off behind the last and key.proto at what follows. */
static __always_inline enum reason read_extensions(struct __sk_buff *ctx, struct pkt *p, __u8 next, __u32 off)
{
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		struct {
			__u8 next;
			__u8 len;
			__be16 offset_more; /* routing: type, segments left */
			__be32 id;
		} h;
		__u32 len;

		if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_FRAGMENT &&
		    next != NEXT_AH && next != NEXT_DEST_OPTIONS) {
			p->l4_off = off;
			p->key.proto = next;
			return REASON_NONE;
		}
		if (i == MAX_EXTENSION_HEADERS || off + sizeof(h) > p->end ||
		    bpf_skb_load_bytes(ctx, off, &h, sizeof(h)))
			return REASON_EXTENSION_HEADER;
		len = next == NEXT_FRAGMENT ? 8 : next == NEXT_AH ? (h.len + 2) * 4 : (h.len + 1) * 8;
		if (off + len > p->end)
			return REASON_EXTENSION_HEADER;
		if (next == NEXT_ROUTING && bpf_ntohs(h.offset_more) >> 8 == 0)
			return REASON_EXTENSION_HEADER;
		if (next == NEXT_FRAGMENT) {
			__u16 offset_more = bpf_ntohs(h.offset_more);

			if (p->fragment)
				return REASON_EXTENSION_HEADER;
			if (offset_more & 0xfff9) {
				p->fragment = offset_more & 0xfff8 ? FRAGMENT_LATER : FRAGMENT_FIRST;
				p->fragment_id = bpf_ntohl(h.id);
				p->fragment_proto = h.next;
			}
			if (p->fragment == FRAGMENT_LATER) {
				p->l4_off = off + len;
				p->key.proto = h.next;
				return REASON_NONE;
			}
		}
		next = h.next;
		off += len;
	}
	return REASON_EXTENSION_HEADER;
}

static __always_inline enum reason read_ipv6(struct __sk_buff *ctx, struct pkt *p, __u32 off)
{
	struct ipv6_header h;
	__u32 total;

	if (bpf_skb_load_bytes(ctx, off, &h, sizeof(h)) || bpf_ntohl(h.version_class_label) >> 28 != 6)
		return REASON_INVALID_PACKET;
	total = sizeof(h) + bpf_ntohs(h.payload);
	if (!p->inner || off + total < p->end) {
		if (off + total > p->len)
			return REASON_INVALID_PACKET;
		p->end = off + total;
	}
	if (off + sizeof(h) > p->end) /* an ICMP error quotes less than the header */
		return REASON_INVALID_PACKET;
	p->family = 6;
	p->hop_limit = h.hop_limit;
	set_addrs(p, &h.src, &h.dst);
	if (addr_is_ipv4(&h.src) || addr_is_ipv4(&h.dst))
		return REASON_INVALID_SOURCE;
	return read_extensions(ctx, p, h.next, off + sizeof(h));
}

static __always_inline enum reason read_l4(struct __sk_buff *ctx, struct pkt *p)
{
	struct l4_header h = {};
	__u32 room = p->end > p->l4_off ? p->end - p->l4_off : 0;

	if (p->fragment == FRAGMENT_LATER) {
		struct frag *first = find_frag(p);

		if (!first) {
			p->fragment_lost = 1;
			return REASON_NONE;
		}
		p->key.proto = first->proto;
		p->icmp_type = first->icmp_type;
		p->icmp_code = first->icmp_code;
		set_ports(p, first->sport, first->dport);
		p->port = first->proto == PROTO_ICMP || first->proto == PROTO_ICMPV6 ? first->icmp_type
										     : first->dport;
		return REASON_NONE;
	}
	switch (p->key.proto) {
	case PROTO_TCP:
		if (p->inner) {
			if (room < 8 || bpf_skb_load_bytes(ctx, p->l4_off, &h, 8))
				return REASON_TRUNCATED_L4;
			break;
		}
		if (room < sizeof(h) || bpf_skb_load_bytes(ctx, p->l4_off, &h, sizeof(h)))
			return REASON_TRUNCATED_L4;
		p->tcp_flags = h.tcp_flags;
		break;
	case PROTO_SCTP:
		if (room < (p->inner ? 8 : 12) || bpf_skb_load_bytes(ctx, p->l4_off, &h, 8))
			return REASON_TRUNCATED_L4;
		break;
	case PROTO_UDP:
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		if (room < 8 || bpf_skb_load_bytes(ctx, p->l4_off, &h, 8))
			return REASON_TRUNCATED_L4;
		break;
	default:
		set_ports(p, 0, 0);
		return REASON_NONE;
	}
	if (p->key.proto == PROTO_ICMP || p->key.proto == PROTO_ICMPV6) {
		p->icmp_type = h.icmp_type;
		p->icmp_code = h.icmp_code;
		set_icmp_ports(p, bpf_ntohs(h.icmp_id));
	} else {
		set_ports(p, bpf_ntohs(h.sport), bpf_ntohs(h.dport));
		p->port = bpf_ntohs(h.dport);
	}
	return REASON_NONE;
}

/*
 * Reads the IP packet at an offset into the work's pkt or, inside an ICMP error, inner. Returns a reason
 * or 0. A global function, like the other large ones: the verifier walks it once.
 */
__noinline int read_ip(struct __sk_buff *ctx, __u32 inner, __u32 off, __u32 ethertype)
{
	struct work *w = get_work();
	enum reason r;
	struct pkt *p;

	if (!w)
		return REASON_INVALID_PACKET;
	p = inner ? &w->inner : &w->pkt;
	r = ethertype == ETH_P_IP ? read_ipv4(ctx, p, off) : read_ipv6(ctx, p, off);
	return r ? r : read_l4(ctx, p);
}

/* Starts the work on a packet: everything known before its L3 header. */
static __always_inline void begin(struct __sk_buff *ctx, struct pkt *p, enum hook hook)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->hook = hook;
	p->len = ctx->len;
	p->ifindex = ctx->ifindex;
	if (hook == HOOK_FROM_POD || hook == HOOK_FROM_OVERLAY)
		p->entered = ctx->ifindex;
}

/* Reads a frame. Passes ARP, drops what is not an intact IP packet, goes on with the rest. */
static __always_inline struct verdict read_packet(struct __sk_buff *ctx, struct pkt *p)
{
	enum direction d = hook_direction(p->hook);
	__u16 ethertype = bpf_ntohs(ctx->protocol);
	enum reason r;

	if (ctx->vlan_present || ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD)
		return drop(REASON_VLAN, d);
	if (ethertype == ETH_P_ARP)
		return pass(d);
	if (ethertype != ETH_P_IP && ethertype != ETH_P_IPV6)
		return drop(REASON_UNSUPPORTED_L3, d);
	r = read_ip(ctx, false, ETH_HLEN, ethertype);
	return r ? drop(r, d) : go_on();
}
