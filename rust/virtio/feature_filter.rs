// SPDX-License-Identifier: GPL-2.0

//! The feature filter: features that a device is to be driven without, to be set in debugfs.
//!
//! C source: `drivers/virtio/virtio_debug.c`.  Unlike there, a change and a probe that reads the filter
//! do not see half of each other: the config lock is held.

use crate::{
    debugfs::{
        readable,
        writable,
        File,
        Show,
        Take, //
    },
    device::Device, //
};
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};
use virtio_spec::{
    features::FEATURE_BITS,
    Features, //
};

/// The files, in the directory of a device.
pub(crate) static FILES: [File; 5] = [
    readable::<Offered>(c"device_features"),
    readable::<Filter>(c"filter_features"),
    writable::<Clear>(c"filter_features_clear"),
    writable::<Add>(c"filter_feature_add"),
    writable::<Delete>(c"filter_feature_del"),
];

/// One bit number a line.
fn print(file: &SeqFile, features: Features) {
    for bit in features.iter() {
        seq_print!(file, "{}\n", bit);
    }
}

struct Offered;

impl Show for Offered {
    fn show(dev: &Device, file: &SeqFile) -> Result {
        // Transports take several accesses to read them: not while a probe does the same.
        let offered = dev.with_device_lock_interruptible(Device::offered_features)?;
        print(file, offered);
        Ok(())
    }
}

struct Filter;

impl Show for Filter {
    fn show(dev: &Device, file: &SeqFile) -> Result {
        print(file, dev.filter_features());
        Ok(())
    }
}

struct Clear;

impl Take for Clear {
    fn take(dev: &Device, value: u64) -> Result {
        // C ignores any other value, without an error.
        if value == 1 {
            dev.change_filter_features(|_| Features::EMPTY);
        }
        Ok(())
    }
}

/// The feature bit that was written.
fn bit(value: u64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|bit| *bit < FEATURE_BITS)
        .ok_or(EINVAL)
}

struct Add;

impl Take for Add {
    fn take(dev: &Device, value: u64) -> Result {
        let bit = bit(value)?;
        dev.change_filter_features(|filter| filter.with_bit(bit));
        Ok(())
    }
}

struct Delete;

impl Take for Delete {
    fn take(dev: &Device, value: u64) -> Result {
        let bit = bit(value)?;
        dev.change_filter_features(|filter| filter.without_bit(bit));
        Ok(())
    }
}
