/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

struct counter {
	__u64 packets;
	__u64 bytes;
};

/* Index: reason * 2 + direction. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 512);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counter);
} counters_v1 SEC(".maps");

static __always_inline void count_packet(__u8 reason, __u8 direction, __u32 len)
{
	__u32 i = (__u32)reason * 2 + (direction & 1);
	struct counter *c = bpf_map_lookup_elem(&counters_v1, &i);

	if (c) {
		c->packets++;
		c->bytes += len;
	}
}
