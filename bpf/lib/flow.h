/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The flow entry: its layout, whether it may serve a packet, and how a packet changes it. */
#pragma once

#include "addr.h"

/* Side 0 is the one with the smaller (address, port), so that both directions find the entry. */
struct flow_key {
	struct addr addr[2];
	__u16 port[2]; /* see datapath.NewFlowKey */
	__u8 proto;
	__u8 pad[3];
};

/* By which way the packets of a side enter this node's datapath. */
enum way {
	WAY_STACK = 0,
	WAY_POD = 1,
	WAY_OVERLAY = 2,
};

/* How packets to a side leave. */
enum route {
	ROUTE_STACK = 0,
	ROUTE_PEER = 1,
	ROUTE_TUNNEL = 2,
	ROUTE_DIRECT = 3,
};

enum flow_state {
	FLOW_OTHER = 0,
	FLOW_TCP_SYN = 1,
	FLOW_TCP_ESTABLISHED = 2,
	FLOW_TCP_CLOSING = 3,
};

enum flow_flag {
	FLOW_DENIED = 1,
	FLOW_SEEN_NON_SYN = 2,
	FLOW_EGRESS_JUDGED = 4,
	FLOW_INGRESS_JUDGED = 8,
	FLOW_TRANSLATED = 16, /* the initiator knows the other side, a pod, as a service: see the nat table */
};

struct flow_side {
	__u64 packets; /* sent by this side */
	__u64 bytes;
	__u32 ifindex;  /* where this side's packets enter: pod's veth, overlay device, 0 for the stack */
	__u32 identity; /* as judged */
	__u32 vni;      /* that this side's tunnelled packets carry */
	__u32 epoch;    /* of the endpoint, or of the address bucket, when the flow was judged */
	__u32 tcp_flags; /* seen from this side */
	__u32 out_ifindex; /* ROUTE_PEER: host side of the pod's veth */
	__u16 endpoint;  /* 0: not a pod of this node */
	__u16 bucket;    /* of the address */
	__u8 way;        /* enum way */
	__u8 route;      /* enum route */
	__u8 dst_mac[6]; /* ROUTE_PEER: the pod's, then the veth's host side; one write of 12 bytes */
	__u8 src_mac[6];
	__u8 pad[2];
	__u32 tick; /* when a packet of this side last renewed the lifetime; see now_tick */
	struct addr tunnel; /* ROUTE_TUNNEL, ROUTE_DIRECT: the other node */
};

struct flow {
	struct flow_side side[2];
	__u64 created_ns; /* coarse monotonic clock */
	__u64 expires_ns; /* the same clock */
	__u32 epoch;      /* of everything, when the flow was judged */
	__u32 state;      /* enum flow_state */
	__u32 egress_cookie;  /* the initiator's egress */
	__u32 ingress_cookie; /* the other side's ingress */
	__u16 port;      /* what policy calls the port, in the initiator's direction */
	__u8 initiator;  /* side that opened the flow */
	__u8 flags;      /* enum flow_flag */
	__u8 reason;     /* FLOW_DENIED: enum reason */
	__u8 direction;  /* FLOW_DENIED: whose policy refused */
	__u8 pad[2];
};

static __always_inline __u64 now_ns(void)
{
	return bpf_ktime_get_coarse_ns();
}

/*
 * The kernel's count of clock ticks, for the price of one load. now_ns moves with it, so nothing that it decides changes
 * within a tick.
 */
static __always_inline __u32 now_tick(void)
{
	return bpf_jiffies64();
}

/*
 * One side of an entry. The index is masked where it is used: the compiler knows that it is 0 or 1, but
 * the verifier has forgotten.
 */
static __always_inline struct flow_side *side_of(struct flow *f, __u32 i)
{
	asm volatile("%0 &= 1" : "+r"(i));
	return &f->side[i];
}

static __always_inline __u64 lifetime_ns(__u32 state)
{
	switch (state) {
	case FLOW_TCP_ESTABLISHED:
		return LIFETIME_TCP_ESTABLISHED_S * NSEC_PER_SEC;
	case FLOW_TCP_CLOSING:
		return LIFETIME_TCP_CLOSING_S * NSEC_PER_SEC;
	case FLOW_TCP_SYN:
		return LIFETIME_TCP_SYN_S * NSEC_PER_SEC;
	}
	return LIFETIME_OTHER_S * NSEC_PER_SEC;
}

/* Whether the entry of a packet from side i is not expired. One that was renewed in this tick cannot be. */
static __always_inline bool flow_is_live(struct flow *f, __u32 i)
{
	return side_of(f, i)->tick == now_tick() || f->expires_ns > now_ns();
}

/*
 * Notes a forwarded packet of side i. Returns true if it is the one that closed the flow: the state
 * changes by compare-and-swap, so that of two processors only one reports it.
 */
static __always_inline bool flow_note(struct flow *f, __u32 i, __u32 len, __u8 tcp_flags)
{
	struct flow_side *s = side_of(f, i), *other = side_of(f, i ^ 1);
	__u32 state = f->state, next = state;
	bool closed = false;

	__sync_fetch_and_add(&s->packets, 1);
	__sync_fetch_and_add(&s->bytes, len);
	if (state != FLOW_OTHER) {
		if (tcp_flags & ~s->tcp_flags)
			__sync_fetch_and_or(&s->tcp_flags, tcp_flags);
		if (state == FLOW_TCP_SYN && (i & 1) != (f->initiator & 1))
			next = FLOW_TCP_ESTABLISHED;
		if ((tcp_flags & TCP_RST) || ((s->tcp_flags & other->tcp_flags) & TCP_FIN))
			next = FLOW_TCP_CLOSING;
		if (next != state && state != FLOW_TCP_CLOSING)
			closed = __sync_val_compare_and_swap(&f->state, state, next) == state &&
				 next == FLOW_TCP_CLOSING;
		else
			next = state;
	}
	if (s->tick != now_tick() || next != state) {
		s->tick = now_tick();
		f->expires_ns = now_ns() + lifetime_ns(next);
	}
	return closed;
}
