// SPDX-License-Identifier: GPL-2.0

//! The size of a disk in words.
//!
//! C source: `virtblk_update_capacity` in `drivers/block/virtio_blk.c`.

use core::fmt::Write;
use kernel::{
    fmt,
    macros::kunit_tests,
    prelude::*, //
};
use virtio_bindings as bindings;

/// The size of a disk, to be logged: blocks, and units of ten and of two.
pub struct Size {
    sectors: u64,
    block: u32,
}

impl Size {
    /// The size of `sectors` of 512 bytes, as blocks of `block` bytes, at least 512.
    pub fn new(sectors: u64, block: u32) -> Self {
        Self {
            sectors,
            block: block.max(512),
        }
    }

    fn blocks(&self) -> u64 {
        self.sectors.div_ceil(u64::from(self.block / 512))
    }

    fn write_units(
        &self,
        f: &mut fmt::Formatter<'_>,
        units: bindings::string_size_units,
    ) -> fmt::Result {
        let mut text = [0_u8; 16];
        // SAFETY: The text has that much room, and ends with a zero.
        unsafe {
            bindings::string_get_size(
                self.blocks(),
                self.block.into(),
                units,
                text.as_mut_ptr().cast(),
                text.len() as i32,
            )
        };
        let text = CStr::from_bytes_until_nul(&text).map_err(|_| fmt::Error)?;
        f.write_str(core::str::from_utf8(text.to_bytes()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-byte logical blocks (", self.blocks(), self.block)?;
        self.write_units(f, bindings::string_size_units_STRING_UNITS_10)?;
        f.write_char('/')?;
        self.write_units(f, bindings::string_size_units_STRING_UNITS_2)?;
        f.write_char(')')
    }
}

#[kunit_tests(virtio_block_mq_size)]
mod tests {
    use super::*;
    use kernel::str::CString;

    #[test]
    fn sizes_read_as_those_of_c() -> Result {
        for (sectors, block, text) in [
            (0, 512, c"0 512-byte logical blocks (0 B/0 B)"),
            (1, 512, c"1 512-byte logical blocks (512 B/512 B)"),
            (
                131_072,
                512,
                c"131072 512-byte logical blocks (67.1 MB/64.0 MiB)",
            ),
            (
                131_072,
                4096,
                c"16384 4096-byte logical blocks (67.1 MB/64.0 MiB)",
            ),
            (9, 4096, c"2 4096-byte logical blocks (8.19 kB/8.00 KiB)"),
        ] {
            let text_of = CString::try_from_fmt(fmt!("{}", Size::new(sectors, block)))?;
            assert!(*text_of == *text);
        }
        Ok(())
    }
}
