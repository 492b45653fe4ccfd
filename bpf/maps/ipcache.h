/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/addr.h"

struct ipcache_key {
	__u32 prefix_bits; /* IPv4: 96 and the prefix's own */
	struct addr addr;
};

struct ipcache {
	__u32 identity;
	__u8 family; /* 4, 6: a short IPv6 prefix such as ::/0 must not catch IPv4 */
	__u8 prefix_bits; /* of the row's key, which a lookup does not return */
	__u8 direct; /* the node is a neighbour: nothing is encapsulated */
	__u8 pad;
	struct addr tunnel; /* the node to send to; zero: the stack knows the way */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct ipcache_key);
	__type(value, struct ipcache);
} ipcache_v1 SEC(".maps");

static __always_inline struct ipcache *get_ipcache(const struct addr *a)
{
	struct ipcache_key key = {.prefix_bits = 128, .addr = *a};
	struct ipcache *row = bpf_map_lookup_elem(&ipcache_v1, &key);

	if (row && (row->family == 4) != addr_is_ipv4(a))
		return NULL;
	return row;
}
