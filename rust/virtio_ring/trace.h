/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of virtqueues and of device resets.  Rust calls them, see trace.rs.
 *
 * `vq`, which is not printed, is a key for programs: no two queues have the same at a time.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM virtio

#if !defined(_VIRTIO_RING_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VIRTIO_RING_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>
#include <linux/virtio.h>

/* A buffer was added.  `token` comes back in virtio_get. */
TRACE_EVENT(virtio_add,
	TP_PROTO(struct virtqueue *vq, void *token, unsigned int descriptors,
		 u64 out_bytes, u64 in_bytes),
	TP_ARGS(vq, token, descriptors, out_bytes, in_bytes),
	TP_STRUCT__entry(
		__field(const void *, vq)
		__string(device, dev_name(&vq->vdev->dev))
		__field(unsigned int, queue)
		__field(void *, token)
		__field(unsigned int, descriptors)
		__field(u64, out_bytes)
		__field(u64, in_bytes)
	),
	TP_fast_assign(
		__entry->vq = vq;
		__assign_str(device);
		__entry->queue = vq->index;
		__entry->token = token;
		__entry->descriptors = descriptors;
		__entry->out_bytes = out_bytes;
		__entry->in_bytes = in_bytes;
	),
	TP_printk("device=%s queue=%u token=%p descriptors=%u out_bytes=%llu in_bytes=%llu",
		  __get_str(device), __entry->queue, __entry->token,
		  __entry->descriptors, __entry->out_bytes, __entry->in_bytes)
);

/* What was added since the last kick is visible to the device; `notify`: which has to be told. */
TRACE_EVENT(virtio_kick,
	TP_PROTO(struct virtqueue *vq, unsigned int num_added, bool notify),
	TP_ARGS(vq, num_added, notify),
	TP_STRUCT__entry(
		__field(const void *, vq)
		__string(device, dev_name(&vq->vdev->dev))
		__field(unsigned int, queue)
		__field(unsigned int, num_added)
		__field(bool, notify)
	),
	TP_fast_assign(
		__entry->vq = vq;
		__assign_str(device);
		__entry->queue = vq->index;
		__entry->num_added = num_added;
		__entry->notify = notify;
	),
	TP_printk("device=%s queue=%u num_added=%u notify=%d",
		  __get_str(device), __entry->queue, __entry->num_added, __entry->notify)
);

/* The queue was asked about an interrupt; `handled`: it had used buffers. */
TRACE_EVENT(virtio_interrupt,
	TP_PROTO(struct virtqueue *vq, bool handled),
	TP_ARGS(vq, handled),
	TP_STRUCT__entry(
		__field(const void *, vq)
		__string(device, dev_name(&vq->vdev->dev))
		__field(unsigned int, queue)
		__field(bool, handled)
	),
	TP_fast_assign(
		__entry->vq = vq;
		__assign_str(device);
		__entry->queue = vq->index;
		__entry->handled = handled;
	),
	TP_printk("device=%s queue=%u handled=%d",
		  __get_str(device), __entry->queue, __entry->handled)
);

/* A used buffer was taken, to which the device wrote `written` bytes. */
TRACE_EVENT(virtio_get,
	TP_PROTO(struct virtqueue *vq, void *token, unsigned int written),
	TP_ARGS(vq, token, written),
	TP_STRUCT__entry(
		__field(const void *, vq)
		__string(device, dev_name(&vq->vdev->dev))
		__field(unsigned int, queue)
		__field(void *, token)
		__field(unsigned int, written)
	),
	TP_fast_assign(
		__entry->vq = vq;
		__assign_str(device);
		__entry->queue = vq->index;
		__entry->token = token;
		__entry->written = written;
	),
	TP_printk("device=%s queue=%u token=%p written=%u",
		  __get_str(device), __entry->queue, __entry->token, __entry->written)
);

/* The device was reset, which took `duration_ns`; `status` is what it shows since: 0 if it did. */
TRACE_EVENT(virtio_reset,
	TP_PROTO(struct virtio_device *vdev, u8 status, u64 duration_ns),
	TP_ARGS(vdev, status, duration_ns),
	TP_STRUCT__entry(
		__string(device, dev_name(&vdev->dev))
		__field(u8, status)
		__field(u64, duration_ns)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->status = status;
		__entry->duration_ns = duration_ns;
	),
	TP_printk("device=%s status=0x%02x duration_ns=%llu",
		  __get_str(device), __entry->status, __entry->duration_ns)
);

#endif /* _VIRTIO_RING_TRACE_H */

/* This part must be outside protection */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
