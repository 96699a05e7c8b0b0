// SPDX-License-Identifier: GPL-2.0

//! The directory of a driver in that of each receive queue: `queues/rx-N/virtio_net`.
//!
//! C header: [`include/net/netdev_rx_queue.h`](srctree/include/net/netdev_rx_queue.h).

use crate::{
    device::DeviceRef,
    operations::Operations, //
};
use core::{
    fmt::{
        self,
        Write, //
    },
    marker::PhantomData,
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    ffi::c_char,
    prelude::*, //
};
use virtio_bindings as bindings;

/// Bytes of a number in decimal, with the end of the line and a zero.
const NUMBER_LEN: usize = 12;

/// What C points to.
///
/// # Invariants
///
/// Never written.
#[repr(transparent)]
struct Shared<T>(T);

// SAFETY: By the type invariants.
unsafe impl<T> Sync for Shared<T> {}

/// The attributes of a driver's receive queues.
pub(crate) struct Attributes<O: Operations>(PhantomData<O>);

impl<O: Operations> Attributes<O> {
    const BUFFER_SIZE: &'static Shared<bindings::rx_queue_attribute> = &{
        // SAFETY: All zeroes are a valid `struct rx_queue_attribute`: no callbacks.
        let mut attribute: bindings::rx_queue_attribute =
            unsafe { MaybeUninit::zeroed().assume_init() };
        attribute.attr.name = c"mergeable_rx_buffer_size".to_bytes_with_nul().as_ptr();
        attribute.attr.mode = 0o444;
        attribute.show = Some(Self::show_buffer_size);
        Shared(attribute)
    };

    const ALL: &'static Shared<[*const bindings::attribute; 2]> =
        &Shared([&raw const Self::BUFFER_SIZE.0.attr, ptr::null()]);

    const GROUP: &'static Shared<bindings::attribute_group> = &{
        // SAFETY: All zeroes are a valid `struct attribute_group`: no name, no attributes.
        let mut group: bindings::attribute_group = unsafe { MaybeUninit::zeroed().assume_init() };
        group.name = c"virtio_net".to_bytes_with_nul().as_ptr();
        group.__bindgen_anon_2 = kernel::bindings::attribute_group__bindgen_ty_2 {
            attrs: Self::ALL.0.as_ptr().cast_mut().cast(),
        };
        Shared(group)
    };

    /// As C wants them.
    pub(crate) fn as_ptr() -> *const bindings::attribute_group {
        &raw const Self::GROUP.0
    }

    /// # Safety
    ///
    /// `queue` is of a registered device of a driver with these operations, and `page` is a page, as sysfs
    /// passes them.
    unsafe extern "C" fn show_buffer_size(
        queue: *mut bindings::netdev_rx_queue,
        page: *mut c_char,
    ) -> isize {
        let mut text = Line::default();
        // SAFETY: By the contract; attributes go before the device is not registered any more.
        unsafe {
            let index = bindings::virtio_rx_queue_index(queue) as usize;
            let data = DeviceRef::<O>::with_data((*queue).dev).1;
            let _ = writeln!(text, "{}", O::rx_buffer_size(data, index));
            ptr::copy_nonoverlapping(text.bytes.as_ptr(), page.cast(), text.len);
        }
        text.len as isize
    }
}

/// A number, as text.
#[derive(Default)]
struct Line {
    bytes: [u8; NUMBER_LEN],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[kunit_tests(virtio_netdev_sysfs)]
mod tests {
    use super::*;

    #[test]
    fn any_number_is_a_line() {
        let mut text = Line::default();
        assert!(writeln!(text, "{}", u32::MAX).is_ok());
        assert!(text.bytes.get(..text.len) == Some(b"4294967295\n"));
    }
}
