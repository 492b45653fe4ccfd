/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Values set when the programs are loaded; branches that they rule out are not even verified. */
#pragma once

#include "types.h"

/* The overlay device; 0: the node has none, and what should be tunnelled is dropped. */
const volatile __u32 overlay_ifindex = 0;

/* The device on which other nodes are neighbours (direct routing); 0: such packets take the stack. */
const volatile __u32 direct_ifindex = 0;

/*
 * The device that has this node's address in the underlay, if it is an Ethernet device and the address IPv4 (else 0): then
 * the fast path writes and takes off the tunnel's outer headers itself. The address and the tunnel's port as on the wire.
 */
const volatile __u32 underlay_ifindex = 0;
const volatile __be32 underlay_addr4 = 0;
const volatile __be16 vxlan_port = 0;

/* Services take packets from the network. Of the node's addresses those that such clients get towards backends elsewhere. */
const volatile __u8 translates = 0;
const volatile __be32 node_addr4 = 0;
const volatile __be32 node_addr6[4] = {};

/* The cookie of the node's own network namespace, whose sockets reach node ports by the loopback address; 0: none. */
const volatile __u64 node_netns_cookie = 0;

/*
 * Take the tunnel key from skb->cb (VNI, then the sender's IPv4 address in host byte order) instead of the
 * packet's metadata, which test runs cannot attach. Never set in production.
 */
const volatile __u8 test_tunnel_from_cb = 0;
