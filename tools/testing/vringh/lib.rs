// SPDX-License-Identifier: GPL-2.0

//! The `virtqueue` crate behind a few C functions, for `ring.c` and with it `vringh_test` of the
//! kernel's `tools/virtio`.
//!
//! Whatever goes wrong ends the program: a panic does not leave a function of the C ABI.

mod memory;

use core::ffi::c_void;
use core::slice;

use memory::Memory;
use virtqueue::{
    layout::SplitLayout,
    AddErrorKind,
    CbState,
    Config,
    Entry,
    Features,
    Layout,
    LengthPolicy,
    QueueSize,
    Ring,
    Segment,
    Slot, //
};

/// What a chain carries while it is in flight.
pub struct InFlight {
    /// The caller's.
    data: *mut c_void,
    /// Room for an indirect table, or null.
    table: *mut c_void,
}

/// A queue, opaque to C.
pub struct Queue {
    ring: Ring<Memory, (Vec<Slot<InFlight>>, Vec<Entry>)>,
}

/// `struct ring_segment` of `ring.c`.
#[repr(C)]
pub struct RingSegment {
    addr: u64,
    len: u32,
}

/// `struct ring_used` of `ring.c`.
#[repr(C)]
pub struct RingUsed {
    data: *mut c_void,
    table: *mut c_void,
    len: u32,
}

/// `enum ring_added` of `ring.c`.
#[repr(C)]
pub enum RingAdded {
    /// The chain is in the ring.
    Added,
    /// There is no room for it now.
    Full,
    /// It can never be added.
    Refused,
}

fn segments(list: &[RingSegment]) -> Vec<Segment> {
    let segment = |from: &RingSegment| Segment {
        addr: from.addr,
        len: from.len,
    };
    list.iter().map(segment).collect()
}

/// Makes a split ring of `size` descriptors in `pages`, with the used ring aligned to `align` bytes.
///
/// # Safety
///
/// `pages` is aligned to 16 bytes, is as long as `vring_size(size, align)` says, and lives as long as
/// the queue.
#[no_mangle]
pub unsafe extern "C" fn ring_new(
    pages: *mut c_void,
    size: u32,
    align: usize,
    event_idx: bool,
    indirect: bool,
    callbacks: bool,
) -> Box<Queue> {
    let size = QueueSize::new(size).expect("a size that a ring may have");
    let layout = SplitLayout::new(size, align).expect("a power of two");
    let count = usize::from(size.get());
    let config = Config {
        layout: Layout::Split,
        size,
        features: Features {
            event_idx,
            indirect,
        },
        callbacks,
        length_policy: LengthPolicy::Reject,
    };
    // SAFETY: the caller promises the memory that `layout` describes.
    let memory =
        unsafe { Memory::new(pages.cast(), layout, if indirect { size.get() } else { 0 }) };
    let slots = (0..count).map(|_| Slot::EMPTY).collect();
    let ring = Ring::new(config, memory, (slots, Vec::new())).expect("a ring");
    Box::new(Queue { ring })
}

/// Frees a queue. What is in flight stays with the caller.
#[no_mangle]
pub extern "C" fn ring_free(queue: Box<Queue>) {
    drop(queue);
}

/// Adds and publishes a chain of `readable` and then `writable` segments out of `list`. `table` has
/// room for 16 bytes for each of them, or is null if the queue takes no indirect tables.
///
/// # Safety
///
/// `list` has that many segments, and `table` that much room, aligned to 16 bytes, for as long as the
/// chain is in flight.
#[no_mangle]
pub unsafe extern "C" fn ring_add(
    queue: &mut Queue,
    list: *const RingSegment,
    readable: usize,
    writable: usize,
    data: *mut c_void,
    table: *mut c_void,
) -> RingAdded {
    // SAFETY: the caller promises so many segments.
    let list = unsafe { slice::from_raw_parts(list, readable + writable) };
    let list = segments(list);
    let (readable, writable) = list.split_at(readable);
    // SAFETY: the caller promises an entry for each segment.
    unsafe { queue.ring.mem().set_table(table.cast(), list.len()) };
    match queue.ring.add(readable, writable, InFlight { data, table }) {
        Ok(()) => {
            // As C does: a chain is seen by the device at once, and only the notification waits.
            queue.ring.publish();
            RingAdded::Added
        }
        Err(error) if error.kind == AddErrorKind::Full => RingAdded::Full,
        Err(_) => RingAdded::Refused,
    }
}

/// Whether the device wants a notification of what was added since the last call.
#[no_mangle]
pub extern "C" fn ring_kick_prepare(queue: &mut Queue) -> bool {
    queue.ring.kick_prepare()
}

/// Takes the next used chain; false if there is none.
#[no_mangle]
pub extern "C" fn ring_poll(queue: &mut Queue, used: &mut RingUsed) -> bool {
    let Some(next) = queue.ring.poll().expect("a device that keeps to the rules") else {
        return false;
    };
    *used = RingUsed {
        data: next.payload.data,
        table: next.payload.table,
        len: next.written,
    };
    true
}

/// Switches interrupts off.
#[no_mangle]
pub extern "C" fn ring_disable_cb(queue: &mut Queue) {
    queue.ring.disable_cb();
}

/// Switches interrupts on, to come when most of what is in flight has been used; false if it has been
/// already.
#[no_mangle]
pub extern "C" fn ring_enable_cb_delayed(queue: &mut Queue) -> bool {
    queue.ring.enable_cb_delayed() == CbState::Armed
}
