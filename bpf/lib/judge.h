/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Policy: from an endpoint and a peer to "allow" or a reason, with the rule's cookie. */
#pragma once

#include "../maps/endpoints.h"
#include "../maps/policy.h"

static __always_inline __u32 class_index(__u32 identity)
{
	if (identity <= IDENTITY_MAX_CLUSTER)
		return identity;
	if (identity >> 16 == IDENTITY_LOCAL_FLAG >> 16)
		return LOCAL_CLASS_BASE + (identity & 0xffff);
	return 0;
}

/*
 * Returns the cookie in the high half and the reason (0: allowed) in the low. A global function: the
 * verifier walks it once, not once a caller.
 */
__noinline __u64 judge(__u32 endpoint, __u32 direction, __u32 peer, __u32 proto, __u32 port)
{
	struct policy_key key = {
		.prefix_bits = 96,
		.direction = direction,
		.proto = proto,
		.port_be = bpf_htons(port),
	};
	struct policy *row;
	__u32 *class, index;

	key.policy = get_ep_policy(endpoint & 0xffff).policy;
	if (!key.policy)
		return REASON_NOT_READY;
	index = (key.policy >> GENERATION_SHIFT) * CLASS_COUNT + class_index(peer);
	class = bpf_map_lookup_elem(&classes_v1, &index);
	if (class)
		key.class = *(volatile __u32 *)class;

	row = bpf_map_lookup_elem(&policy_v1, &key);
	if (!row && key.class) {
		key.class = 0;
		row = bpf_map_lookup_elem(&policy_v1, &key);
	}
	if (!row)
		return REASON_POLICY_DENIED;
	if (row->allow)
		return (__u64)row->cookie << 32;
	return (__u64)row->cookie << 32 |
	       (row->cookie & COOKIE_DENY ? REASON_POLICY_DENY : REASON_POLICY_DENIED);
}
