// SPDX-License-Identifier: GPL-2.0

//! Notifying the device of available buffers (specification 4.1.5.2).
//!
//! C source: `vp_modern_map_vq_notify`, `vp_notify`, `vp_notify_with_data`.
//!
//! Where a queue is notified is computed and checked once, when the queue is set up; the mapped
//! address is in the queue's `priv`.

use core::ptr::NonNull;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use pci_ext::io::{
    Bars,
    Window, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    pci::NotifyRegion,
    Untrusted, //
};

/// What a notification of a queue is.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    /// The queue's number, 16 bits.
    Index,
    /// Number and ring position, 32 bits (`VIRTIO_F_NOTIFICATION_DATA`).
    Data,
}

impl Format {
    /// Width of the register in bytes.
    fn width(self) -> u64 {
        match self {
            Self::Index => 2,
            Self::Data => 4,
        }
    }

    /// The function that notifies.  It wants [`Doorbell::address`] in the queue's `priv`.
    pub(crate) fn function(self) -> unsafe extern "C" fn(*mut bindings::virtqueue) -> bool {
        match self {
            Self::Index => notify,
            Self::Data => notify_with_data,
        }
    }
}

/// The notification registers of a device.
pub(crate) struct NotifyArea {
    region: NotifyRegion,
    /// The whole region if it is small; else each queue maps its register.
    whole: Option<Window>,
}

impl NotifyArea {
    /// Maps the region if it lies in one page.  May sleep.
    pub(crate) fn map(bars: &Arc<Bars>, region: NotifyRegion) -> Result<Self> {
        let place = region.region;
        let page = PAGE_SIZE as u64;
        let whole = if place.length() <= page - place.offset() % page {
            Some(Window::map(
                bars,
                place.bar(),
                place.offset(),
                place.length(),
            )?)
        } else {
            None
        };
        Ok(Self { region, whole })
    }

    pub(crate) fn unmap(&self) {
        if let Some(window) = &self.whole {
            window.unmap();
        }
    }

    /// The register of a queue whose `queue_notify_off` is `notify_off`; `bars` are those of the
    /// device.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not in the region or misaligned, `ENOMEM`.
    pub(crate) fn doorbell(
        &self,
        bars: &Arc<Bars>,
        notify_off: u16,
        format: Format,
    ) -> Result<Doorbell> {
        let width = format.width();
        let offset = self
            .region
            .offset_for(Untrusted::new(notify_off), width)
            .map_err(|_| EINVAL)?;
        if let Some(window) = &self.whole {
            return Doorbell::in_window(window, offset, width);
        }
        let place = self.region.region;
        let window = Window::map(
            bars,
            place.bar(),
            place.offset().checked_add(offset).ok_or(EINVAL)?,
            width,
        )?;
        Ok(Doorbell {
            address: window.address(0, width).ok_or(EINVAL)?,
            _window: Some(window),
        })
    }
}

/// The notification register of one queue.
pub(crate) struct Doorbell {
    address: NonNull<c_void>,
    _window: Option<Window>,
}

// SAFETY: The address is a number here; those who write to it are the functions below.
unsafe impl Send for Doorbell {}
// SAFETY: As above.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// The register of `width` bytes at `offset` of a window that outlives the queue.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the window does not hold it, or it is misaligned.
    pub(crate) fn in_window(window: &Window, offset: u64, width: u64) -> Result<Self> {
        Ok(Self {
            address: window.address(offset, width).ok_or(EINVAL)?,
            _window: None,
        })
    }

    /// The mapped register; good as long as `self` and the registers of the device are.
    pub(crate) fn address(&self) -> NonNull<c_void> {
        self.address
    }
}

/// Notifies with the queue's number.  Any context.
///
/// # Safety
///
/// `vq` is a queue whose `priv` is a mapped register of [`Format::Index`].
unsafe extern "C" fn notify(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract.  CAST: Queue numbers have 16 bits.
    unsafe { bindings::iowrite16((*vq).index as u16, (*vq).priv_) };
    true
}

/// Notifies with number and ring position.  Any context.
///
/// # Safety
///
/// `vq` is a queue of `virtio_ring` whose `priv` is a mapped register of [`Format::Data`].
unsafe extern "C" fn notify_with_data(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract; a queue is never null.
    unsafe {
        let data = virtio_ring::notification_data(NonNull::new_unchecked(vq));
        bindings::iowrite32(data, (*vq).priv_);
    }
    true
}
