// SPDX-License-Identifier: GPL-2.0

//! Notifying the device of available buffers (specification 4.1.5.2).
//!
//! C source: `vp_modern_map_vq_notify`, `vp_notify`, `vp_notify_with_data`.
//!
//! Where a queue is notified is computed and checked once, when the queue is set up.  The mapped
//! address is in the queue's `priv`, or, if the device wants to be told another number than the
//! queue's, a pointer to both.

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
    transport::{
        NotifConfigData,
        NotificationData, //
    },
    Features,
    Untrusted, //
};

/// What a notification of a queue is.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// The ring position follows, 32 bits in all (`VIRTIO_F_NOTIFICATION_DATA`).
    with_data: bool,
    /// The device has said which number it wants to be told (`VIRTIO_F_NOTIF_CONFIG_DATA`).
    numbered_by_device: bool,
}

/// A function that notifies.
type Notify = unsafe extern "C" fn(*mut bindings::virtqueue) -> bool;

impl Format {
    /// That of a device with these features.
    pub(crate) fn new(features: Features) -> Self {
        Self {
            with_data: features.has::<NotificationData>(),
            numbered_by_device: features.has::<NotifConfigData>(),
        }
    }

    /// Width of the register in bytes.
    fn width(self) -> u64 {
        if self.with_data {
            4
        } else {
            2
        }
    }

    /// The function that notifies.  It wants [`Doorbell::cookie`] in the queue's `priv`.
    pub(crate) fn function(self) -> Notify {
        match (self.with_data, self.numbered_by_device) {
            (false, false) => notify,
            (true, false) => notify_with_data,
            (false, true) => notify_number,
            (true, true) => notify_number_with_data,
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

    /// A region that a test plays, or of which nothing is mapped.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn model(region: NotifyRegion, whole: Option<Window>) -> Self {
        Self { region, whole }
    }

    pub(crate) fn unmap(&self) {
        if let Some(window) = &self.whole {
            window.unmap();
        }
    }

    /// The register of a queue whose `queue_notify_off` is `notify_off`, and whose
    /// `queue_notify_data` is `number`; `bars` are those of the device, while they are mapped.  May
    /// sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not in the region or misaligned, or the region not mapped any more; `ENODEV`
    /// without BARs to map it from, `ENOMEM`.
    pub(crate) fn doorbell(
        &self,
        bars: Option<Arc<Bars>>,
        notify_off: u16,
        number: u16,
        format: Format,
    ) -> Result<Doorbell> {
        let width = format.width();
        let offset = self
            .region
            .offset_for(Untrusted::new(notify_off), width)
            .map_err(|_| EINVAL)?;
        let mut doorbell = if let Some(window) = &self.whole {
            Doorbell::in_window(window, offset, width)?
        } else {
            let bars = bars.ok_or(ENODEV)?;
            let place = self.region.region;
            let window = Window::map(
                &bars,
                place.bar(),
                place.offset().checked_add(offset).ok_or(EINVAL)?,
                width,
            )?;
            let doorbell = Doorbell::in_window(&window, 0, width)?;
            Doorbell {
                _window: Some(window),
                ..doorbell
            }
        };
        if format.numbered_by_device {
            let register = doorbell.register;
            doorbell.numbered = Some(KBox::new(Numbered { register, number }, GFP_KERNEL)?);
        }
        Ok(doorbell)
    }
}

/// A register, and what it is to be told.
#[derive(Clone, Copy)]
struct Numbered {
    register: NonNull<c_void>,
    number: u16,
}

/// The notification register of one queue.
pub(crate) struct Doorbell {
    register: NonNull<c_void>,
    numbered: Option<KBox<Numbered>>,
    _window: Option<Window>,
}

// SAFETY: Addresses are numbers here; those who write to them are the functions below.
unsafe impl Send for Doorbell {}
// SAFETY: As above.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// The register of `width` bytes at `offset` of a window that outlives the queue.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the window does not hold it, is not mapped any more, or it is misaligned.
    pub(crate) fn in_window(window: &Window, offset: u64, width: u64) -> Result<Self> {
        Ok(Self {
            register: window.address(offset, width).ok_or(EINVAL)?,
            numbered: None,
            _window: None,
        })
    }

