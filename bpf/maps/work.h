/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once

#include "../lib/packet.h"
#include "nat.h"

/*
 * Room for one packet's work on this CPU: more than the stack of 512 bytes holds. TC programs run with
 * bottom halves off, so no other run on the same CPU comes in between.
 */
struct work {
	struct pkt pkt;
	struct pkt inner;
	struct flow flow; /* as it is being judged */
	struct flow old;  /* RENEW: as it was; else zero */
	__u32 renewal;
	__u32 pad;
	struct tuple tuple;  /* of the packet, as it came */
	struct tuple pair;   /* key of the row of the other direction */
	struct nat nat;      /* what becomes of the packet */
	struct nat pair_row; /* being written */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} work_v1 SEC(".maps");

static __always_inline struct work *get_work(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&work_v1, &zero);
}
