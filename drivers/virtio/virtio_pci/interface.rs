// SPDX-License-Identifier: GPL-2.0

//! The registers of a device, whichever interface it has.

use crate::{
    common::poll,
    legacy::Legacy,
    modern::Modern,
    notify::{
        Doorbell,
        Format, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use virtio::device::Device;
use virtio_ring::Addresses;
use virtio_spec::{
    pci::{
        Region,
        MSI_NO_VECTOR, //
    },
    transport::AdminVq,
    Features,
    Status, //
};

/// The interface of a device.
#[expect(clippy::large_enum_variant, reason = "one a device, behind an `Arc`")]
pub(crate) enum Interface {
    /// That of specification 1.0 and later.
    Modern(Modern),
    /// That of before (specification 4.1.4.10).
    Legacy(Legacy),
}

/// What a ring must be like for the device to take it.
pub(crate) struct RingRules {
    /// Alignment of the used ring in bytes.
    pub(crate) align: u32,
    /// The device can be told of a smaller ring than it has room for.
    pub(crate) may_reduce: bool,
}

impl Interface {
    /// Unmaps the registers.  May sleep.
    pub(crate) fn unmap(&self) {
        match self {
            Self::Modern(modern) => modern.unmap(),
            Self::Legacy(legacy) => legacy.unmap(),
        }
    }

    /// The device status.  Any context.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Modern(modern) => modern.common.status(),
            Self::Legacy(legacy) => legacy.status(),
        }
    }

    /// Writes the device status.  Any context.
    pub(crate) fn set_status(&self, status: Status) {
        match self {
            Self::Modern(modern) => modern.common.set_status(status),
            Self::Legacy(legacy) => legacy.set_status(status),
        }
    }

    /// Resets the device, and waits until its status says that it did, or that nobody is there, at
    /// most for `deadline`.  Returns the status that was read last.  May sleep.
    pub(crate) fn reset(&self, deadline: Delta) -> Status {
        self.set_status(Status::RESET);
        let mut status = Status::RESET;
        poll(deadline, || {
            status = self.status();
            (status.is_reset() || status.is_all_ones()).then_some(())
        });
        status
    }

    /// The offered features.  The device lock is held.
    pub(crate) fn features(&self) -> Features {
        match self {
            Self::Modern(modern) => modern.common.device_features(),
            Self::Legacy(legacy) => legacy.device_features(),
        }
    }

    /// Tells the device which of `features` the transport can do, and returns them.  The device
    /// lock is held.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device cannot be driven with them.
    pub(crate) fn accept(&self, dev: &Device, features: Features) -> Result<Features> {
        match self {
            Self::Modern(modern) => modern.accept(dev, features),
            Self::Legacy(legacy) => Ok(legacy.accept(features)),
        }
    }

    /// The configuration generation; the legacy interface has none.
    pub(crate) fn generation(&self) -> u32 {
        match self {
            Self::Modern(modern) => modern.common.generation(),
            Self::Legacy(_) => 0,
        }
    }

    /// Where a shared memory region lies; the legacy interface has none.
    pub(crate) fn shared_memory(&self, id: u8) -> Option<Region> {
        match self {
            Self::Modern(modern) => modern.shared_memory(id),
            Self::Legacy(_) => None,
        }
    }

    /// The largest size of a queue that is there and not in use, as the device says it.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device has fewer queues, `ENOENT` if this one does not exist or is in use.
    pub(crate) fn queue_size(&self, index: u16) -> Result<u16> {
        match self {
            Self::Modern(modern) if index >= modern.common.num_queues() => Err(EINVAL),
            _ => self.size_of_unused(index),
        }
    }

    /// As [`Interface::queue_size`], of a queue that [`Interface::admin_queue`] has named.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it does not exist or is in use.
    pub(crate) fn size_of_unused(&self, index: u16) -> Result<u16> {
        let (size, enabled) = match self {
            Self::Modern(modern) => {
                let registers = modern.common.queue(index);
                (registers.size(), registers.enabled() != 0)
            }
            Self::Legacy(legacy) => legacy.queue(index),
        };
        if size == 0 || enabled {
            return Err(ENOENT);
        }
        Ok(size)
    }

    /// The first administration queue of a device that has agreed on `features`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device has none after all, or names one of the others (specification
    /// 4.1.4.3.1).
    pub(crate) fn admin_queue(&self, features: Features) -> Result<Option<u16>> {
        match self {
            Self::Modern(modern) if features.has::<AdminVq>() => {
                let (index, count) = modern.common.admin_queues();
                if count == 0 || index < modern.common.num_queues() {
                    return Err(EINVAL);
                }
                Ok(Some(index))
            }
            _ => Ok(None),
        }
    }

    /// What the rings of the device must be like.
    pub(crate) fn ring_rules(&self) -> RingRules {
        match self {
            Self::Modern(_) => Modern::RING_RULES,
            Self::Legacy(_) => Legacy::RING_RULES,
        }
    }

    /// The notification register of a queue.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not in the region or misaligned, `ENOMEM`, either or `ENODEV` after
    /// [`Interface::unmap`].
    pub(crate) fn doorbell(&self, index: u16, format: Format) -> Result<Doorbell> {
        match self {
            Self::Modern(modern) => modern.doorbell(index, format),
            Self::Legacy(legacy) => legacy.doorbell(),
        }
    }

    /// Tells the device of a ring, but for enabling it.  May sleep.
    ///
    /// # Errors
    ///
    /// `E2BIG` if the interface has no room for the address.
    pub(crate) fn place_queue(&self, index: u16, size: u16, addresses: &Addresses) -> Result {
        match self {
            Self::Modern(modern) => {
                let registers = modern.common.queue(index);
                registers.set_size(size);
                registers.set_addresses(addresses);
                Ok(())
            }
            Self::Legacy(legacy) => legacy.page_number(addresses).map(|_| ()),
        }
    }

    /// Hands a queue to the device.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Interface::place_queue`], which has checked it.
    pub(crate) fn enable_queue(&self, index: u16, addresses: &Addresses) -> Result {
        match self {
            Self::Modern(modern) => {
                modern.common.queue(index).enable();
                Ok(())
            }
            Self::Legacy(legacy) => legacy.enable_queue(index, addresses),
        }
    }

    /// Waits until the device shows that a queue is enabled; the legacy interface does not tell.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not before a deadline.
    pub(crate) fn await_enabled(&self, index: u16) -> Result {
        match self {
            Self::Modern(modern) => modern.common.queue(index).await_enabled(),
            Self::Legacy(_) => Ok(()),
        }
    }

    /// Resets a queue alone.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the interface cannot, `ETIMEDOUT` or `EIO` if the device does not.
    pub(crate) fn reset_queue(&self, index: u16) -> Result {
        match self {
            Self::Modern(modern) => modern.common.queue(index).reset(),
            Self::Legacy(_) => Err(ENOENT),
        }
    }

    /// Whether the device shows a queue as reset and not enabled.  May sleep.
    pub(crate) fn is_queue_reset(&self, index: u16) -> bool {
        match self {
            Self::Modern(modern) => modern.common.queue(index).is_reset(),
            Self::Legacy(_) => false,
        }
    }

    /// Takes a queue back, of a device that was reset.  May sleep.
    pub(crate) fn release_queue(&self, index: u16) {
        match self {
            // A reset did it.
            Self::Modern(_) => {}
            Self::Legacy(legacy) => legacy.disable_queue(index),
        }
    }

    /// Assigns a vector, and checks that the device took it (specification 4.1.5.1.2).  May sleep.
    fn assign(&self, source: Source, vector: u16) -> Result {
        let taken = match (self, source) {
            (Self::Modern(modern), Source::Config) => modern.common.set_config_vector(vector),
            (Self::Modern(modern), Source::Queue(index)) => {
                modern.common.queue(index).set_vector(vector)
            }
            (Self::Legacy(legacy), Source::Config) => legacy.set_config_vector(vector),
            (Self::Legacy(legacy), Source::Queue(index)) => legacy.set_queue_vector(index, vector),
        };
        if taken == vector {
            Ok(())
        } else {
            Err(EBUSY)
        }
    }
}

