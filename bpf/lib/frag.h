/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Fragments: the first one's ports, kept for the later ones. */
#pragma once

#include "../maps/frags.h"
#include "packet.h"

static __always_inline struct frag_key frag_key_of(const struct pkt *p)
{
	struct frag_key k = {.src = *src_of(p), .dst = *dst_of(p), .id = p->fragment_id, .proto = p->fragment_proto};
	return k;
}

static __always_inline struct frag *find_frag(const struct pkt *p)
{
	struct frag_key k = frag_key_of(p);
	return bpf_map_lookup_elem(&frags_v1, &k);
}

/* Notes an allowed first fragment. A full table costs the later fragments, never a judgement. */
static __always_inline void note_frag(const struct pkt *p)
{
	struct frag_key k;
	struct frag v = {
		.sport = p->sender ? p->key.port[1] : p->key.port[0],
		.dport = p->sender ? p->key.port[0] : p->key.port[1],
		.proto = p->key.proto,
		.icmp_type = p->icmp_type,
		.icmp_code = p->icmp_code,
	};

	if (p->fragment != FRAGMENT_FIRST)
		return;
	k = frag_key_of(p);
	bpf_map_update_elem(&frags_v1, &k, &v, BPF_ANY);
}
