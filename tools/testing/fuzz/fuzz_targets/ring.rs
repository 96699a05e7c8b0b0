// SPDX-License-Identifier: GPL-2.0

//! A ring of any layout against a device that writes what the input says.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    virtqueue_tests::hostile::run(bytes);
});
