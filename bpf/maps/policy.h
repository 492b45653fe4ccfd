/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4 * CLASS_COUNT);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} classes_v1 SEC(".maps");

/* Prefix-matched from the left; 72 bits stand before the protocol, which counts 8, the port 16. */
struct policy_key {
	__u32 prefix_bits;
	__u32 policy;
	__u32 class;
	__u8 direction;
	__u8 proto;
	__be16 port_be;
};

struct policy {
	__u32 cookie;
	__u16 proxy_port;
	__u8 allow;
	__u8 prefix_bits; /* of the row's key, which a lookup does not return */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct policy_key);
	__type(value, struct policy);
} policy_v1 SEC(".maps");
