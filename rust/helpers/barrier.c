// SPDX-License-Identifier: GPL-2.0

#include <linux/virtio_ring.h>

__rust_helper void rust_helper_virtio_mb(bool weak_barriers)
{
	virtio_mb(weak_barriers);
}

__rust_helper void rust_helper_virtio_rmb(bool weak_barriers)
{
	virtio_rmb(weak_barriers);
}

__rust_helper void rust_helper_virtio_wmb(bool weak_barriers)
{
	virtio_wmb(weak_barriers);
}
