// SPDX-License-Identifier: GPL-2.0

//! Resetting one queue, and giving it another ring (specification 2.6.1).
//!
//! C source: `virtqueue_resize`, `virtqueue_reset` in `drivers/virtio/virtio_ring.c`.

use crate::{
    bindings,
    vring::Vring, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Resets one queue: stops it, has `give_back` take back what is in it, gives it a ring of `size`
/// descriptors, or the old one as new, and starts it.  May sleep.
///
/// # Errors
///
/// - nothing has happened: `ENOENT` if the device cannot, `EPERM` if the ring's memory is not ours,
///   `E2BIG` for more descriptors than the device takes, `EINVAL` for none;
/// - the queue goes on with an empty ring of the old size: `ENOMEM`, `EINVAL` for a size that no ring
///   can have;
/// - the queue is broken: anything else.
///
/// # Safety
///
/// `vq` was made by [`create`](crate::create), is not deleted meanwhile, and nobody else uses it but
/// what needs no serialisation; `give_back` detaches all of its buffers.
pub unsafe fn restart(
    vq: NonNull<bindings::virtqueue>,
    size: Option<u32>,
    give_back: impl FnOnce(&Vring),
) -> Result {
    let vq = vq.as_ptr();
    // SAFETY: By the contract.
    unsafe {
        let vring = Vring::from_raw(vq);
        match size {
            Some(0) => return Err(EINVAL),
            Some(size) if size > (*vq).num_max => return Err(E2BIG),
            Some(size) if size == vring.size() => return Ok(()),
            _ => {}
        }
        if !vring.owns_memory() {
            return Err(EPERM);
        }
        let config = &*(*(*vq).vdev).config;
        let (Some(disable), Some(enable)) =
            (config.disable_vq_and_reset, config.enable_vq_after_reset)
        else {
            return Err(ENOENT);
        };
        to_result(disable(vq))?;
        give_back(vring);
        // If there is no memory for another ring, the old one goes on.
        let resized = size.map_or(Ok(()), |size| vring.resize(size));
        let changed = resized.and_then(|()| vring.reinit());
        let changed = match changed {
            Err(error) if error != EBUSY => vring.reinit().and(Err(error)),
            result => result,
        };
        to_result(enable(vq)).map_err(|_| EBUSY)?;
        changed
    }
}
