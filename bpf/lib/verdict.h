/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a step of a program decided. A step that returns a verdict cannot be called and ignored. */
#pragma once

#include "types.h"

/*
 * A shortcut's words for a packet that is not its business, and for one that it has read into the work's pkt and that
 * no entry knows. No program returns these.
 */
#define LEAVE (-2)
#define OPEN (-3)

enum action {
	GO_ON = 0,   /* nothing decided; the next step looks at the packet */
	PASS = 1,    /* to the stack, unjudged or judged elsewhere */
	FORWARD = 2, /* as the flow entry at hand says */
	TUNNEL = 3,  /* to the overlay device; the tunnel key is set */
	DROP = 4,
};

struct __attribute__((warn_unused_result)) verdict {
	__u8 action;
	__u8 reason;    /* DROP: enum reason; else 0 */
	__u8 direction; /* enum direction that the packet counts for */
};

static __always_inline struct verdict go_on(void)
{
	struct verdict v = {.action = GO_ON};
	return v;
}

static __always_inline struct verdict pass(enum direction d)
{
	struct verdict v = {.action = PASS, .direction = d};
	return v;
}

static __always_inline struct verdict forward(enum direction d)
{
	struct verdict v = {.action = FORWARD, .direction = d};
	return v;
}

static __always_inline struct verdict drop(enum reason r, enum direction d)
{
	struct verdict v = {.action = DROP, .reason = r, .direction = d};
	return v;
}
