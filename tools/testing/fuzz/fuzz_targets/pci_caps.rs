// SPDX-License-Identifier: GPL-2.0

//! Any PCI configuration space and any BARs: what the parser accepts lies inside the BARs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use virtio_spec::pci::{parse_capabilities, BarInfo, BarKind};
use virtio_spec_tests::{assert_sound, config_space, ordinary};

/// One byte of a BAR's length, as a power of two; the low bit of it says whether it is I/O.
fn bar(byte: u8) -> Option<BarInfo> {
    let kind = if byte & 1 == 1 {
        BarKind::Io
    } else {
        BarKind::Mem
    };
    let len = 1_u64.checked_shl(u32::from(byte >> 2))?;
    (byte & 2 == 0).then_some(BarInfo { len, kind })
}

fuzz_target!(|input: &[u8]| {
    let Some((bars, rest)) = input.split_first_chunk::<6>() else {
        return;
    };
    let bars = bars.map(bar);
    if let Ok(found) = parse_capabilities(rest, &bars) {
        assert_sound(&found, &bars);
    }
    // The same bytes as changes to an ordinary device: deeper, because most of it stays valid.
    let mut cfg = config_space(&ordinary());
    for change in rest.chunks_exact(2) {
        if let [at, value] = *change {
            cfg[usize::from(at)] ^= value;
        }
    }
    if let Ok(found) = parse_capabilities(&cfg, &bars) {
        assert_sound(&found, &bars);
    }
});
