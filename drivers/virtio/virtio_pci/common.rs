// SPDX-License-Identifier: GPL-2.0

//! The common configuration structure (specification 4.1.4.3), register by register.
//!
//! C source: `drivers/virtio/virtio_pci_modern_dev.c`.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use pci_ext::io::{
    Bars,
    Window, //
};
use virtio_spec::{
    pci::{
        common,
        Region, //
    },
    Features,
    Status, //
};

/// How often a register is looked at while the device is waited for.
const POLL_INTERVAL: Delta = Delta::from_millis(1);

/// How long a device may take to show that a queue is enabled.
const ENABLE_DEADLINE: Delta = Delta::from_secs(1);

/// How long a device may take to reset a queue: it may have to end requests first, and callers hold
/// locks of whole subsystems.
const QUEUE_RESET_DEADLINE: Delta = Delta::from_secs(5);

/// What registers of a device that is gone read as.
const ALL_ONES: u16 = u16::MAX;

/// Asks `done` until it gives something, or `deadline` has passed; at least once.  May sleep.
pub(crate) fn poll<R>(deadline: Delta, mut done: impl FnMut() -> Option<R>) -> Option<R> {
    let start = Instant::<Monotonic>::now();
    loop {
        // The clock first: what is late because we did not run is not the device's fault.
        let expired = start.elapsed() >= deadline;
        if let Some(result) = done() {
            return Some(result);
        }
        if expired {
            return None;
        }
        fsleep(POLL_INTERVAL);
    }
}

/// The common configuration.
///
/// Registers that belong to a queue are reached through one that selects it.  Queues are reset
/// while others are in use, so selecting one and accessing its registers is serialised here.
pub(crate) struct CommonConfig {
    window: Window,
    selection: Pin<KBox<Mutex<()>>>,
}

impl CommonConfig {
    /// Maps the structure, up to the last register that we know.  May sleep.
    pub(crate) fn map(bars: &Arc<Bars>, region: Region) -> Result<Self> {
        let len = region.length().min(common::FULL_LEN as u64);
        Self::new(Window::map(bars, region.bar(), region.offset(), len)?)
    }

    /// The structure in `window`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(window: Window) -> Result<Self> {
        Ok(Self {
            window,
            selection: KBox::pin_init(new_mutex!((), "virtio_pci::CommonConfig"), GFP_KERNEL)?,
        })
    }

    pub(crate) fn unmap(&self) {
        self.window.unmap();
    }

    /// The reserved BARs; `None` after [`CommonConfig::unmap`].
    pub(crate) fn bars(&self) -> Option<Arc<Bars>> {
        self.window.bars()
    }

    /// Length in bytes; devices with fewer features have fewer registers.
    pub(crate) fn len(&self) -> u64 {
        self.window.size()
    }

    fn read16(&self, register: usize) -> u16 {
        self.window.read16(register as u64)
    }

    fn write16(&self, register: usize, value: u16) {
        self.window.write16(register as u64, value);
    }

    fn write32(&self, register: usize, value: u32) {
        self.window.write32(register as u64, value);
    }

    /// A register of 64 bits is written in halves (specification 4.1.3.1).
    fn write64(&self, register: usize, value: u64) {
        let [low, high] = [value as u32, (value >> 32) as u32];
        self.write32(register, low);
        self.write32(register + 4, high);
    }

    pub(crate) fn device_features(&self) -> Features {
        let mut words = [0; 4];
        for (select, word) in (0..).zip(&mut words) {
            self.write32(common::DEVICE_FEATURE_SELECT, select);
            *word = self.window.read32(common::DEVICE_FEATURE as u64);
        }
        Features::from_words(words)
    }

    pub(crate) fn set_driver_features(&self, features: Features) {
        for (select, word) in (0..).zip(features.to_words()) {
            self.write32(common::DRIVER_FEATURE_SELECT, select);
            self.write32(common::DRIVER_FEATURE, word);
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status::from_bits(self.window.read8(common::DEVICE_STATUS as u64))
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.window
            .write8(common::DEVICE_STATUS as u64, status.bits());
    }

    pub(crate) fn generation(&self) -> u32 {
        self.window.read8(common::CONFIG_GENERATION as u64).into()
    }

    /// Index of the first administration queue, and how many there are, with
    /// `VIRTIO_F_ADMIN_VQ`; else anything.
    pub(crate) fn admin_queues(&self) -> (u16, u16) {
        (
            self.read16(common::ADMIN_QUEUE_INDEX),
            self.read16(common::ADMIN_QUEUE_NUM),
        )
    }

    pub(crate) fn num_queues(&self) -> u16 {
        self.read16(common::NUM_QUEUES)
    }

    /// Writes the vector for configuration changes; returns what the device made of it.
    pub(crate) fn set_config_vector(&self, vector: u16) -> u16 {
        self.write16(common::CONFIG_MSIX_VECTOR, vector);
        self.read16(common::CONFIG_MSIX_VECTOR)
    }

    /// The registers of a queue.
    pub(crate) fn queue(&self, index: u16) -> QueueRegisters<'_> {
        QueueRegisters {
            common: self,
            index,
        }
    }
}

