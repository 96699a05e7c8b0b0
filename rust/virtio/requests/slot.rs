// SPDX-License-Identifier: GPL-2.0

//! A slot: the memory that a request shares with the device beside its data.

use super::{
    Command,
    Data,
    HEADER_SIZE, //
};
use core::ptr::NonNull;
use kernel::macros::kunit_tests;
use virtio_ring::{
    Direction,
    Segment, //
};

/// Bytes of a slot: footer, header, and units of 16 bytes that are descriptors or inline data.
pub(super) const SLOT_SIZE: usize = 512;
const FOOTER_OFFSET: usize = 0;
const HEADER_OFFSET: usize = FOOTER_OFFSET + HEADER_SIZE;
pub(super) const TABLE_OFFSET: usize = HEADER_OFFSET + HEADER_SIZE;
pub(super) const UNIT: usize = 16;

/// Descriptors of a table: header, data and footer.
pub(super) const TABLE_ROOM: u16 = ((SLOT_SIZE - TABLE_OFFSET) / UNIT) as u16;

/// Inline data comes behind a table of three descriptors.
const INLINE_OFFSET: usize = TABLE_OFFSET + 3 * UNIT;
pub(super) const INLINE_SIZE: usize = SLOT_SIZE - INLINE_OFFSET;

/// What the footer is filled with before the device has it.
const FOOTER_FILL: u64 = u64::MAX;

/// Our side of a slot.
///
/// # Invariants
///
/// `memory` has [`SLOT_SIZE`] bytes, aligned to 16, that are shared with the device for as long as
/// the slot exists, and are touched by volatile accesses alone.
pub(super) struct Slot {
    memory: NonNull<u8>,
    address: u64,
    /// The device has the request.
    pub(super) in_flight: bool,
    /// What the device does with the data that is to be unmapped.
    pub(super) direction: Direction,
    /// Entries of the queue's copies that are to be unmapped.
    pub(super) mapped: u16,
    /// The large table that is used in place of the slot's own.
    pub(super) large: Option<u16>,
}

impl Slot {
    /// # Safety
    ///
    /// As the type invariants.
    pub(super) unsafe fn new(memory: NonNull<u8>, address: u64) -> Self {
        // INVARIANT: By the contract.
        Self {
            memory,
            address,
            in_flight: false,
            direction: Direction::Readable,
            mapped: 0,
            large: None,
        }
    }

    /// Whether an address of the device's is in the slot.
    pub(super) fn holds(&self, address: u64) -> bool {
        (self.address..self.address + SLOT_SIZE as u64).contains(&address)
    }

    fn segment(&self, offset: usize, len: usize) -> Segment {
        Segment {
            // No memory ends at the last address.
            addr: self.address.wrapping_add(offset as u64),
            len: len as u32,
        }
    }

    /// What the device reads first.
    #[inline(always)]
    pub(super) fn header(&self) -> Segment {
        self.segment(HEADER_OFFSET, HEADER_SIZE)
    }

    /// What the device writes last.
    #[inline(always)]
    pub(super) fn footer(&self, command: &Command<'_>) -> Segment {
        self.segment(FOOTER_OFFSET, command.footer.clamp(1, HEADER_SIZE))
    }

    /// Where the device finds the table.
    #[inline(always)]
    pub(super) fn table_address(&self) -> u64 {
        self.address.wrapping_add(TABLE_OFFSET as u64)
    }

    /// Where the table is.
    #[inline(always)]
    pub(super) fn table_memory(&self) -> NonNull<u8> {
        // SAFETY: By the type invariants, in bounds.
        unsafe { self.memory.add(TABLE_OFFSET) }
    }

    /// The data in the slot, if `command` has any there.
    #[inline(always)]
    pub(super) fn inline(&self, command: &Command<'_>) -> Option<(Segment, Direction)> {
        match command.data {
            Data::None | Data::Request => None,
            Data::Readable(bytes) => Some((
                self.segment(INLINE_OFFSET, bytes.len().min(INLINE_SIZE)),
                Direction::Readable,
            )),
            Data::Writable(len) => Some((
                self.segment(INLINE_OFFSET, len.min(INLINE_SIZE)),
                Direction::Writable,
            )),
        }
    }

    /// Writes header, footer and inline data for the device.  False if the data does not fit.
    #[inline(always)]
    pub(super) fn fill(&mut self, command: &Command<'_>) -> bool {
        // SAFETY: By the type invariants, in bounds and aligned.
        unsafe {
            let header: [u64; 2] = core::mem::transmute(command.header);
            let at = self.memory.add(HEADER_OFFSET).cast::<u64>();
            at.write_volatile(header[0]);
            at.add(1).write_volatile(header[1]);
            let at = self.memory.add(FOOTER_OFFSET).cast::<u64>();
            at.write_volatile(FOOTER_FILL);
            at.add(1).write_volatile(FOOTER_FILL);
        }
        match command.data {
            Data::None | Data::Request => true,
            Data::Readable(bytes) => bytes.len() <= INLINE_SIZE && self.store(bytes),
            Data::Writable(len) => len <= INLINE_SIZE && self.store(&[0; INLINE_SIZE]),
        }
    }

    fn store(&mut self, bytes: &[u8]) -> bool {
        for (at, byte) in bytes.iter().take(INLINE_SIZE).enumerate() {
            // SAFETY: By the type invariants, in bounds.
            unsafe { self.memory.add(INLINE_OFFSET + at).write_volatile(*byte) };
        }
        true
    }

