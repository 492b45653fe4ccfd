/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

/* A packet's ends in its own order. */
struct tuple {
	struct addr src;
	struct addr dst;
	__u16 sport;
	__u16 dport;
	__u8 proto;
	__u8 pad[3];
};

enum nat_kind {
	NAT_REQUEST = 0, /* from a client to a frontend */
	NAT_REPLY = 1,   /* from a backend to whom the request seemed to come from */
};

enum nat_state {
	NAT_NEW = 0, /* no reply seen */
	NAT_ANSWERED = 1,
	NAT_CLOSING = 2, /* FIN or RST seen */
};

/* What becomes of packets with the key's tuple. A connection has two rows; each names the other's key, reversed. */
struct nat {
	struct tuple to;
	struct addr node; /* that tunnelled the client's first packet here; zero: it came by a device */
	__u64 expires_ns; /* coarse monotonic clock */
	__u32 ifindex;    /* the device that the client's first packet came by */
	__u32 backend;    /* id */
	__u8 kind;        /* enum nat_kind */
	__u8 state;       /* enum nat_state */
	__u8 here;        /* the backend is a pod of this node or the node itself: the client's address stays */
	__u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct tuple);
	__type(value, struct nat);
} nat_v1 SEC(".maps");
