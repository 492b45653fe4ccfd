/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The BPF target has no architecture directory; the generic types are the same on all of ours. */
#include <asm-generic/types.h>
