/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

struct frag_key {
	struct addr src;
	struct addr dst;
	__u32 id;
	__u8 proto; /* as the fragment header says; extension headers may follow it */
	__u8 pad[3];
};

/* What only the first fragment carries. */
struct frag {
	__u16 sport; /* as in the flow key */
	__u16 dport;
	__u8 proto;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct frag_key);
	__type(value, struct frag);
} frags_v1 SEC(".maps");
