/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/types.h"

struct service_key {
	struct addr addr;
	__u16 port;
	__u8 proto;
	__u8 scope; /* enum scope */
};

struct service {
	__u32 id;
	__u32 count;      /* slots in use, numbered from 1 */
	__u32 affinity_s; /* 0: none */
	__u32 flags;      /* enum service_flag */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct service_key);
	__type(value, struct service);
} services_v2 SEC(".maps");

struct slot_key {
	__u32 service;
	__u32 slot;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct slot_key);
	__type(value, __u32);
} slots_v1 SEC(".maps");

struct backend {
	struct addr addr;
	__u16 port;
	__u8 proto;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct backend);
} backends_v1 SEC(".maps");

enum port_use {
	PORT_OF_FRONTEND = 0, /* of a row of scope external */
	PORT_OF_BACKEND = 1,
};

/* A bit for each port and use that it has, or ever had: packets of others need not be looked up. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * 65536 / 64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} nat_ports_v1 SEC(".maps");

static __always_inline bool is_port_of(enum port_use use, __u16 port)
{
	__u32 word = (use * 65536 + port) / 64;
	__u64 *bits = bpf_map_lookup_elem(&nat_ports_v1, &word);

	return bits && *(volatile __u64 *)bits >> (port % 64) & 1;
}

/* A client is a network namespace. */
struct affinity_key {
	__u64 netns_cookie;
	__u32 service;
	__u32 pad;
};

struct affinity {
	__u64 used_ns; /* coarse monotonic clock */
	__u32 backend;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
} affinity_v1 SEC(".maps");

struct sock_rev_key {
	__u64 cookie;
	struct addr addr; /* of the backend */
	__u16 port;
	__u8 proto;
	__u8 pad[5];
};

struct sock_rev {
	struct addr addr; /* of the frontend */
	__u16 port;
	__u8 wildcard; /* the service's row was the one for every address of a node */
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct sock_rev_key);
	__type(value, struct sock_rev);
} sock_rev_v1 SEC(".maps");
