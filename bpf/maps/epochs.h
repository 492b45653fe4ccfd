/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ADDR_BUCKETS + 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} addr_epoch_v1 SEC(".maps");

static __always_inline __u32 get_addr_epoch(__u32 bucket)
{
	__u32 *v = bpf_map_lookup_elem(&addr_epoch_v1, &bucket);
	return v ? *(volatile __u32 *)v : 0;
}

/* The epoch of everything. */
static __always_inline __u32 get_epoch(void)
{
	return get_addr_epoch(ADDR_BUCKETS);
}
