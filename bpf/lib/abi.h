/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Everything that Go compares its own types with and that no map names. A compiler keeps the description of
 * a type only if something uses it.
 */
#pragma once

#include "../maps/endpoints.h"
#include "../maps/events.h"
#include "../maps/services.h"
#include "flow.h"
#include "types.h"

struct abi {
	struct event event;
	enum reason reason;
	enum point point;
	enum event_type event_type;
	enum direction direction;
	enum proto proto;
	enum tcp_flag tcp_flag;
	enum identity identity;
	enum scope scope;
	enum service_flag service_flag;
	enum port_use port_use;
	enum lifetime lifetime;
	enum limit limit;
	enum endpoint_flag endpoint_flag;
	enum flow_flag flow_flag;
	enum flow_state flow_state;
};

const struct abi *const volatile abi;
