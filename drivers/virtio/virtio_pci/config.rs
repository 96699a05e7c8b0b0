// SPDX-License-Identifier: GPL-2.0

//! Device configuration space (specification 4.1.4.6), which may be shorter than a driver thinks.
//!
//! C source: `vp_get` and `vp_set` of `drivers/virtio/virtio_pci_modern.c`.

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
use virtio_spec::pci::Region;

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

/// The device configuration.
pub(crate) struct DeviceConfig {
    pci: DeviceRef,
    window: Option<Window>,
    reported: AtomicFlag,
}

impl DeviceConfig {
    /// Maps the configuration, if the device has one.  May sleep.
    pub(crate) fn map(pci: DeviceRef, bars: &Arc<Bars>, region: Option<Region>) -> Result<Self> {
        let window = region
            .map(|region| {
                let len = region.length().min(MAX_LEN);
                Window::map(bars, region.bar(), region.offset(), len)
            })
            .transpose()?;
        Ok(Self {
            pci,
            window,
            reported: AtomicFlag::new(false),
        })
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
        let width = register_width(offset, len);
        for start in (0..len).step_by(width) {
            let register = u64::from(offset) + start as u64;
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
                self.window.as_ref().map_or(0, Window::size)
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
