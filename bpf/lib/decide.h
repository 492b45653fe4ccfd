/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The slow path: who the two sides are, what policy says, and the flow entry that remembers it. New flows
 * and renewals go the same way; a renewal is judged in the orientation of the entry, whoever sent the packet.
 */
#pragma once

#include "../maps/endpoints.h"
#include "../maps/epochs.h"
#include "../maps/flows.h"
#include "../maps/ipcache.h"
#include "../maps/work.h"
#include "config.h"
#include "events.h"
#include "judge.h"
#include "nat.h"
#include "packet.h"

static __always_inline enum way hook_way(__u8 hook)
{
	if (hook == HOOK_FROM_POD)
		return WAY_POD;
	return hook == HOOK_FROM_OVERLAY ? WAY_OVERLAY : WAY_STACK;
}

static __always_inline bool is_pod(const struct endpoint *ep)
{
	return ep && !(ep->flags & ENDPOINT_HOST);
}

/* Fills a side that is a pod of this node. */
static __always_inline enum reason fill_pod(struct pkt *p, struct flow *f, struct flow_side *s,
					    const struct addr *a, struct endpoint *ep)
{
	__u16 id = ep->id;

	/*
	 * The epoch must be older than the row that it vouches for, but only the row names the endpoint: so
	 * the row is read again. If it has changed hands meanwhile, the entry is stale from the start.
	 */
	s->epoch = get_ep_policy(id).epoch;
	ep = get_endpoint(a);
	if (!is_pod(ep))
		return REASON_UNKNOWN_TARGET;
	if (ep->id != id)
		f->epoch = ~f->epoch;
	if (p->hook == HOOK_TO_POD && s == side_of(f, p->sender ^ 1) && ep->ifindex != p->ifindex)
		return REASON_UNKNOWN_TARGET;
	if (p->hook == HOOK_FROM_POD && s == side_of(f, p->sender) && ep->ifindex != p->ifindex)
		return REASON_INVALID_SOURCE;
	s->way = WAY_POD;
	s->route = ROUTE_PEER;
	s->endpoint = ep->id;
	s->identity = ep->identity;
	s->vni = ep->identity;
	s->ifindex = ep->ifindex;
	s->out_ifindex = ep->ifindex;
	__builtin_memcpy(s->dst_mac, ep->mac, 6);
	__builtin_memcpy(s->src_mac, ep->node_mac, 6);
	return REASON_NONE;
}

static __always_inline bool is_other_node(__u32 identity)
{
	return identity == IDENTITY_REMOTE_NODE || identity == IDENTITY_KUBE_APISERVER;
}

/* Fills a side that is not a pod of this node: the host, a pod or node elsewhere, the world. */
static __always_inline void fill_other(struct pkt *p, struct flow_side *s, const struct flow_side *was,
				       const struct addr *a, struct endpoint *ep, __u8 way, bool known_way,
				       bool initiator, bool sender)
{
	struct ipcache *row = get_ipcache(a);
	bool host = ep && !is_pod(ep);
	struct addr tunnel = {};
	bool direct = false;

	s->identity = addr_is_ipv4(a) ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
	if (row)
		s->identity = row->identity;
	if (host)
		s->identity = ep->identity;
	if (row && !host) {
		tunnel = row->tunnel;
		direct = row->direct;
	}
	if (!known_way)
		way = addr_is_zero(&tunnel) || direct ? WAY_STACK : WAY_OVERLAY;

	/* The opener's way is the way back, whatever the tables say. */
	if (initiator && way == WAY_OVERLAY) {
		__u32 said = sender ? p->vni : was->identity;

		/* All nodes send one VNI: which of them serve the API is known by address. */
		if (!(row && !host && is_other_node(said) && is_other_node(row->identity)))
			s->identity = said;
		if (addr_is_zero(&tunnel))
			tunnel = sender ? p->underlay : was->tunnel;
	}
	s->vni = s->identity;
	if (way == WAY_OVERLAY) {
		s->ifindex = overlay_ifindex;
		if (sender)
			s->vni = p->vni;
		else if (was->way == WAY_OVERLAY)
			s->vni = was->vni;
	}
	s->way = way;
	if (addr_is_zero(&tunnel))
		return;
	/* What came through the overlay is answered there, even by a node that is a neighbour now. */
	if (direct && way == WAY_STACK)
		s->route = ROUTE_DIRECT;
	else if (!(initiator && way == WAY_STACK))
		s->route = ROUTE_TUNNEL;
	else
		return;
	s->tunnel = tunnel;
}

