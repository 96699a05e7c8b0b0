// SPDX-License-Identifier: GPL-2.0
/*
 * C inline functions and macros that Rust cannot call, as functions: one file a subsystem.
 */

#include <linux/compiler_types.h>

#ifdef __BINDGEN__
#define __rust_helper
#else
/* The kernel's rust/helpers/helpers.c explains. */
#define __rust_helper __always_inline
#endif

#include "balloon.c"
#include "barrier.c"
#include "block.c"
#include "dma.c"
#include "net.c"
#include "virtio.c"
#include "xdp.c"
#include "xsk.c"
