//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * TC ingress of the device on which other nodes are neighbours. A shortcut only: a packet of a flow whose entry leads
 * to a pod goes straight there. All others go on to the stack, which routes what is for pods to to_pod.
 */
#include "lib/fast.h"
#include "lib/license.h"

SEC("tc")
int from_network(struct __sk_buff *ctx)
{
	int code = LEAVE;

	if (ctx->pkt_type == PACKET_HOST)
		code = go_fast(ctx, HOOK_FROM_NETWORK);
	return code == LEAVE ? TC_ACT_UNSPEC : code;
}
