// SPDX-License-Identifier: GPL-2.0

//! The attributes of a device on the bus: `device`, `vendor`, `status`, `modalias`, `features`.
//!
//! C source: `drivers/virtio/virtio.c`.

use crate::{
    bus,
    device::Device, //
};
use core::{
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    ffi::c_char,
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::features::FEATURE_BITS;

type Show = unsafe extern "C" fn(
    *mut bindings::device,
    *mut bindings::device_attribute,
    *mut c_char,
) -> isize;

#[repr(transparent)]
struct Attribute(bindings::device_attribute);

// SAFETY: Never written after its definition.
unsafe impl Sync for Attribute {}

const fn attribute(name: &'static CStr, show: Show) -> Attribute {
    // SAFETY: All zeroes are a valid `struct device_attribute`: no callbacks.
    let mut attribute: bindings::device_attribute = unsafe { MaybeUninit::zeroed().assume_init() };
    attribute.attr.name = name.to_bytes_with_nul().as_ptr();
    attribute.attr.mode = 0o444;
    attribute.__bindgen_anon_1 =
        kernel::bindings::device_attribute__bindgen_ty_1 { show: Some(show) };
    Attribute(attribute)
}

static DEVICE: Attribute = attribute(c"device", show_device);
static VENDOR: Attribute = attribute(c"vendor", show_vendor);
static STATUS: Attribute = attribute(c"status", show_status);
static MODALIAS: Attribute = attribute(c"modalias", show_modalias);
static FEATURES: Attribute = attribute(c"features", show_features);

#[repr(transparent)]
struct Pointers<T, const N: usize>([*const T; N]);

// SAFETY: Never written after their definition, and they point to statics.
unsafe impl<T, const N: usize> Sync for Pointers<T, N> {}

static ATTRIBUTES: Pointers<bindings::attribute, 6> = Pointers([
    &raw const DEVICE.0.attr,
    &raw const VENDOR.0.attr,
    &raw const STATUS.0.attr,
    &raw const MODALIAS.0.attr,
    &raw const FEATURES.0.attr,
    ptr::null(),
]);

#[repr(transparent)]
struct Group(bindings::attribute_group);

// SAFETY: Never written after its definition.
unsafe impl Sync for Group {}

static GROUP: Group = {
    // SAFETY: All zeroes are a valid `struct attribute_group`: no name, no attributes.
    let mut group: bindings::attribute_group = unsafe { MaybeUninit::zeroed().assume_init() };
    group.__bindgen_anon_2 = kernel::bindings::attribute_group__bindgen_ty_2 {
        attrs: ATTRIBUTES.0.as_ptr().cast_mut().cast(),
    };
    Group(group)
};

/// The groups of every device on the bus, ended by null.
pub(crate) struct Groups(Pointers<bindings::attribute_group, 2>);

impl Groups {
    pub(crate) const fn as_ptr(&self) -> *const *const bindings::attribute_group {
        self.0 .0.as_ptr()
    }
}

pub(crate) static GROUPS: Groups = Groups(Pointers([&raw const GROUP.0, ptr::null()]));

/// Writes to sysfs' page, and stops at its end.
struct Page<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    used: usize,
}

impl core::fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.used..).unwrap_or_default();
        if text.len() > room.len() {
            return Err(core::fmt::Error);
        }
        for (room, byte) in room.iter_mut().zip(text.bytes()) {
            room.write(byte);
        }
        self.used += text.len();
        Ok(())
    }
}

/// Formats into sysfs' page, and returns how much was written.
///
/// # Safety
///
/// `page` has `PAGE_SIZE` writable bytes.
unsafe fn emit(page: *mut c_char, args: core::fmt::Arguments<'_>) -> isize {
    // SAFETY: By the contract.
    let bytes = unsafe { core::slice::from_raw_parts_mut(page.cast(), bindings::PAGE_SIZE) };
    let mut page = Page { bytes, used: 0 };
    match core::fmt::Write::write_fmt(&mut page, args) {
        Ok(()) => page.used as isize,
        Err(_) => EIO.to_errno() as isize,
    }
}

/// The device that sysfs asks about.
///
/// # Safety
///
/// `dev` is on the virtio bus.
unsafe fn virtio<'a>(dev: *mut bindings::device) -> &'a Device {
    // SAFETY: By the contract.
    unsafe { Device::from_raw(bus::to_virtio(dev)) }
}

macro_rules! show {
    ($name:ident, |$dev:ident| $($format:tt)*) => {
        extern "C" fn $name(
            dev: *mut bindings::device,
            _attribute: *mut bindings::device_attribute,
            page: *mut c_char,
        ) -> isize {
            // SAFETY: sysfs passes a device of this bus and a whole page.
            unsafe {
                let $dev = virtio(dev);
                emit(page, core::format_args!($($format)*))
            }
        }
    };
}

show!(show_device, |dev| "0x{:04x}\n", dev.id().0);
show!(show_vendor, |dev| "0x{:04x}\n", dev.id().1);
show!(show_status, |dev| "0x{:08x}\n", dev.status().bits());
show!(
    show_modalias,
    |dev| "virtio:d{:08X}v{:08X}\n",
    dev.id().0,
    dev.id().1
);
show!(show_features, |dev| "{}\n", BitString(dev));

/// The agreed features as 128 characters, bit 0 first.
struct BitString<'a>(&'a Device);

impl core::fmt::Display for BitString<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let features = self.0.features();
        for bit in 0..FEATURE_BITS {
            f.write_str(if features.has_bit(bit) { "1" } else { "0" })?;
        }
        Ok(())
    }
}
