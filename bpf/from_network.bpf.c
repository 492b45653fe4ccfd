//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * TC ingress of the device to other nodes. A shortcut only: a packet, or what the tunnel carries, of a flow whose entry
 * leads to a pod goes straight there. All others go on to the stack, which routes what is for pods to to_pod, or hands
 * it to the overlay device.
 */
#include "lib/fast.h"
#include "lib/license.h"

SEC("tc")
int from_network(struct __sk_buff *ctx)
{
	int code = LEAVE;

	if (ctx->pkt_type == PACKET_HOST)
		code = direct_ifindex ? go_fast(ctx, HOOK_FROM_NETWORK) : go_through(ctx);
	return code == LEAVE ? TC_ACT_UNSPEC : code;
}
