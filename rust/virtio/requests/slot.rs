// SPDX-License-Identifier: GPL-2.0

//! A slot: the memory that a request shares with the device beside its data.

use super::{
    Command,
    Data,
    Piece,
    Request,
    HEADER_SIZE, //
};
use core::ptr::NonNull;
use kernel::macros::kunit_tests;
use virtio_ring::{
    Direction,
    Mapper,
    Segment,
    TableFormat, //
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
    pub(super) unsafe fn new(memory: NonNull<u8>, address: u64, format: &TableFormat) -> Self {
        // INVARIANT: By the contract.
        let slot = Self {
            memory,
            address,
            in_flight: false,
            direction: Direction::Readable,
            mapped: 0,
            large: None,
        };
        // SAFETY: By the type invariants, room for that many descriptors.
        let mut table = unsafe { format.table(slot.table_memory(), TABLE_ROOM) };
        table.push(slot.header());
        slot
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
    pub(super) fn footer(&self, size: usize) -> Segment {
        self.segment(FOOTER_OFFSET, size.clamp(1, HEADER_SIZE))
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

    /// Writes `request` and its footer to the table, behind the header, where mapping is no more than
    /// to know an address.  Gives the number of descriptors, or `None` if there is no room.
    // Not inlined, so that the loop has the registers to itself.
    #[inline(never)]
    pub(super) fn fill_plain<R: Request>(
        &self,
        request: &R,
        format: &TableFormat,
        footer: Segment,
    ) -> Option<u16> {
        // SAFETY: By the type invariants, room for that many descriptors.
        let mut table = unsafe { format.table(self.table_memory(), TABLE_ROOM) };
        // Where the header is does not change.
        table.pass();
        let dir = request.direction();
        table.set_direction(dir);
        let filled = request.pieces(|piece| {
            // SAFETY: By the contract of `Request`.
            let segment = unsafe { plain(piece, dir) };
            table.push(segment).then_some(()).ok_or(())
        });
        filled.ok()?;
        table.set_direction(Direction::Writable);
        Some(table.finish(footer))
    }

    /// As [`Slot::fill_plain`], for data of one piece.
    #[inline(always)]
    pub(super) fn fill_piece(
        &self,
        piece: Piece,
        dir: Direction,
        format: &TableFormat,
        footer: Segment,
    ) -> u16 {
        // SAFETY: By the type invariants, room for that many descriptors.
        let mut table = unsafe { format.table(self.table_memory(), TABLE_ROOM) };
        table.pass();
        table.set_direction(dir);
        // SAFETY: By the contract of `Request`.
        table.push(unsafe { plain(piece, dir) });
        table.set_direction(Direction::Writable);
        table.finish(footer)
    }

    /// The first `count` descriptors of the table.
    #[inline(always)]
    pub(super) fn table(&self, count: u16) -> Segment {
        self.segment(TABLE_OFFSET, usize::from(count) * UNIT)
    }

    /// The data in the slot, if `command` has any there.
    #[inline(always)]
    pub(super) fn inline(&self, command: &Command<'_>) -> Option<(Segment, Direction)> {
        match command.data {
            Data::None | Data::Request | Data::Payload => None,
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

    /// Writes header and footer for the device.
    #[inline(always)]
    pub(super) fn fill_ends(&self, header: [u8; HEADER_SIZE]) {
        // SAFETY: By the type invariants, in bounds and aligned.
        unsafe {
            let header: [u64; 2] = core::mem::transmute(header);
            let at = self.memory.add(HEADER_OFFSET).cast::<u64>();
            at.write_volatile(header[0]);
            at.add(1).write_volatile(header[1]);
            let at = self.memory.add(FOOTER_OFFSET).cast::<u64>();
            at.write_volatile(FOOTER_FILL);
            at.add(1).write_volatile(FOOTER_FILL);
        }
    }

    /// Writes header, footer and inline data for the device.  False if the data does not fit.
    pub(super) fn fill(&self, command: &Command<'_>) -> bool {
        self.fill_ends(command.header);
        match command.data {
            Data::None | Data::Request | Data::Payload => true,
            Data::Readable(bytes) => bytes.len() <= INLINE_SIZE && self.store(bytes),
            Data::Writable(len) => len <= INLINE_SIZE && self.store(&[0; INLINE_SIZE]),
        }
    }

    fn store(&self, bytes: &[u8]) -> bool {
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

/// Where the device finds a piece, where mapping is no more than to know an address.
///
/// # Safety
///
/// The page is a page.
#[inline(always)]
pub(super) unsafe fn plain(piece: Piece, dir: Direction) -> Segment {
    Segment {
        // SAFETY: By the contract.
        addr: unsafe { Mapper::page_address(piece.page, piece.offset, piece.len, dir) },
        len: piece.len,
    }
}

#[kunit_tests(virtio_requests_slot)]
mod tests {
    use super::*;
    use kernel::prelude::*;

    const ADDRESS: u64 = 0x10_0000;

    #[repr(C, align(64))]
    struct Memory([u8; SLOT_SIZE]);

    /// Runs `f` on a slot of a split ring, and on a way to see its memory as the device does.
    fn with_slot(f: impl FnOnce(&mut Slot, &dyn Fn(usize) -> u8)) -> Result {
        with_slot_of(false, f)
    }

    fn with_slot_of(packed: bool, f: impl FnOnce(&mut Slot, &dyn Fn(usize) -> u8)) -> Result {
        let memory = KBox::leak(KBox::new(Memory([0; SLOT_SIZE]), GFP_KERNEL)?);
        let start = NonNull::from(&mut *memory).cast::<u8>();
        // SAFETY: Leaked; taken back below.
        let mut slot = unsafe { Slot::new(start, ADDRESS, &TableFormat::new(packed)) };
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
                slot.footer(command.footer),
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

    /// A descriptor: address, and what is behind it as one word.
    fn descriptor(byte: &dyn Fn(usize) -> u8, at: usize) -> (u64, u64) {
        let start = TABLE_OFFSET + at * UNIT;
        let word = |offset| u64::from_le_bytes(core::array::from_fn(|i| byte(start + offset + i)));
        (word(0), word(8))
    }

    #[test]
    fn table_begins_with_the_header_from_the_start() -> Result {
        let header = ADDRESS + HEADER_OFFSET as u64;
        with_slot_of(false, |_, byte| {
            // 16 bytes, NEXT, and the second one is next.
            assert_eq!(descriptor(byte, 0), (header, 16 | 1 << 32 | 1 << 48));
        })?;
        with_slot_of(true, |_, byte| {
            assert_eq!(descriptor(byte, 0), (header, 16))
        })
    }

    #[test]
    fn table_is_chained_as_the_ring_wants_it() -> Result {
        let data = segment(INLINE_OFFSET, 100);
        for packed in [false, true] {
            with_slot_of(packed, |slot, byte| {
                // SAFETY: The table of the slot, which is ours.
                let mut table =
                    unsafe { TableFormat::new(packed).table(slot.table_memory(), TABLE_ROOM) };
                assert!(table.pass());
                table.set_direction(Direction::Writable);
                assert!(table.push(data));
                table.set_direction(Direction::Readable);
                assert!(table.push(data));
                table.set_direction(Direction::Writable);
                assert_eq!(table.finish(segment(FOOTER_OFFSET, 1)), 4);
                let words: [u64; 4] = core::array::from_fn(|at| descriptor(byte, at).1);
                let expected = if packed {
                    [16, 100 | 2 << 48, 100, 1 | 2 << 48]
                } else {
                    let chained = |flags: u64, next: u64| flags << 32 | next << 48;
                    [
                        16 | chained(1, 1),
                        100 | chained(3, 2),
                        100 | chained(1, 3),
                        1 | chained(2, 0),
                    ]
                };
                assert_eq!(words, expected);
            })?;
        }
        Ok(())
    }

    #[test]
    fn table_keeps_room_for_the_footer() -> Result {
        with_slot(|slot, _| {
            // SAFETY: The table of the slot, which is ours.
            let mut table = unsafe { TableFormat::new(false).table(slot.table_memory(), 3) };
            assert!(table.pass());
            assert!(table.has_room());
            assert!(table.push(segment(INLINE_OFFSET, 1)));
            assert!(!table.has_room());
            assert!(!table.push(segment(INLINE_OFFSET, 1)));
            assert!(!table.pass());
            assert_eq!(table.finish(segment(FOOTER_OFFSET, 1)), 3);
        })
    }

    #[test]
    fn footer_has_one_byte_at_least() -> Result {
        with_slot(|slot, _| {
            for (size, len) in [(0, 1), (1, 1), (9, 9), (16, 16), (17, 16)] {
                assert_eq!(slot.footer(size), segment(FOOTER_OFFSET, len));
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
