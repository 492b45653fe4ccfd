/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The overlay: reading and writing the tunnel's outer header through the packet's metadata. */
#pragma once

#include "../maps/nodes.h"
#include "config.h"
#include "packet.h"
#include "verdict.h"

#define TUNNEL_TTL 64

/* datapath.OverlayMAC, then a source that differs: VXLAN drops what seems to come from itself. */
static const __u8 overlay_macs[12] = {
	0x02, 0x77, 0x65, 0x69, 0x72, 0x01, 0x02, 0x77, 0x65, 0x69, 0x72, 0x02,
};

/* Sets the tunnel key: identity as VNI, and the other node. */
static __noinline int set_tunnel(struct __sk_buff *ctx, __u32 identity, struct addr *remote)
{
	struct bpf_tunnel_key key = {.tunnel_id = identity, .tunnel_ttl = TUNNEL_TTL};
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (!overlay_ifindex || addr_is_zero(remote))
		return REASON_NO_TUNNEL_ENDPOINT;
	if (addr_is_ipv4(remote)) {
		key.remote_ipv4 = bpf_ntohl(remote->w[3]);
	} else {
		flags = BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(key.remote_ipv6, remote, sizeof(*remote));
	}
	if (bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), flags) ||
	    bpf_skb_store_bytes(ctx, 0, overlay_macs, sizeof(overlay_macs), 0))
		return REASON_NO_TUNNEL_ENDPOINT;
	return REASON_NONE;
}

/* Sends the packet to a node that is a neighbour; the kernel resolves its address. */
static __always_inline int send_direct(const struct addr *node)
{
	struct bpf_redir_neigh hop = {};

	if (!direct_ifindex)
		return TC_ACT_OK;
	if (addr_is_ipv4(node)) {
		hop.nh_family = AF_INET;
		hop.ipv4_nh = node->w[3];
	} else {
		hop.nh_family = AF_INET6;
		__builtin_memcpy(hop.ipv6_nh, node, sizeof(*node));
	}
	return bpf_redirect_neigh(direct_ifindex, &hop, sizeof(hop), 0);
}

/* The identity that a VNI stands for: nobody else is this node. */
static __always_inline __u32 vni_identity(__u32 vni)
{
	return vni <= IDENTITY_HOST ? IDENTITY_REMOTE_NODE : vni;
}

/* Reads the tunnel key into vni and underlay. */
static __always_inline struct verdict read_tunnel(struct __sk_buff *ctx, struct pkt *p)
{
	struct bpf_tunnel_key key = {};

	if (test_tunnel_from_cb) {
		key.tunnel_id = ctx->cb[0];
		key.remote_ipv4 = ctx->cb[1];
		if (!key.remote_ipv4)
			return drop(REASON_TUNNEL_KEY, INGRESS);
		p->underlay = addr_from_ipv4(bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(ctx, &key, sizeof(key), 0)) {
		p->underlay = addr_from_ipv4(bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(ctx, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		__builtin_memcpy(&p->underlay, key.remote_ipv6, sizeof(p->underlay));
	} else {
		return drop(REASON_TUNNEL_KEY, INGRESS);
	}
	p->vni = vni_identity(key.tunnel_id);
	return go_on();
}

static __always_inline struct verdict check_sender(struct pkt *p)
{
	if (!bpf_map_lookup_elem(&nodes_v1, &p->underlay))
		return drop(REASON_UNKNOWN_SENDER, INGRESS);
	return go_on();
}
