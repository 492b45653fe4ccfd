/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The tunnel's outer headers, written and taken off here for packets of the fast path: VXLAN (RFC 7348) over IPv4,
 * without the outer UDP checksum, exactly as the overlay device sends and takes it. Whatever is unusual is left to
 * that device, which stays the tunnel's other way at all times.
 */
#pragma once

#include "config.h"
#include "packet.h"
#include "tunnel.h"

#define VXLAN_FLAGS 0x08000000 /* the VNI is valid, nothing else is set */
#define ECN_MASK 3
#define ECN_CE 3
#define ETH_TYPE_OFF 12

/* Outside linux/bpf.h of older kernels. */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

struct udp_header {
	__be16 sport;
	__be16 dport;
	__be16 len;
	__be16 checksum;
};

/* What stands between the outer Ethernet header and the inner packet. */
struct outer {
	struct ipv4_header ip;
	struct udp_header udp;
	__be32 vxlan_flags;
	__be32 vni; /* and 8 reserved bits */
	__u8 macs[12];
	__be16 ethertype;
} __attribute__((packed));

/* The IPv4 header's checksum, over a header whose checksum is 0. */
static __always_inline __be16 ipv4_checksum(const struct ipv4_header *h)
{
	const __u16 *w = (const __u16 *)h;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* The source port tells a router between nodes which flow it is: a hash of the inner addresses and ports. */
static __always_inline __be16 outer_port(const struct flow_key *k)
{
	__u32 h = k->addr[0].w[2] ^ k->addr[0].w[3] ^ k->addr[1].w[2] ^ k->addr[1].w[3] ^
		  ((__u32)k->port[0] << 16 | k->port[1]);

	return bpf_htons(0xc000 | (h * 0x9E3779B1u) >> 18);
}

#define LOOPBACK_IFINDEX 1
#define IPV4_MAX_LEN 65535

/*
 * Asks the kernel's routes for the way to another node, as for a packet of this node's own, and whether the packet, or
 * each segment that it stands for, fits there with the outer headers. Nothing is remembered: routes, neighbours and
 * MTU may change at any time. False: it does not leave by the underlay device, or not like this.
 *
 * The length that all segments have together must fit into the outer header, too: whoever takes the packet unsegmented
 * believes it.
 */
static __always_inline bool find_way(struct __sk_buff *ctx, const struct pkt *p, const struct addr *remote,
				     struct bpf_redir_neigh *hop)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.ifindex = LOOPBACK_IFINDEX,
		.tot_len = (ctx->gso_size ? p->headers + ctx->gso_size : p->len - ETH_HLEN) + sizeof(struct outer),
		.ipv4_src = underlay_addr4,
		.ipv4_dst = remote->w[3],
	};

	if (p->len - ETH_HLEN + sizeof(struct outer) > IPV4_MAX_LEN)
		return false;
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS || fib.ifindex != underlay_ifindex)
		return false;
	hop->nh_family = fib.family;
	__builtin_memcpy(hop->ipv6_nh, fib.ipv6_dst, sizeof(fib.ipv6_dst)); /* or the IPv4 one, in its first word */
	return true;
}

/*
 * Sends the packet to the other node by the underlay device. Returns the program's result, or LEAVE with the packet as it
 * was.
 */
static __always_inline int send_encapsulated(struct __sk_buff *ctx, const struct pkt *p, __u32 identity,
					     const struct addr *remote)
{
	struct bpf_redir_neigh hop = {};
	struct outer *o;
	void *end;
	__u32 len;

	if (!underlay_addr4 || !addr_is_ipv4(remote) || p->ecn || !find_way(ctx, p, remote, &hop))
		return LEAVE;
	if (bpf_skb_adjust_room(ctx, sizeof(struct outer), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
				BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |
				BPF_F_ADJ_ROOM_ENCAP_L2_ETH))
		return LEAVE;
	o = (void *)(long)ctx->data + ETH_HLEN;
	end = (void *)(long)ctx->data_end;
	if ((void *)(o + 1) > end)
		return TC_ACT_SHOT; /* cannot be: the room was made in the linear part */
	len = ctx->len - ETH_HLEN;
	__builtin_memset(o, 0, sizeof(*o));
	o->ip.version_ihl = 0x45;
	o->ip.total = bpf_htons(len);
	o->ip.id = bpf_get_prandom_u32();
	o->ip.ttl = TUNNEL_TTL;
	o->ip.proto = PROTO_UDP;
	o->ip.src = underlay_addr4;
	o->ip.dst = remote->w[3];
	o->ip.checksum = ipv4_checksum((void *)o);
	o->udp.sport = outer_port(&p->key);
	o->udp.dport = vxlan_port;
	o->udp.len = bpf_htons(len - sizeof(o->ip));
	o->vxlan_flags = bpf_htonl(VXLAN_FLAGS);
	o->vni = bpf_htonl(identity << 8);
	__builtin_memcpy(o->macs, overlay_macs, sizeof(o->macs));
	o->ethertype = p->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return bpf_redirect_neigh(underlay_ifindex, &hop, sizeof(hop), 0);
}

/*
 * Reads the outer headers of a packet for this node's tunnel: the sender, the VNI, and the inner ethertype. False: it is
 * none, or an unusual one.
 */
static __always_inline bool read_outer(struct __sk_buff *ctx, struct pkt *p, __be16 *ethertype)
{
	struct outer *o = (void *)(long)ctx->data + ETH_HLEN;
	void *end = (void *)(long)ctx->data_end;

	if (ctx->vlan_present || ctx->protocol != bpf_htons(ETH_P_IP) || (void *)(o + 1) > end)
		return false;
	if (o->ip.version_ihl != 0x45 || o->ip.proto != PROTO_UDP || o->ip.dst != underlay_addr4 ||
	    o->udp.dport != vxlan_port || o->ip.fragment & bpf_htons(0x3fff) || (o->ip.tos & ECN_MASK) == ECN_CE)
		return false;
	if (o->udp.checksum || o->vxlan_flags != bpf_htonl(VXLAN_FLAGS))
		return false;
	p->underlay = addr_from_ipv4(o->ip.src);
	p->vni = vni_identity(bpf_ntohl(o->vni) >> 8);
	p->len -= sizeof(*o);
	*ethertype = o->ethertype;
	return true;
}

/* Takes the outer headers off. The Ethernet header that is left is the outer one. */
static __always_inline bool strip_outer(struct __sk_buff *ctx, const struct pkt *p)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;

	if (p->family == 6)
		flags |= ADJ_ROOM_DECAP_L3_IPV6;
	return !bpf_skb_adjust_room(ctx, -(__s32)sizeof(struct outer), BPF_ADJ_ROOM_MAC, flags);
}
