//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TC egress of cilium_host: what the node itself sends to pods of other nodes. */
#include "lib/finish.h"
#include "lib/license.h"
#include "lib/read.h"
#include "lib/tunnel.h"
#include "maps/endpoints.h"
#include "maps/ipcache.h"
#include "maps/work.h"

static __always_inline struct verdict tunnel_by_address(struct __sk_buff *ctx, struct pkt *p)
{
	struct ipcache *row = get_ipcache(dst_of(p));
	struct endpoint *ep = get_endpoint(src_of(p));
	struct verdict v = pass(EGRESS);

	/* What a pod sent to the stack for want of an ipcache row must not leave as the node's own. */
	if (!ep || !(ep->flags & ENDPOINT_HOST))
		return drop(REASON_INVALID_SOURCE, EGRESS);
	if (!row || row->direct || addr_is_zero(&row->tunnel))
		return v;
	v.reason = set_tunnel(ctx, IDENTITY_REMOTE_NODE, &row->tunnel);
	v.action = v.reason ? DROP : TUNNEL;
	return v;
}

SEC("tc")
int from_host(struct __sk_buff *ctx)
{
	struct work *w = get_work();
	struct verdict v;
	struct pkt *p;

	if (!w)
		return TC_ACT_SHOT;
	p = &w->pkt;
	begin(ctx, p, HOOK_FROM_HOST);
	v = read_packet(ctx, p);
	if (v.action == GO_ON)
		v = tunnel_by_address(ctx, p);
	return finish(ctx, p, NULL, v);
}
