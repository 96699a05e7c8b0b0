// SPDX-License-Identifier: GPL-2.0
/* The trace events themselves, and functions for Rust that emit them. */

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

/* Looked at by functions that are inlined into other modules. */
EXPORT_TRACEPOINT_SYMBOL_GPL(virtio_add);
EXPORT_TRACEPOINT_SYMBOL_GPL(virtio_kick);
EXPORT_TRACEPOINT_SYMBOL_GPL(virtio_get);
