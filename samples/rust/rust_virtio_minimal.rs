// SPDX-License-Identifier: GPL-2.0

//! The smallest whole virtio driver: lends one buffer to an entropy device and logs what it wrote.
//!
//! `modprobe -r virtio_rng; insmod rust_virtio_minimal.ko` (two drivers cannot have one device).

#![forbid(unsafe_code)]

use kernel::{prelude::*, sync::new_spinlock_irq, sync::SpinLockIrq};
use virtio::buffer::DeviceWritable;
use virtio::driver::Driver;
use virtio::lifecycle::{Configured, Init, Running};
use virtio::queue::{QueueSpec, Queues, Virtqueue};
use virtio_spec::rng::Rng;

virtio::module_virtio_driver! {
    type: Minimal,
    name: "rust_virtio_minimal",
    authors: ["The rust-virtio authors"],
    description: "Minimal virtio driver",
    license: "GPL",
}

struct Minimal;

type Queue = Virtqueue<DeviceWritable<16>>;

#[pin_data]
struct Data {
    #[pin]
    queue: SpinLockIrq<Queue>,
}

impl Driver for Minimal {
    type Class = Rng;
    type Data = Data;

    fn queues(_dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let spec = QueueSpec {
            name: c"input",
            interrupt: true,
        };
        Ok(KVec::from_elem(spec, 1, GFP_KERNEL)?)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let mut queue: Queue = queues.take(dev, 0)?;
        queue.add(DeviceWritable::new()?).map_err(|_| EIO)?;
        Ok(try_pin_init!(Data { queue <- new_spinlock_irq!(queue) }))
    }

    fn ready(_dev: &Running<'_>, data: Pin<&Data>) -> Result {
        let notification = data.queue.lock().kick();
        if let Some(notification) = notification {
            notification.send();
        }
        Ok(())
    }

    fn used_buffers(data: Pin<&Data>, queue: u32) {
        while let Some(buffer) = data.queue.lock().get_buf() {
            pr_info!(
                "queue {}: the device wrote {:02x?}\n",
                queue,
                buffer.bytes()
            );
        }
    }

    fn remove(_data: Pin<&Data>) {}
}