static __always_inline enum reason fill_side(struct pkt *p, struct work *w, struct flow *f, __u32 k)
{
	struct flow_side *s = side_of(f, k), *was = side_of(&w->old, k);
	bool sender = k == p->sender, receiver = !sender && p->sender != SENDER_NONE;
	bool initiator = k == f->initiator;
	/* from_network has seen to it, and the end of this function does. */
	bool towards_pod = p->hook == HOOK_TO_POD || p->hook == HOOK_FROM_OVERLAY;
	struct addr a = k ? p->key.addr[1] : p->key.addr[0];
	bool known_way = true;
	struct endpoint *ep;
	enum reason r;
	__u8 way;

	s->bucket = addr_bucket(&a);
	s->epoch = get_addr_epoch(s->bucket);
	ep = get_endpoint(&a);

	if (sender)
		way = hook_way(p->hook);
	else if (receiver && towards_pod)
		way = WAY_POD;
	else if (initiator && w->renewal)
		way = was->way;
	else
		known_way = false, way = is_pod(ep) ? WAY_POD : WAY_STACK;
	/* An address of a pod here is never answered but judged as that pod. */
	if (!initiator && is_pod(ep))
		way = WAY_POD;

	if (way == WAY_POD) {
		r = is_pod(ep) ? fill_pod(p, f, s, &a, ep) : REASON_UNKNOWN_TARGET;
		if (r == REASON_UNKNOWN_TARGET && sender && p->hook == HOOK_FROM_POD &&
		    !(initiator && was->way == WAY_POD))
			r = REASON_INVALID_SOURCE;
		return r;
	}
	if (receiver && p->hook == HOOK_FROM_POD && addr_is_multicast(&a))
		return REASON_UNKNOWN_TARGET;
	fill_other(p, s, was, &a, ep, way, known_way, initiator, sender);
	/* From the wire only pods of neighbours are taken at their word. */
	return p->hook == HOOK_FROM_NETWORK && (ep || s->route != ROUTE_DIRECT) ? REASON_INVALID_SOURCE : REASON_NONE;
}

/* Finds out who side k is, in the work's flow. inner: of the packet inside an ICMP error. */
__noinline int resolve(__u32 inner, __u32 k)
{
	struct work *w = get_work();

	if (!w)
		return REASON_UNKNOWN_TARGET;
	return fill_side(inner ? &w->inner : &w->pkt, w, &w->flow, k & 1);
}

/* Asks one policy. Returns its reason to refuse, or 0. */
static __always_inline enum reason ask(struct pkt *p, struct flow *f, enum direction d)
{
	struct flow_side *self = side_of(f, d == EGRESS ? f->initiator : f->initiator ^ 1);
	struct flow_side *peer = side_of(f, d == EGRESS ? f->initiator ^ 1 : f->initiator);
	__u64 answer;

	if (self->way != WAY_POD)
		return REASON_NONE;
	answer = judge(self->endpoint, d, peer->identity, p->key.proto, f->port);
	if (d == EGRESS) {
		f->egress_cookie = answer >> 32;
		f->flags |= FLOW_EGRESS_JUDGED;
	} else {
		f->ingress_cookie = answer >> 32;
		f->flags |= FLOW_INGRESS_JUDGED;
	}
	f->direction = d;
	return (__u32)answer;
}

/* Fills f with what the tables say now about the packet's flow. */
static __always_inline enum reason judge_flow(struct pkt *p, struct work *w, struct flow *f, __u32 inner)
{
	__u32 first = p->sender & 1;
	enum reason r;

	__builtin_memset(f, 0, sizeof(*f));
	f->initiator = (w->renewal ? w->old.initiator : p->sender) & 1;
	f->port = w->renewal ? w->old.port : p->port;
	f->direction = hook_direction(p->hook);
	f->epoch = get_epoch();
	r = resolve(inner, first);
	if (!r)
		r = resolve(inner, first ^ 1);
	if (!r)
		r = ask(p, f, EGRESS);
	if (!r)
		r = ask(p, f, INGRESS);
	if (!r && !(f->flags & (FLOW_EGRESS_JUDGED | FLOW_INGRESS_JUDGED)))
		r = REASON_UNKNOWN_TARGET; /* nobody here answers for it */
	return r;
}

/* Takes over what a renewal keeps. */
static __always_inline void keep_history(struct flow *f, struct flow *old)
{
	f->created_ns = old->created_ns;
	f->expires_ns = old->expires_ns;
	f->state = old->state;
	f->flags |= old->flags & (FLOW_SEEN_NON_SYN | FLOW_TRANSLATED);
#define KEEP(field) f->side[0].field = old->side[0].field, f->side[1].field = old->side[1].field
	KEEP(packets);
	KEEP(bytes);
	KEEP(tcp_flags);
#undef KEEP
}

