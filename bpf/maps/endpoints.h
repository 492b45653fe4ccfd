/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

enum endpoint_flag {
	ENDPOINT_HOST = 1, /* the address is the node's own */
};

struct endpoint {
	__u16 id;
	__u16 flags; /* enum endpoint_flag */
	__u32 identity;
	__u32 ifindex;    /* host side of the pod's veth */
	__u8 mac[6];      /* pod side */
	__u8 node_mac[6]; /* host side */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct addr);
	__type(value, struct endpoint);
} endpoints_v1 SEC(".maps");

/* One word of 8 bytes, written and read at once: a new policy and its epoch come together. */
struct ep_policy {
	__u32 policy;
	__u32 epoch;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ENDPOINT_COUNT);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct ep_policy);
} ep_policy_v1 SEC(".maps");

static __always_inline struct ep_policy get_ep_policy(__u32 endpoint)
{
	struct ep_policy word = {};
	__u64 *v = bpf_map_lookup_elem(&ep_policy_v1, &endpoint);

	if (v) {
		__u64 both = *(volatile __u64 *)v;

		word.policy = (__u32)both;
		word.epoch = both >> 32;
	}
	return word;
}

static __always_inline struct endpoint *get_endpoint(const struct addr *a)
{
	return bpf_map_lookup_elem(&endpoints_v1, a);
}
