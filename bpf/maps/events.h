/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/flow.h"

/* core/datapath's Event, as it lies in the ring. */
struct event {
	__u64 timestamp_ns; /* since boot, suspended time included */
	__u64 packets[2];   /* EVENT_CLOSE: of the side that opened the flow, and of the other */
	__u64 bytes[2];
	struct addr src;
	struct addr dst;
	__u32 src_identity;
	__u32 dst_identity;
	__u32 egress_cookie;
	__u32 ingress_cookie;
	__u32 ifindex;
	__u32 length;
	__u16 src_port;
	__u16 dst_port;
	__u16 src_endpoint;
	__u16 dst_endpoint;
	__u8 type;      /* enum event_type */
	__u8 reason;    /* enum reason */
	__u8 point;     /* enum point */
	__u8 direction; /* enum direction */
	__u8 proto;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 family; /* 4, 6; 0: the addresses could not be read */
	__u8 reply;
	__u8 egress_judged;
	__u8 ingress_judged;
	__u8 pad[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events_v1 SEC(".maps");

/* Events that did not fit. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} lost_v1 SEC(".maps");