/* Whether the initiator, from outside, was led to a pod here by a service: then the pod's answers have a row. */
static __always_inline bool is_translated(struct pkt *p, struct work *w, struct flow *f)
{
	struct flow_side *client = side_of(f, f->initiator), *pod = side_of(f, f->initiator ^ 1);
	struct tuple *t = &w->pair;
	struct nat *row;
	__u32 i = f->initiator & 1;

	if (!translates || !is_translatable(p) || client->route == ROUTE_PEER || pod->way != WAY_POD)
		return false;
	__builtin_memset(t, 0, sizeof(*t));
	t->src = i ? p->key.addr[0] : p->key.addr[1];
	t->dst = i ? p->key.addr[1] : p->key.addr[0];
	t->sport = i ? p->key.port[0] : p->key.port[1];
	t->dport = i ? p->key.port[1] : p->key.port[0];
	t->proto = p->key.proto;
	row = bpf_map_lookup_elem(&nat_v1, t);
	return nat_is_live(row) && row->kind == NAT_REPLY;
}

/* A renewal was refused: the entry stays as a tombstone, or goes if its opener is gone. */
static __always_inline void refuse_renewal(struct pkt *p, struct flow *old, struct flow *f, enum reason r)
{
	bool policy = f->flags & (FLOW_EGRESS_JUDGED | FLOW_INGRESS_JUDGED);

	if (policy && r != REASON_UNKNOWN_TARGET) {
		f->flags |= FLOW_DENIED;
		f->reason = r;
		if (!(old->flags & FLOW_DENIED))
			f->expires_ns = now_ns() + LIFETIME_DENIED_S * NSEC_PER_SEC;
		bpf_map_update_elem(&flows_v1, &p->key, f, BPF_ANY);
	} else if (r == REASON_UNKNOWN_TARGET && side_of(old, old->initiator)->way == WAY_POD &&
		   !is_pod(get_endpoint(old->initiator & 1 ? &p->key.addr[1] : &p->key.addr[0]))) {
		bpf_map_delete_elem(&flows_v1, &p->key);
	}
}

/*
 * Decides about a packet that no current entry serves, or about the flow that an ICMP error speaks of.
 * Returns 0 with the entry in the work's flow, or the reason to drop with what is known there;
 * its direction says whose side refused.
 */
__noinline int decide(__u32 inner, __u32 renew)
{
	struct work *w = get_work();
	struct flow *entry, *old, *f;
	bool is_new, closed = false;
	enum reason r;
	struct pkt *p;

	if (!w)
		return REASON_UNKNOWN_TARGET;
	p = inner ? &w->inner : &w->pkt;
	f = &w->flow;
	old = &w->old;
	__builtin_memset(old, 0, sizeof(*old));
	w->renewal = false;
	if (renew) {
		entry = bpf_map_lookup_elem(&flows_v1, &p->key);
		if (entry) {
			*old = *entry;
			w->renewal = true;
		}
	}
	r = judge_flow(p, w, f, inner);
	if (w->renewal)
		keep_history(f, old);
	if (r) {
		if (w->renewal)
			refuse_renewal(p, old, f, r);
		return r;
	}
	if (is_translated(p, w, f))
		f->flags |= FLOW_TRANSLATED;
	if (w->renewal) {
		is_new = f->egress_cookie != old->egress_cookie || f->ingress_cookie != old->ingress_cookie ||
			 (old->flags & FLOW_DENIED);
	} else {
		is_new = true;
		f->created_ns = now_ns();
		if (p->key.proto == PROTO_TCP) {
			f->state = FLOW_TCP_SYN;
			if (p->fragment != FRAGMENT_LATER && !(p->tcp_flags & TCP_SYN))
				f->flags |= FLOW_SEEN_NON_SYN;
		}
	}
	if (p->sender != SENDER_NONE)
		closed = flow_note(f, p->sender, p->len, p->tcp_flags);
	if (bpf_map_update_elem(&flows_v1, &p->key, f, BPF_ANY)) {
		f->direction = hook_direction(p->hook);
		return REASON_FLOW_INSERT;
	}
	if (p->sender != SENDER_NONE) {
		if (is_new)
			emit_flow(p, f, EVENT_NEW);
		if (closed)
			emit_flow(p, f, EVENT_CLOSE);
	}
	return REASON_NONE;
}
