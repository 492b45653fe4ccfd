/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* A packet as the programs see it once it was read. */
#pragma once

#include "flow.h"

enum hook {
	HOOK_FROM_POD = 0,
	HOOK_TO_POD = 1,
	HOOK_FROM_OVERLAY = 2,
	HOOK_FROM_HOST = 3,
	HOOK_FROM_NETWORK = 4,
	HOOK_TO_NETWORK = 5,
	HOOK_NONE = 6, /* the packet inside an ICMP error: nobody sends it */
};

enum fragment {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1,
	FRAGMENT_LATER = 2,
};

/* Where what is known of a packet's flow lies. */
enum about {
	ABOUT_NOTHING = 0,
	ABOUT_WORK = 1,  /* in the work's flow: the slow path has looked at it */
	ABOUT_ENTRY = 2, /* in the flow table, under the packet's key */
};

/* pkt.sender when neither side sends. */
#define SENDER_NONE 2

struct pkt {
	struct flow_key key;
	struct addr underlay; /* HOOK_FROM_OVERLAY: the node that sent it */
	__u32 len;            /* of the frame */
	__u32 ifindex;        /* of the hook's device */
	__u32 entered;        /* as flow_side.ifindex has it */
	__u32 vni;            /* HOOK_FROM_OVERLAY: the sender's identity */
	__u32 identity;       /* the sender's, when it is sent into the tunnel */
	__u32 l4_off;         /* from the start of the frame */
	__u32 end;            /* of the IP payload, from the start of the frame */
	__u32 fragment_id;
	__u16 port;        /* what policy calls the port */
	__u8 sender;       /* side of the key that sent it, or SENDER_NONE */
	__u8 hook;         /* enum hook */
	__u8 family;       /* 4, 6; 0: not read */
	__u8 hop_limit;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 fragment;       /* enum fragment */
	__u8 fragment_proto; /* protocol in the fragment header */
	__u8 fragment_lost;  /* a later fragment whose first was not seen */
	__u8 inner;          /* inside an ICMP error, possibly cut off */
	__u8 about;          /* enum about */
	__u8 ecn;            /* of the IP header; the fast path's */
	__u8 pad;
	__u16 headers;       /* bytes of the IP and L4 headers; the fast path's */
	__u8 pad2[2];
};

/* The addresses in the packet's own order; the caller has a sender. */
static __always_inline const struct addr *src_of(const struct pkt *p)
{
	return p->sender ? &p->key.addr[1] : &p->key.addr[0];
}

static __always_inline const struct addr *dst_of(const struct pkt *p)
{
	return p->sender ? &p->key.addr[0] : &p->key.addr[1];
}

/* The side that receives. */
static __always_inline __u32 receiver_of(const struct pkt *p)
{
	return (p->sender & 1) ^ 1;
}

/* The direction that a packet counts for at a hook, unless a policy says otherwise. */
static __always_inline enum direction hook_direction(__u8 hook)
{
	return hook == HOOK_TO_POD || hook == HOOK_FROM_OVERLAY ? INGRESS : EGRESS;
}

static __always_inline bool is_icmp_error(const struct pkt *p)
{
	if (p->key.proto == PROTO_ICMP)
		return p->icmp_type == 3 || p->icmp_type == 4 || p->icmp_type == 5 ||
		       p->icmp_type == 11 || p->icmp_type == 12;
	return p->key.proto == PROTO_ICMPV6 && p->icmp_type >= 1 && p->icmp_type <= 4;
}

/* An ICMP message that answers nothing: of some, both directions have the same flow key. */
static __always_inline bool is_icmp_asking(const struct pkt *p)
{
	if (p->key.proto == PROTO_ICMP)
		return p->icmp_type != 0;
	return p->key.proto == PROTO_ICMPV6 && p->icmp_type != 129;
}

/* A SYN that opens a connection. */
static __always_inline bool is_opening(const struct pkt *p)
{
	return p->key.proto == PROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}