    /// What the device wrote to the footer, read once.
    #[inline(always)]
    pub(super) fn read_footer(&self) -> [u8; HEADER_SIZE] {
        // SAFETY: By the type invariants, in bounds and aligned.
        let words: [u64; 2] = unsafe {
            let at = self.memory.add(FOOTER_OFFSET).cast::<u64>();
            [at.read_volatile(), at.add(1).read_volatile()]
        };
        // SAFETY: Bytes, of the same number.
        unsafe { core::mem::transmute(words) }
    }

    /// Copies what the device wrote to the inline data, each byte read once.
    pub(super) fn read_inline(&self, to: &mut [u8]) {
        for (at, byte) in to.iter_mut().take(INLINE_SIZE).enumerate() {
            // SAFETY: By the type invariants, in bounds.
            *byte = unsafe { self.memory.add(INLINE_OFFSET + at).read_volatile() };
        }
    }
}

#[kunit_tests(virtio_requests_slot)]
mod tests {
    use super::*;
    use kernel::prelude::*;

    const ADDRESS: u64 = 0x10_0000;

    #[repr(C, align(64))]
    struct Memory([u8; SLOT_SIZE]);

    /// Runs `f` on a slot, and on a way to see its memory as the device does.
    fn with_slot(f: impl FnOnce(&mut Slot, &dyn Fn(usize) -> u8)) -> Result {
        let memory = KBox::leak(KBox::new(Memory([0; SLOT_SIZE]), GFP_KERNEL)?);
        let start = NonNull::from(&mut *memory).cast::<u8>();
        // SAFETY: Leaked; taken back below.
        let mut slot = unsafe { Slot::new(start, ADDRESS) };
        // SAFETY: As above, and in bounds.
        f(&mut slot, &|at| unsafe {
            start.add(at % SLOT_SIZE).read_volatile()
        });
        // SAFETY: Leaked above.
        drop(unsafe { KBox::<Memory>::from_raw(start.as_ptr().cast()) });
        Ok(())
    }

    fn command(data: Data<'_>, footer: usize) -> Command<'_> {
        Command {
            header: core::array::from_fn(|at| at as u8 + 1),
            data,
            footer,
        }
    }

    fn segment(offset: usize, len: u32) -> Segment {
        Segment {
            addr: ADDRESS + offset as u64,
            len,
        }
    }

    #[test]
    fn parts_of_a_slot_do_not_overlap() -> Result {
        with_slot(|slot, _| {
            let command = command(Data::Writable(INLINE_SIZE), HEADER_SIZE);
            let mut parts = [
                slot.footer(&command),
                slot.header(),
                Segment {
                    addr: slot.table_address(),
                    len: 3 * UNIT as u32,
                },
                slot.inline(&command)
                    .map_or(segment(0, 0), |(segment, _)| segment),
            ];
            let mut end = ADDRESS;
            for part in &mut parts {
                assert_eq!(part.addr, end);
                end += u64::from(part.len);
            }
            assert_eq!(end, ADDRESS + SLOT_SIZE as u64);
            // A table with no inline data has all the rest.
            let room = u64::from(TABLE_ROOM) * UNIT as u64;
            assert_eq!(slot.table_address() + room, end);
        })
    }

    #[test]
    fn header_is_written_and_footer_is_filled() -> Result {
        with_slot(|slot, byte| {
            assert!(slot.fill(&command(Data::Request, 1)));
            for at in 0..HEADER_SIZE {
                assert_eq!(byte(HEADER_OFFSET + at), at as u8 + 1);
                assert_eq!(byte(FOOTER_OFFSET + at), 0xff);
            }
            assert!(slot.read_footer() == [0xff; HEADER_SIZE]);
        })
    }

    #[test]
    fn inline_data_is_copied_both_ways_or_refused() -> Result {
        with_slot(|slot, byte| {
            let data = [7, 8, 9];
            let readable = command(Data::Readable(&data), 1);
            assert!(slot.fill(&readable));
            assert_eq!(byte(INLINE_OFFSET + 2), 9);
            let inline = slot.inline(&readable);
            assert!(inline == Some((segment(INLINE_OFFSET, 3), Direction::Readable)));
            let mut copy = [0; 3];
            slot.read_inline(&mut copy);
            assert_eq!(copy, data);
            assert!(!slot.fill(&command(Data::Readable(&[0; INLINE_SIZE + 1]), 1)));
            assert!(!slot.fill(&command(Data::Writable(INLINE_SIZE + 1), 1)));
            // What was there is not shown to who asks next.
            assert!(slot.fill(&command(Data::Writable(3), 1)));
            slot.read_inline(&mut copy);
            assert_eq!(copy, [0; 3]);
        })
    }

    #[test]
    fn footer_has_one_byte_at_least() -> Result {
        with_slot(|slot, _| {
            for (footer, len) in [(0, 1), (1, 1), (9, 9), (16, 16), (17, 16)] {
                let footer = slot.footer(&command(Data::None, footer));
                assert_eq!(footer, segment(FOOTER_OFFSET, len));
            }
        })
    }

    #[test]
    fn addresses_of_others_are_not_in_the_slot() -> Result {
        with_slot(|slot, _| {
            let end = ADDRESS + SLOT_SIZE as u64;
            for (address, inside) in [
                (ADDRESS - 1, false),
                (ADDRESS, true),
                (end - 1, true),
                (end, false),
            ] {
                assert_eq!(slot.holds(address), inside);
            }
        })
    }
}