/// What can interrupt.
#[derive(Clone, Copy)]
enum Source {
    Config,
    Queue(u16),
}

/// An MSI-X vector that the device uses for one source; taken back when dropped.
pub(crate) struct Assignment {
    interface: Arc<Interface>,
    source: Source,
}

impl Assignment {
    /// Assigns a vector to configuration changes.  May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device does not take it (specification 4.1.5.1.2).
    pub(crate) fn config(interface: &Arc<Interface>, vector: u16) -> Result<Self> {
        Self::new(interface, Source::Config, vector)
    }

    /// Assigns a vector to a queue.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Assignment::config`].
    pub(crate) fn queue(interface: &Arc<Interface>, index: u16, vector: u16) -> Result<Self> {
        Self::new(interface, Source::Queue(index), vector)
    }

    fn new(interface: &Arc<Interface>, source: Source, vector: u16) -> Result<Self> {
        // Made first, so that a value that the device took half is taken back.
        let assignment = Self {
            interface: interface.clone(),
            source,
        };
        interface.assign(source, vector)?;
        Ok(assignment)
    }

    /// Assigns `vector` again, of which the device has lost knowledge.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Assignment::config`].
    pub(crate) fn renew(&self, vector: u16) -> Result {
        self.interface.assign(self.source, vector)
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        // A device that does not take even this interrupts nobody: the handler is gone.
        let _ = self.interface.assign(self.source, MSI_NO_VECTOR);
    }
}
