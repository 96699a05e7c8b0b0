// SPDX-License-Identifier: GPL-2.0

//! Devices that stand in for another one with the same address.
//!
//! C header: [`include/net/net_failover.h`](srctree/include/net/net_failover.h).

use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*, //
};
use virtio_bindings as bindings;

/// The device in front of a standby device and whatever has its address.
///
/// # Invariants
///
/// `failover` was created, and is destroyed with this alone.
pub(crate) struct Failover(NonNull<bindings::failover>);

// SAFETY: It takes the RTNL lock by itself.
unsafe impl Send for Failover {}
// SAFETY: As above.
unsafe impl Sync for Failover {}

impl Failover {
    /// Makes one for `standby`, which is not registered yet.  Without the RTNL lock; may sleep.
    ///
    /// # Safety
    ///
    /// The device outlives this, and is not registered any more when it goes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EOPNOTSUPP` if the kernel has no such devices, and those of the stack.
    pub(crate) unsafe fn new(standby: *mut bindings::net_device) -> Result<Self> {
        // SAFETY: By the contract.
        let failover = from_err_ptr(unsafe { bindings::virtio_net_failover_create(standby) })?;
        // INVARIANT: Just now.
        Ok(Self(NonNull::new(failover).ok_or(ENOMEM)?))
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_net_failover_destroy(self.0.as_ptr()) };
    }
}
