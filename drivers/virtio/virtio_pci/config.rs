// SPDX-License-Identifier: GPL-2.0

//! Device configuration space (specification 4.1.4.6, legacy 4.1.4.10), which may be shorter than a
//! driver thinks.
//!
//! C source: `vp_get` and `vp_set` of `drivers/virtio/virtio_pci_modern.c` and
//! `virtio_pci_legacy.c`.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc, //
    }, //
};
use pci_ext::{
    io::{
        Bars,
        Window, //
    },
    DeviceRef, //
};
use virtio_spec::pci::{
    legacy,
    Region, //
};

/// Device configurations are short; as in C, no more than a page of it is mapped.
const MAX_LEN: u64 = kernel::page::PAGE_SIZE as u64;

/// The width of the registers that `len` bytes at `offset` are made of (specification 4.1.3.1).
///
/// A field of 8 bytes is two registers of 4; what is misaligned, or has another length, is bytes.
fn register_width(offset: u32, len: usize) -> usize {
    let width = match len {
        1 | 2 | 4 => len,
        8 => 4,
        _ => 1,
    };
    if offset as usize % width == 0 {
        width
    } else {
        1
    }
}

/// Where in its window the configuration is.
#[derive(Clone, Copy)]
enum Placement {
    /// At the start; fields are registers of their width.
    Modern,
    /// Behind the legacy header, which ends here or a little later; all registers are bytes.
    Legacy,
}

/// The device configuration.
pub(crate) struct DeviceConfig {
    pci: DeviceRef,
    window: Option<Window>,
    placement: Placement,
    reported: AtomicFlag,
}

impl DeviceConfig {
    /// Maps the configuration of a modern device, if it has one.  May sleep.
    pub(crate) fn map(pci: DeviceRef, bars: &Arc<Bars>, region: Option<Region>) -> Result<Self> {
        let window = region
            .map(|region| {
                let len = region.length().min(MAX_LEN);
                Window::map(bars, region.bar(), region.offset(), len)
            })
            .transpose()?;
        Ok(Self::new(pci, window, Placement::Modern))
    }

    /// Maps the configuration of a legacy device, if there is any in the `bar_len` bytes of its
    /// BAR.  May sleep.
    pub(crate) fn map_legacy(
        pci: DeviceRef,
        bars: &Arc<Bars>,
        bar: u8,
        bar_len: u64,
    ) -> Result<Self> {
        let start = legacy::device_config(false) as u64;
        let window = match bar_len.saturating_sub(start) {
            0 => None,
            len => Some(Window::map(bars, bar, start, len.min(MAX_LEN))?),
        };
        Ok(Self::new(pci, window, Placement::Legacy))
    }

    fn new(pci: DeviceRef, window: Option<Window>, placement: Placement) -> Self {
        Self {
            pci,
            window,
            placement,
            reported: AtomicFlag::new(false),
        }
    }

    /// The configuration of a modern device that a test plays.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn model(pci: DeviceRef, window: Option<Window>) -> Self {
        Self::new(pci, window, Placement::Modern)
    }

    /// Offset in the window of the first byte.
    fn start(&self) -> u64 {
        match self.placement {
            Placement::Modern => 0,
            Placement::Legacy => {
                let start = legacy::device_config(self.pci.has_msix_enabled());
                (start - legacy::device_config(false)) as u64
            }
        }
    }

    /// Length in bytes.
    fn size(&self) -> u64 {
        self.window
            .as_ref()
            .map_or(0, |window| window.size().saturating_sub(self.start()))
    }

    pub(crate) fn unmap(&self) {
        if let Some(window) = &self.window {
            window.unmap();
        }
    }

    /// Calls `access` for each register that `len` bytes at `offset` are made of, with its place
    /// in the bytes; says once if some of them lie outside.
    fn for_each_register(
        &self,
        offset: u32,
        len: usize,
        mut access: impl FnMut(&Window, u64, core::ops::Range<usize>),
    ) {
        let width = match self.placement {
            Placement::Modern => register_width(offset, len),
            Placement::Legacy => 1,
        };
        let first = self.start() + u64::from(offset);
        for start in (0..len).step_by(width) {
            let register = first + start as u64;
            match &self.window {
                Some(window) if register + width as u64 <= window.size() => {
                    access(window, register, start..start + width);
                }
                _ => self.report(offset, len),
            }
        }
    }

    fn report(&self, offset: u32, len: usize) {
        if !self.reported.xchg(true, Relaxed) {
            dev_warn!(
                (*self.pci).as_ref(),
                "driver accesses {} bytes at {} of a device configuration of {} bytes\n",
                len,
                offset,
                self.size()
            );
        }
    }

    /// Reads `bytes` at `offset`; those that the device does not have are 0.
    pub(crate) fn read(&self, offset: u32, bytes: &mut [u8]) {
        bytes.fill(0);
        self.for_each_register(offset, bytes.len(), |window, register, range| {
            match bytes.get_mut(range) {
                Some([byte]) => *byte = window.read8(register),
                Some([a, b]) => [*a, *b] = window.read16(register).to_le_bytes(),
                Some([a, b, c, d]) => {
                    [*a, *b, *c, *d] = window.read32(register).to_le_bytes();
                }
                _ => {}
            }
        });
    }

    /// Writes `bytes` at `offset`; those that the device does not have are dropped.
    pub(crate) fn write(&self, offset: u32, bytes: &[u8]) {
        self.for_each_register(offset, bytes.len(), |window, register, range| {
            match bytes.get(range) {
                Some(&[byte]) => window.write8(register, byte),
                Some(&[a, b]) => window.write16(register, u16::from_le_bytes([a, b])),
                Some(&[a, b, c, d]) => {
                    window.write32(register, u32::from_le_bytes([a, b, c, d]));
                }
                _ => {}
            }
        });
    }
}

#[kunit_tests(virtio_pci_config)]
mod tests {
    use super::register_width;

    #[test]
    fn fields_are_registers_of_their_width() {
        for len in [1, 2, 4] {
            assert_eq!(register_width(4, len), len);
        }
    }

    #[test]
    fn a_64_bit_field_is_two_registers() {
        assert_eq!(register_width(0, 8), 4);
        assert_eq!(register_width(4, 8), 4);
    }

    #[test]
    fn a_mac_address_is_bytes() {
        assert_eq!(register_width(0, 6), 1);
    }

    #[test]
    fn misaligned_fields_are_bytes() {
        assert_eq!(register_width(1, 2), 1);
        assert_eq!(register_width(6, 4), 1);
        assert_eq!(register_width(2, 8), 1);
    }
}
