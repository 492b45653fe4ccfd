/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The licence as the kernel wants to hear it. */
#pragma once

#include "types.h"

char _license[] SEC("license") = "Dual BSD/GPL";
