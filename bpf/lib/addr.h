/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What can be told from an address alone. */
#pragma once

#include "types.h"

static __always_inline struct addr addr_from_ipv4(__be32 ip)
{
	struct addr a = {.w = {0, 0, bpf_htonl(0xffff), ip}};
	return a;
}

static __always_inline bool addr_is_ipv4(const struct addr *a)
{
	return (a->w[0] | a->w[1]) == 0 && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline bool addr_is_zero(const struct addr *a)
{
	return (a->w[0] | a->w[1] | a->w[2] | a->w[3]) == 0;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return ((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3])) == 0;
}

/* Whether a stands after b when their bytes are compared from the left. */
static __always_inline bool addr_after(const struct addr *a, const struct addr *b)
{
	if (a->w[0] != b->w[0])
		return bpf_ntohl(a->w[0]) > bpf_ntohl(b->w[0]);
	if (a->w[1] != b->w[1])
		return bpf_ntohl(a->w[1]) > bpf_ntohl(b->w[1]);
	if (a->w[2] != b->w[2])
		return bpf_ntohl(a->w[2]) > bpf_ntohl(b->w[2]);
	return bpf_ntohl(a->w[3]) > bpf_ntohl(b->w[3]);
}

/* The unspecified address of a family. */
static __always_inline bool addr_is_any(const struct addr *a)
{
	return (a->w[0] | a->w[1] | a->w[3]) == 0 && (a->w[2] == 0 || a->w[2] == bpf_htonl(0xffff));
}

static __always_inline struct addr addr_any_like(const struct addr *a)
{
	struct addr any = {.w = {0, 0, addr_is_ipv4(a) ? bpf_htonl(0xffff) : 0, 0}};
	return any;
}

/* 127.0.0.1, ::1, and the unspecified addresses: a socket that names those means itself, too. */
static __always_inline bool addr_is_loopback(const struct addr *a)
{
	if (addr_is_ipv4(a))
		return a->w[3] == bpf_htonl(0x7f000001) || a->w[3] == 0;
	return (a->w[0] | a->w[1] | a->w[2]) == 0 && bpf_ntohl(a->w[3]) <= 1;
}

/* Multicast, and the broadcast address of IPv4. */
static __always_inline bool addr_is_multicast(const struct addr *a)
{
	if (addr_is_ipv4(a)) {
		__u32 ip = bpf_ntohl(a->w[3]);
		return ip >> 28 == 0xe || ip == 0xffffffff;
	}
	return bpf_ntohl(a->w[0]) >> 24 == 0xff;
}

/* The bucket whose epoch makes flows with this address stale; below ADDR_BUCKETS. */
static __always_inline __u32 addr_bucket(const struct addr *a)
{
	__u32 h = bpf_ntohl(a->w[0]) ^ bpf_ntohl(a->w[1]) ^ bpf_ntohl(a->w[2]) ^ bpf_ntohl(a->w[3]);
	return h * 0x9E3779B1u >> 20;
}