/// The registers of one queue.  All accesses may sleep.
pub(crate) struct QueueRegisters<'a> {
    common: &'a CommonConfig,
    index: u16,
}

impl QueueRegisters<'_> {
    /// Accesses the structure with this queue selected.
    fn select<R>(&self, access: impl FnOnce(&CommonConfig) -> R) -> R {
        let _selection = self.common.selection.lock();
        self.common.write16(common::QUEUE_SELECT, self.index);
        access(self.common)
    }

    fn read16(&self, register: usize) -> u16 {
        self.select(|common| common.read16(register))
    }

    fn write16(&self, register: usize, value: u16) {
        self.select(|common| common.write16(register, value));
    }

    pub(crate) fn size(&self) -> u16 {
        self.read16(common::QUEUE_SIZE)
    }

    pub(crate) fn set_size(&self, size: u16) {
        self.write16(common::QUEUE_SIZE, size);
    }

    pub(crate) fn notify_off(&self) -> u16 {
        self.read16(common::QUEUE_NOTIFY_OFF)
    }

    /// The number for notifications, with `VIRTIO_F_NOTIF_CONFIG_DATA`; else anything.
    pub(crate) fn notify_data(&self) -> u16 {
        self.read16(common::QUEUE_NOTIFY_DATA)
    }

    pub(crate) fn set_addresses(&self, addresses: &virtio_ring::Addresses) {
        self.select(|common| {
            common.write64(common::QUEUE_DESC, addresses.desc);
            common.write64(common::QUEUE_DRIVER, addresses.driver);
            common.write64(common::QUEUE_DEVICE, addresses.device);
        });
    }

    /// Writes the vector of the queue; returns what the device made of it.
    pub(crate) fn set_vector(&self, vector: u16) -> u16 {
        self.select(|common| {
            common.write16(common::QUEUE_MSIX_VECTOR, vector);
            common.read16(common::QUEUE_MSIX_VECTOR)
        })
    }

    pub(crate) fn enable(&self) {
        self.write16(common::QUEUE_ENABLE, 1);
    }

    /// The raw register: 0, 1, or what a broken or absent device says.
    pub(crate) fn enabled(&self) -> u16 {
        self.read16(common::QUEUE_ENABLE)
    }

    /// Waits until the device shows that the queue is enabled, at most for [`ENABLE_DEADLINE`].
    ///
    /// # Errors
    ///
    /// `EIO` if it does not.
    pub(crate) fn await_enabled(&self) -> Result {
        let enabled = poll(ENABLE_DEADLINE, || match self.enabled() {
            0 => None,
            value => Some(value),
        });
        if enabled == Some(1) {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Resets the queue (specification 2.6.1), with `VIRTIO_F_RING_RESET` agreed on: waits until
    /// the device shows that it is done, at most for [`QUEUE_RESET_DEADLINE`].
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` if it does not, `EIO` if nobody is there.
    pub(crate) fn reset(&self) -> Result {
        self.write16(common::QUEUE_RESET, 1);
        poll(QUEUE_RESET_DEADLINE, || match self.reset_and_enabled() {
            (0, 0) => Some(Ok(())),
            (ALL_ONES, ALL_ONES) => Some(Err(EIO)),
            _ => None,
        })
        .unwrap_or(Err(ETIMEDOUT))
    }

    /// Whether the queue is neither enabled nor being reset.
    pub(crate) fn is_reset(&self) -> bool {
        self.reset_and_enabled() == (0, 0)
    }

    fn reset_and_enabled(&self) -> (u16, u16) {
        (self.read16(common::QUEUE_RESET), self.enabled())
    }
}

#[kunit_tests(virtio_pci_poll)]
mod tests {
    use super::*;

    #[test]
    fn asks_once_even_if_there_is_no_time() {
        let mut asked = 0;
        let result = poll(Delta::ZERO, || {
            asked += 1;
            None::<()>
        });
        assert!(result.is_none());
        assert_eq!(asked, 1);
    }

    #[test]
    fn ends_with_the_first_answer() {
        let mut asked = 0;
        let result = poll(Delta::from_secs(10), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(result, Some(3));
    }

    #[test]
    fn ends_at_the_deadline() {
        let start = Instant::<Monotonic>::now();
        let result = poll(Delta::from_millis(20), || None::<()>);
        assert!(result.is_none());
        assert!(start.elapsed() >= Delta::from_millis(20));
    }
}
