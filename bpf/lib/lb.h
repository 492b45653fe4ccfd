/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Socket load balancing: a service's address becomes a backend's before a packet exists. */
#pragma once

#include "../maps/endpoints.h"
#include "../maps/nodes.h"
#include "../maps/services.h"
#include "addr.h"
#include "config.h"
#include "flow.h"

#define MAX_PICKS 5
#define ECONNREFUSED 111

/* The peer of a socket call. */
struct peer {
	struct addr addr;
	__u16 port;
	__u8 proto;
};

enum lb_result {
	LB_NONE = 0,    /* not a service: leave the call alone */
	LB_BACKEND = 1, /* the peer has become a backend */
	LB_REFUSE = 2,
};

static __always_inline bool balances(__u32 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP;
}

static __always_inline struct service *find_service(const struct addr *a, __u16 port, __u8 proto)
{
	struct service_key key = {.addr = *a, .port = port, .proto = proto, .scope = SCOPE_INTERNAL};
	return bpf_map_lookup_elem(&services_v2, &key);
}

/* Loopback addresses are every namespace's own: what is served there is for callers in the node's. */
static __always_inline bool is_node_itself(struct bpf_sock_addr *ctx)
{
	return node_netns_cookie && bpf_get_netns_cookie(ctx) == node_netns_cookie;
}

/*
 * The service that has the peer's port at every address of a node, if the peer is one: this one, another one unless the
 * row is for this one alone, or loopback in the node's own namespace. Few ports have such a row, so it is asked for first.
 */
static __noinline struct service *find_node_service(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	struct addr any = addr_any_like(&peer->addr);
	struct service *s = find_service(&any, peer->port, peer->proto);
	struct endpoint *ep;

	if (!s)
		return NULL;
	if (addr_is_loopback(&peer->addr))
		return is_node_itself(ctx) ? s : NULL;
	ep = get_endpoint(&peer->addr);
	if (ep && ep->flags & ENDPOINT_HOST)
		return s;
	if (!(s->flags & SERVICE_LOCAL) && bpf_map_lookup_elem(&nodes_v1, &peer->addr))
		return s;
	return NULL;
}

/* A backend that the caller's family can reach. */
static __always_inline struct backend *find_backend(__u32 id, const struct addr *frontend)
{
	struct backend *b = bpf_map_lookup_elem(&backends_v1, &id);

	if (b && addr_is_ipv4(&b->addr) != addr_is_ipv4(frontend))
		return NULL;
	return b;
}

/* Picks a backend: the client's last one while its affinity holds, else a random slot. */
static __always_inline struct backend *pick_backend(struct bpf_sock_addr *ctx, struct service *s,
						    const struct addr *frontend)
{
	struct affinity_key client = {.service = s->id};
	struct backend *b = NULL;
	struct affinity last = {};

	if (s->affinity_s && s->count) {
		struct affinity *row;

		client.netns_cookie = bpf_get_netns_cookie(ctx);
		last.used_ns = now_ns();
		row = bpf_map_lookup_elem(&affinity_v1, &client);
		if (row && last.used_ns - row->used_ns < s->affinity_s * NSEC_PER_SEC) {
			last.backend = row->backend;
			b = find_backend(row->backend, frontend);
		}
	}
	for (int i = 0; i < MAX_PICKS && !b && s->count; i++) {
		struct slot_key key = {.service = s->id, .slot = bpf_get_prandom_u32() % s->count + 1};
		__u32 *id = bpf_map_lookup_elem(&slots_v1, &key);

		if (id) {
			last.backend = *id;
			b = find_backend(*id, frontend);
		}
	}
	if (b && s->affinity_s)
		bpf_map_update_elem(&affinity_v1, &client, &last, BPF_ANY);
	return b;
}

/*
 * Turns the peer of a call into a backend, and notes the frontend for answers. Most calls are for no service: what only
 * services need is asked for last.
 */
static __noinline int balance(struct bpf_sock_addr *ctx, struct peer *peer)
{
	struct service *s = find_service(&peer->addr, peer->port, peer->proto);
	struct sock_rev frontend = {.addr = peer->addr, .port = peer->port};
	struct sock_rev_key key = {.proto = peer->proto};
	struct backend *b;

	/* The unspecified address is the node's own, as the loopback ones are: its row is found either way. */
	if (!s) {
		s = find_node_service(ctx, peer);
		frontend.wildcard = 1;
	} else if (addr_is_loopback(&peer->addr) && !is_node_itself(ctx)) {
		return LB_NONE;
	}
	if (!s)
		return LB_NONE;
	b = pick_backend(ctx, s, &peer->addr);
	if (!b)
		return LB_REFUSE;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.addr = peer->addr = b->addr;
	key.port = peer->port = b->port;
	bpf_map_update_elem(&sock_rev_v1, &key, &frontend, BPF_ANY);
	return LB_BACKEND;
}

/* Turns a backend that this socket reached through a service back into the frontend. */
static __noinline int unbalance(struct peer *peer, __u64 socket_cookie)
{
	struct sock_rev_key key = {
		.cookie = socket_cookie, .addr = peer->addr, .port = peer->port, .proto = peer->proto,
	};
	struct sock_rev *frontend = bpf_map_lookup_elem(&sock_rev_v1, &key);
	struct addr row;

	if (!frontend)
		return LB_NONE;
	row = frontend->wildcard ? addr_any_like(&frontend->addr) : frontend->addr;
	if (!find_service(&row, frontend->port, peer->proto))
		return LB_NONE;
	peer->addr = frontend->addr;
	peer->port = frontend->port;
	return LB_BACKEND;
}
