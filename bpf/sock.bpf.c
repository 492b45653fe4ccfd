//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Socket hooks: services for connect and sendmsg, their answers for recvmsg and getpeername. */
#include "lib/lb.h"
#include "lib/license.h"

#define REFUSE 0
#define PROCEED 1

static __always_inline void read_peer4(const struct bpf_sock_addr *ctx, struct peer *peer)
{
	peer->addr = addr_from_ipv4(ctx->user_ip4);
	peer->port = bpf_ntohs((__u16)ctx->user_port);
	peer->proto = ctx->protocol;
}

static __always_inline void write_peer4(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	ctx->user_ip4 = peer->addr.w[3];
	ctx->user_port = bpf_htons(peer->port);
}

static __always_inline void read_peer6(const struct bpf_sock_addr *ctx, struct peer *peer)
{
	peer->addr.w[0] = ctx->user_ip6[0];
	peer->addr.w[1] = ctx->user_ip6[1];
	peer->addr.w[2] = ctx->user_ip6[2];
	peer->addr.w[3] = ctx->user_ip6[3];
	peer->port = bpf_ntohs((__u16)ctx->user_port);
	peer->proto = ctx->protocol;
}

static __always_inline void write_peer6(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	ctx->user_ip6[0] = peer->addr.w[0];
	ctx->user_ip6[1] = peer->addr.w[1];
	ctx->user_ip6[2] = peer->addr.w[2];
	ctx->user_ip6[3] = peer->addr.w[3];
	ctx->user_port = bpf_htons(peer->port);
}

/* What connect and sendmsg do. */
static __always_inline int to_backend4(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};
	int r;

	if (!balances(ctx->protocol))
		return PROCEED;
	read_peer4(ctx, &peer);
	r = balance(ctx, &peer);
	if (r == LB_REFUSE) {
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	}
	if (r == LB_BACKEND)
		write_peer4(ctx, &peer);
	return PROCEED;
}

static __always_inline int to_backend6(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};
	int r;

	if (!balances(ctx->protocol))
		return PROCEED;
	read_peer6(ctx, &peer);
	r = balance(ctx, &peer);
	if (r == LB_REFUSE) {
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	}
	if (r == LB_BACKEND)
		write_peer6(ctx, &peer);
	return PROCEED;
}

/* What recvmsg and getpeername do. */
static __always_inline int to_frontend4(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};

	if (!balances(ctx->protocol))
		return PROCEED;
	read_peer4(ctx, &peer);
	if (unbalance(&peer, bpf_get_socket_cookie(ctx)) == LB_BACKEND)
		write_peer4(ctx, &peer);
	return PROCEED;
}

static __always_inline int to_frontend6(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};

	if (!balances(ctx->protocol))
		return PROCEED;
	read_peer6(ctx, &peer);
	if (unbalance(&peer, bpf_get_socket_cookie(ctx)) == LB_BACKEND)
		write_peer6(ctx, &peer);
	return PROCEED;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return to_backend4(ctx);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return to_backend6(ctx);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return to_backend4(ctx);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return to_backend6(ctx);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return to_frontend4(ctx);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return to_frontend6(ctx);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return to_frontend4(ctx);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return to_frontend6(ctx);
}
