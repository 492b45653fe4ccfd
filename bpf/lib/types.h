/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The words that all programs share: addresses, and the numbers that cross to Go. The Go side of each
 * enum is in core/datapath; a test compares them through BTF.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <stdbool.h>

#define NSEC_PER_SEC 1000000000ULL
#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8

/* How a packet's type (skb->pkt_type) says "for us". */
#define PACKET_HOST 0

/* From sys/socket.h, which has more than programs may use. */
#define AF_INET 2
#define AF_INET6 10

enum direction {
	INGRESS = 0,
	EGRESS = 1,
};

enum proto {
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ICMPV6 = 58,
	PROTO_SCTP = 132,
};

enum reason {
	REASON_NONE = 0,
	REASON_INVALID_SOURCE = 132,
	REASON_POLICY_DENIED = 133,
	REASON_INVALID_PACKET = 134,
	REASON_TRUNCATED_L4 = 135,
	REASON_UNSUPPORTED_L3 = 139,
	REASON_TUNNEL_KEY = 147,
	REASON_UNKNOWN_TARGET = 150,
	REASON_FLOW_INSERT = 155,
	REASON_EXTENSION_HEADER = 156,
	REASON_NO_BACKEND = 158,
	REASON_NO_TUNNEL_ENDPOINT = 160,
	REASON_NAT_NO_MAPPING = 167,
	REASON_NAT_PROTOCOL = 168,
	REASON_NO_ROUTE = 169,
	REASON_UNKNOWN_SENDER = 172,
	REASON_FRAGMENT_NOT_FOUND = 175,
	REASON_FORBIDDEN_ICMPV6 = 176,
	REASON_POLICY_DENY = 181,
	REASON_VLAN = 182,
	REASON_NOT_READY = 203,
};

enum event_type {
	EVENT_DROP = 1,
	EVENT_NEW = 2,
	EVENT_CLOSE = 3,
};

enum point {
	POINT_UNKNOWN = 0,
	POINT_TO_STACK = 3,
	POINT_TO_OVERLAY = 4,
	POINT_FROM_ENDPOINT = 5,
	POINT_FROM_STACK = 8,
	POINT_FROM_OVERLAY = 9,
	POINT_FROM_NETWORK = 10,
	POINT_TO_NETWORK = 11,
	POINT_TO_ENDPOINT = 101,
};

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

enum identity {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_REMOTE_NODE = 6,
	IDENTITY_KUBE_APISERVER = 7,
	IDENTITY_WORLD_IPV4 = 9,
	IDENTITY_WORLD_IPV6 = 10,
	IDENTITY_MAX_CLUSTER = 65535,
	IDENTITY_LOCAL_FLAG = 1 << 24,
};

/* For whom a frontend's row counts. */
enum scope {
	SCOPE_INTERNAL = 0, /* sockets */
	SCOPE_EXTERNAL = 1, /* packets from the network */
};

enum service_flag {
	SERVICE_LOCAL = 1, /* the unspecified address stands for this node's own addresses only */
};

/* Seconds that a flow entry lives without traffic. */
enum lifetime {
	LIFETIME_TCP_SYN_S = 60,
	LIFETIME_TCP_ESTABLISHED_S = 8000,
	LIFETIME_TCP_CLOSING_S = 10,
	LIFETIME_OTHER_S = 60,
	LIFETIME_DENIED_S = 60,
	LIFETIME_NAT_NEW_S = 60,
	LIFETIME_NAT_TCP_S = 8000,
	LIFETIME_NAT_OTHER_S = 120,
	LIFETIME_NAT_CLOSING_S = 120,
};

enum limit {
	ADDR_BUCKETS = 4096,  /* the word after the last bucket is the epoch of everything */
	CLASS_COUNT = 131072, /* classes in one generation */
	ENDPOINT_COUNT = 65536,
	GENERATION_SHIFT = 30, /* the two highest bits of a policy id */
	LOCAL_CLASS_BASE = 65536,
};

/* The highest bit of a cookie says that the rule denies. */
#define COOKIE_DENY 0x80000000u

/* An address in network byte order; IPv4 is ::ffff:a.b.c.d. */
struct addr {
	__be32 w[4];
};
