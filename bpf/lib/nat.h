/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Services for packets from the network: which backend a packet goes to, under which address and port, and who the answer
 * seems to come from. Nothing here touches the packet; see rewrite.h.
 */
#pragma once

#include "../maps/endpoints.h"
#include "../maps/nat.h"
#include "../maps/services.h"
#include "../maps/work.h"
#include "config.h"
#include "packet.h"

/* What find_translation found; a reason to drop is 128 or more. */
enum found {
	FOUND_NOTHING = 0, /* no business of services */
	FOUND_HERE = 1,    /* to a pod of this node, or the node itself */
	FOUND_AWAY = 2,    /* to a backend elsewhere */
	FOUND_REPLY = 3,   /* to a client */
};

/* Ports for clients whose address is changed: below those that the node's own sockets get, above those for few. */
#define NAT_PORT_FIRST 1024
#define NAT_PORT_COUNT 31744
#define NAT_TRIES 32
#define NAT_PICKS 5

static __always_inline void tuple_of(struct tuple *t, const struct pkt *p)
{
	__builtin_memset(t, 0, sizeof(*t));
	t->src = *src_of(p);
	t->dst = *dst_of(p);
	t->sport = p->sender ? p->key.port[1] : p->key.port[0];
	t->dport = p->sender ? p->key.port[0] : p->key.port[1];
	t->proto = p->key.proto;
}

static __always_inline void reverse(struct tuple *r, const struct tuple *t)
{
	r->src = t->dst;
	r->dst = t->src;
	r->sport = t->dport;
	r->dport = t->sport;
	r->proto = t->proto;
	__builtin_memset(r->pad, 0, sizeof(r->pad));
}

static __always_inline bool is_reverse(const struct tuple *a, const struct tuple *b)
{
	return addr_equal(&a->src, &b->dst) && addr_equal(&a->dst, &b->src) && a->sport == b->dport &&
	       a->dport == b->sport;
}

static __always_inline __u32 mix(__u32 h, __u32 word)
{
	h = (h ^ word) * 0x9E3779B1u;
	return h ^ h >> 15;
}

/* The same for every packet of a connection: what was forgotten is found again. See datapath.TupleHash. */
static __always_inline __u32 tuple_hash(const struct tuple *t)
{
	__u32 h = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		h = mix(h, bpf_ntohl(t->src.w[i]));
#pragma unroll
	for (int i = 0; i < 4; i++)
		h = mix(h, bpf_ntohl(t->dst.w[i]));
	h = mix(h, (__u32)t->sport << 16 | t->dport);
	return mix(h, t->proto);
}

static __always_inline bool nat_is_live(const struct nat *row)
{
	return row && row->expires_ns > now_ns();
}

static __always_inline __u64 nat_lifetime_ns(__u32 state, __u8 proto)
{
	if (state == NAT_CLOSING)
		return LIFETIME_NAT_CLOSING_S * NSEC_PER_SEC;
	if (state == NAT_NEW)
		return LIFETIME_NAT_NEW_S * NSEC_PER_SEC;
	return (proto == PROTO_TCP ? LIFETIME_NAT_TCP_S : LIFETIME_NAT_OTHER_S) * NSEC_PER_SEC;
}

/* The service of a frontend for packets from the network. */
static __always_inline struct service *find_external(const struct tuple *t)
{
	struct service_key key = {.addr = t->dst, .port = t->dport, .proto = t->proto, .scope = SCOPE_EXTERNAL};
	struct service *s = bpf_map_lookup_elem(&services_v2, &key);
	struct endpoint *ep;

	if (s)
		return s;
	key.addr = addr_any_like(&t->dst);
	s = bpf_map_lookup_elem(&services_v2, &key);
	if (!s)
		return NULL;
	ep = get_endpoint(&t->dst);
	return ep && ep->flags & ENDPOINT_HOST ? s : NULL;
}

static __always_inline struct backend *find_backend_of(__u32 id, const struct addr *frontend)
{
	struct backend *b = bpf_map_lookup_elem(&backends_v1, &id);

	return b && addr_is_ipv4(&b->addr) == addr_is_ipv4(frontend) ? b : NULL;
}