    /// What [`Format::function`] wants in `priv`; good as long as `self` and the registers of the
    /// device are.
    pub(crate) fn cookie(&self) -> NonNull<c_void> {
        match &self.numbered {
            Some(numbered) => NonNull::<Numbered>::from_ref(numbered).cast(),
            None => self.register,
        }
    }
}

/// Notifies with the queue's number.  Any context.
///
/// # Safety
///
/// `vq` is a queue whose `priv` is a mapped register of 16 bits.
unsafe extern "C" fn notify(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract.  CAST: Queue numbers have 16 bits.
    unsafe { bindings::iowrite16((*vq).index as u16, (*vq).priv_) };
    true
}

/// Notifies with number and ring position.  Any context.
///
/// # Safety
///
/// `vq` is a queue of `virtio_ring` whose `priv` is a mapped register of 32
/// bits.
unsafe extern "C" fn notify_with_data(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract; a queue is never null.
    unsafe {
        let data = virtio_ring::notification_data(NonNull::new_unchecked(vq));
        bindings::iowrite32(data, (*vq).priv_);
    }
    true
}

/// Notifies with the number that the device wants.  Any context.
///
/// # Safety
///
/// `vq` is a queue whose `priv` is a [`Numbered`] with a mapped register of 16 bits.
unsafe extern "C" fn notify_number(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract.
    unsafe {
        let Numbered { register, number } = *(*vq).priv_.cast::<Numbered>();
        bindings::iowrite16(number, register.as_ptr());
    }
    true
}

/// Notifies with the number that the device wants, and ring position.  Any context.
///
/// # Safety
///
/// `vq` is a queue of `virtio_ring` whose `priv` is a [`Numbered`] with a mapped register of 32
/// bits.
unsafe extern "C" fn notify_number_with_data(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract; a queue is never null.
    unsafe {
        let data = virtio_ring::notification_data(NonNull::new_unchecked(vq));
        let Numbered { register, number } = *(*vq).priv_.cast::<Numbered>();
        bindings::iowrite32(with_number(data, number), register.as_ptr());
    }
    true
}

/// The notification `data` with another number in place of the queue's (specification 2.9).
fn with_number(data: u32, number: u16) -> u32 {
    data & !u32::from(u16::MAX) | u32::from(number)
}

#[kunit_tests(virtio_pci_notify)]
mod tests {
    use super::*;
    use virtio_spec::Feature;

    fn format(bits: &[u32]) -> Format {
        Format::new(Features::of(bits))
    }

    #[test]
    fn the_register_is_wider_with_data() {
        assert_eq!(format(&[]).width(), 2);
        assert_eq!(format(&[NotifConfigData::BIT]).width(), 2);
        assert_eq!(format(&[NotificationData::BIT]).width(), 4);
    }

    #[test]
    fn the_number_replaces_that_of_the_queue_alone() {
        assert_eq!(with_number(0x8765_0003, 0x1234), 0x8765_1234);
        assert_eq!(with_number(0x0000_ffff, 0), 0);
    }

    #[test]
    fn the_device_is_told_the_number_that_it_wants() {
        let mut register = [0u16; 2];
        let mut numbered = Numbered {
            register: NonNull::from(&mut register).cast(),
            number: 0x1234,
        };
        // SAFETY: All zeroes are a valid `struct virtqueue`, of which only what is set is read.
        let mut vq: bindings::virtqueue = unsafe { core::mem::zeroed() };
        vq.index = 3;
        vq.priv_ = (&raw mut numbered).cast();
        // SAFETY: The register is memory of ours.
        unsafe { format(&[NotifConfigData::BIT]).function()(&mut vq) };
        assert_eq!(register, [0x1234u16.to_le(), 0]);

        vq.priv_ = (&raw mut register).cast();
        // SAFETY: As above.
        unsafe { format(&[]).function()(&mut vq) };
        assert_eq!(register, [3u16.to_le(), 0]);
    }
}