/* Picks a backend and notes its id: the client's last one while its affinity holds, else by the hash. */
static __always_inline struct backend *pick_by_hash(const struct tuple *t, struct service *s, __u32 hash, __u32 *id)
{
	struct affinity_key client = {.service = s->id};
	struct affinity last = {};
	struct backend *b = NULL;

	if (s->affinity_s && s->count) {
		struct affinity *row;

		/* There is no room for an address; two clients that share this share a backend. */
		client.netns_cookie = (__u64)(bpf_ntohl(t->src.w[0]) ^ bpf_ntohl(t->src.w[2])) << 32 |
				      (bpf_ntohl(t->src.w[1]) ^ bpf_ntohl(t->src.w[3]));
		last.used_ns = now_ns();
		row = bpf_map_lookup_elem(&affinity_v1, &client);
		if (row && last.used_ns - row->used_ns < s->affinity_s * NSEC_PER_SEC) {
			last.backend = row->backend;
			b = find_backend_of(row->backend, &t->dst);
		}
	}
	for (int i = 0; i < NAT_PICKS && !b && s->count; i++) {
		struct slot_key key = {.service = s->id, .slot = (hash + i) % s->count + 1};
		__u32 *slot = bpf_map_lookup_elem(&slots_v1, &key);

		if (slot) {
			last.backend = *slot;
			b = find_backend_of(*slot, &t->dst);
		}
	}
	if (b && s->affinity_s)
		bpf_map_update_elem(&affinity_v1, &client, &last, BPF_ANY);
	*id = last.backend;
	return b;
}

/* Writes the two rows of a connection. */
static __always_inline enum reason write_rows(struct work *w)
{
	struct nat *n = &w->nat;

	n->kind = NAT_REPLY;
	w->pair_row = *n;
	reverse(&w->pair_row.to, &w->tuple);
	n->kind = NAT_REQUEST;
	if (bpf_map_update_elem(&nat_v1, &w->pair, &w->pair_row, BPF_ANY) ||
	    bpf_map_update_elem(&nat_v1, &w->tuple, n, BPF_ANY))
		return REASON_FLOW_INSERT;
	return REASON_NONE;
}

/*
 * Finds a port for the client under which the backend's answers are nobody else's, and writes the rows. keep: the client's
 * own port comes first.
 */
static __always_inline enum reason reserve(struct work *w, __u32 hash, bool keep)
{
	struct nat *n = &w->nat;

	for (__u32 i = 0; i < NAT_TRIES; i++) {
		struct nat *row;

		if (keep && i == 0)
			n->to.sport = w->tuple.sport;
		else if (n->to.proto == PROTO_SCTP)
			break; /* its checksum cannot be mended */
		else
			n->to.sport = NAT_PORT_FIRST + (hash + i) % NAT_PORT_COUNT;
		reverse(&w->pair, &n->to);
		row = bpf_map_lookup_elem(&nat_v1, &w->pair);
		if (!nat_is_live(row) || (row->kind == NAT_REPLY && is_reverse(&row->to, &w->tuple)))
			return write_rows(w);
	}
	return REASON_NAT_NO_MAPPING;
}

/* Chooses the backend of a connection; the translation is in the work then. */
static __always_inline int choose(struct work *w, struct pkt *p)
{
	struct tuple *t = &w->tuple;
	struct service *s = find_external(t);
	struct nat *n = &w->nat;
	struct backend *b;
	enum reason r;
	__u32 hash;

	if (!s)
		return FOUND_NOTHING;
	hash = tuple_hash(t);
	__builtin_memset(n, 0, sizeof(*n));
	b = pick_by_hash(t, s, hash, &n->backend);
	if (!b)
		return REASON_NO_BACKEND;
	if (t->proto == PROTO_SCTP && b->port != t->dport)
		return REASON_NAT_PROTOCOL;
	n->to.src = t->src;
	n->to.dst = b->addr;
	n->to.dport = b->port;
	n->to.proto = t->proto;
	n->here = get_endpoint(&b->addr) != NULL;
	if (!n->here) {
		if (p->family == 4) {
			n->to.src = addr_from_ipv4(node_addr4);
		} else {
			n->to.src.w[0] = node_addr6[0];
			n->to.src.w[1] = node_addr6[1];
			n->to.src.w[2] = node_addr6[2];
			n->to.src.w[3] = node_addr6[3];
		}
		if (addr_is_any(&n->to.src))
			return REASON_NAT_NO_MAPPING;
	}
	if (p->hook == HOOK_FROM_OVERLAY)
		n->node = p->underlay;
	n->ifindex = p->ifindex;
	n->state = NAT_NEW;
	n->expires_ns = now_ns() + nat_lifetime_ns(NAT_NEW, t->proto);
	r = reserve(w, hash, n->here || t->proto == PROTO_SCTP);
	if (r)
		return r;
	return n->here ? FOUND_HERE : FOUND_AWAY;
}

/* Whether a row may go on serving a request. */
static __always_inline bool row_serves(const struct pkt *p, struct nat *row)
{
	if (row->kind == NAT_REPLY)
		return !row->here; /* what answers here does not come from the network */
	if (is_opening(p))
		return false;
	if (p->key.proto != PROTO_TCP && !bpf_map_lookup_elem(&backends_v1, &row->backend))
		return false;
	return row->here == (get_endpoint(&row->to.dst) != NULL);
}

/*
 * Takes the translation of a packet from its row, and renews that and the row of the other direction, which is written anew
 * if it is gone. False: somebody else has that one.
 */
static __always_inline bool use_row(struct work *w, const struct pkt *p, struct nat *row)
{
	struct nat *n = &w->nat, *pair;
	__u8 state = row->state;

	if (row->kind == NAT_REPLY && state == NAT_NEW)
		state = NAT_ANSWERED;
	if (p->key.proto == PROTO_TCP && p->tcp_flags & (TCP_FIN | TCP_RST))
		state = NAT_CLOSING;
	*n = *row;
	n->state = state;
	n->expires_ns = now_ns() + nat_lifetime_ns(state, p->key.proto);
	reverse(&w->pair, &n->to);
	pair = bpf_map_lookup_elem(&nat_v1, &w->pair);
	if (pair && pair->kind != n->kind && is_reverse(&pair->to, &w->tuple)) {
		pair->state = state;
		pair->expires_ns = n->expires_ns;
	} else if (!nat_is_live(pair)) {
		w->pair_row = *n;
		w->pair_row.kind = n->kind == NAT_REPLY ? NAT_REQUEST : NAT_REPLY;
		reverse(&w->pair_row.to, &w->tuple);
		bpf_map_update_elem(&nat_v1, &w->pair, &w->pair_row, BPF_ANY);
	} else {
		return false;
	}
	row->state = state;
	row->expires_ns = n->expires_ns;
	return true;
}

/* Whether a packet's protocol is one of services. */
static __always_inline bool is_translatable(const struct pkt *p)
{
	__u8 proto = p->key.proto;

	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP;
}

/*
 * Finds out what services have to do with the work's packet, and leaves the translation in the work's nat. Returns enum
 * found, or a reason to drop. A global function: the verifier walks it once.
 */
__noinline int find_translation(void)
{
	struct work *w = get_work();
	bool request, reply;
	struct nat *row;
	struct pkt *p;

	if (!w)
		return FOUND_NOTHING;
	p = &w->pkt;
	if (!is_translatable(p) || p->fragment_lost)
		return FOUND_NOTHING;
	/* The ports tell most packets from those of services. */
	request = is_port_of(PORT_OF_FRONTEND, p->port);
	reply = p->key.proto == PROTO_SCTP || (__u16)(p->port - NAT_PORT_FIRST) < NAT_PORT_COUNT;
	if (!request && !reply)
		return FOUND_NOTHING;
	tuple_of(&w->tuple, p);
	row = bpf_map_lookup_elem(&nat_v1, &w->tuple);
	if (!nat_is_live(row) || !row_serves(p, row) || !use_row(w, p, row))
		return request ? choose(w, p) : FOUND_NOTHING;
	if (w->nat.kind == NAT_REPLY)
		return FOUND_REPLY;
	return w->nat.here ? FOUND_HERE : FOUND_AWAY;
}

/* The same for the answer of a pod of this node: FOUND_REPLY, or FOUND_NOTHING if its row is gone. */
__noinline int find_answer(void)
{
	struct work *w = get_work();
	struct nat *row;

	if (!w)
		return FOUND_NOTHING;
	if (!is_translatable(&w->pkt) || w->pkt.fragment_lost)
		return FOUND_NOTHING;
	tuple_of(&w->tuple, &w->pkt);
	row = bpf_map_lookup_elem(&nat_v1, &w->tuple);
	if (!nat_is_live(row) || row->kind != NAT_REPLY)
		return FOUND_NOTHING;
	return use_row(w, &w->pkt, row) ? FOUND_REPLY : FOUND_NOTHING;
}
