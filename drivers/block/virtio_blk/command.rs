// SPDX-License-Identifier: GPL-2.0

//! What the device is asked, and what it answers (specification 5.2.6).
//!
//! C source: `virtblk_setup_cmd`, `virtblk_setup_discard_write_zeroes_erase`, `virtblk_result` in
//! `drivers/block/virtio_blk.c`.

use crate::{
    operations::Request,
    queue::Virtqueue, //
};
use block_mq::{
    Op,
    Status, //
};
use kernel::{
    alloc::flags::{
        __GFP_NOWARN, //
        GFP_ATOMIC,
    },
    prelude::*, //
};
use virtio::{
    queue::{
        AddErrorKind,
        RingErrorKind, //
    },
    requests::{
        AddError,
        Command,
        Data,
        Done,
        HEADER_SIZE,
        INLINE_SIZE, //
    },
};
use virtio_spec::blk::{
    request_status,
    zone::holds_append,
    LifetimeReport,
    RequestType,
    ID_BYTES,
    LIFETIME_BYTES,
    WRITE_ZEROES_FLAG_UNMAP, //
};

/// Bytes of a range in a discard, a write of zeroes or an erase.
const RANGE_SIZE: usize = 16;

/// Ranges in a request at most (C: `MAX_DISCARD_SEGMENTS`).  Few travel in its slot, many in memory of
/// their own.
pub(crate) const MAX_RANGES: u16 = 256;

/// What a request asks that the driver itself makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Nothing: it is not the driver's.
    Nothing,
    /// The identifier.
    Id,
    /// The lifetime.
    Lifetime,
    /// The zones, from `sector` on.
    Zones,
}

/// Bytes of the longest answer that the request itself has room for.
const ANSWER_SIZE: usize = if ID_BYTES > LIFETIME_BYTES {
    ID_BYTES
} else {
    LIFETIME_BYTES
};

/// What the driver keeps of a request.
pub(crate) struct RequestData {
    status: Status,
    /// Where the data of a zone append went, as the device says; of what zone the driver asks.
    sector: u64,
    question: Question,
    answer: [u8; ANSWER_SIZE],
}

impl Default for RequestData {
    fn default() -> Self {
        Self {
            status: Status::IoError,
            sector: 0,
            question: Question::Nothing,
            answer: [0; ANSWER_SIZE],
        }
    }
}

impl RequestData {
    /// How the request ended.
    #[inline]
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Where the data of a zone append went, in sectors.
    pub(crate) fn sector(&self) -> u64 {
        self.sector
    }

    /// Has the request ask for the identifier.
    pub(crate) fn ask_id(&mut self) {
        self.question = Question::Id;
        self.answer = [0; ANSWER_SIZE];
    }

    /// Has the request ask for the lifetime.
    pub(crate) fn ask_lifetime(&mut self) {
        self.question = Question::Lifetime;
        self.answer = [0; ANSWER_SIZE];
    }

    /// Has the request ask for zones, from that of `sector` on; it has memory for them.
    #[cfg(CONFIG_BLK_DEV_ZONED)]
    pub(crate) fn ask_zones(&mut self, sector: u64) {
        self.question = Question::Zones;
        self.sector = sector;
    }

    /// The identifier: what comes before the first zero.
    pub(crate) fn id(&self) -> ([u8; ID_BYTES], usize) {
        let id = *self.answer.first_chunk().unwrap_or(&[0; ID_BYTES]);
        let len = id.iter().position(|byte| *byte == 0);
        (id, len.unwrap_or(ID_BYTES))
    }

    /// The lifetime.
    pub(crate) fn lifetime(&self) -> LifetimeReport {
        LifetimeReport::from_bytes(*self.answer.first_chunk().unwrap_or(&[0; LIFETIME_BYTES]))
    }

    /// Bytes that the device must have written of an answer: all of a lifetime, while an identifier may be
    /// short, and zones may be few.
    fn least(&self) -> u32 {
        match self.question {
            Question::Lifetime => LIFETIME_BYTES as u32,
            _ => 0,
        }
    }

    /// Where the device's answer goes.
    #[inline]
    pub(crate) fn reply(&mut self) -> &mut [u8] {
        match self.question {
            Question::Nothing | Question::Zones => &mut [],
            Question::Id | Question::Lifetime => &mut self.answer,
        }
    }
}

/// Why a request was not queued, and the request.
pub(crate) enum Refused {
    /// The queue is full.
    Full(Request),
    /// There is no memory to map its data.
    NoMemory(Request),
    /// The queue takes nothing any more.
    Broken(Request),
    /// The device has a request with the same number.
    Taken(Request),
    /// It will not be queued at all.
    Never(Request, Status),
}

impl Refused {
    /// The request.
    pub(crate) fn into_request(self) -> Request {
        match self {
            Self::Full(request)
            | Self::NoMemory(request)
            | Self::Broken(request)
            | Self::Taken(request)
            | Self::Never(request, _) => request,
        }
    }
}

impl From<AddError<Request>> for Refused {
    fn from(error: AddError<Request>) -> Self {
        let AddError { kind, request } = error;
        match kind {
            AddErrorKind::NoSlot => Self::Taken(request),
            AddErrorKind::NoMapping => Self::NoMemory(request),
            AddErrorKind::Ring(RingErrorKind::Full) => Self::Full(request),
            AddErrorKind::Ring(RingErrorKind::Broken) => Self::Broken(request),
            _ => Self::Never(request, Status::IoError),
        }
    }
}

/// The header of a request.
#[inline(always)]
fn header(kind: RequestType, priority: u16, sector: u64) -> [u8; HEADER_SIZE] {
    // `struct virtio_blk_outhdr`: type, priority, sector.
    let first = u64::from(kind as u32) | u64::from(priority) << 32;
    let mut bytes = [0; HEADER_SIZE];
    let (low, high) = bytes.split_at_mut(HEADER_SIZE / 2);
    low.copy_from_slice(&first.to_le_bytes());
    high.copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// Bytes of the footer: the status, and of a zone append the sector before it.
#[inline(always)]
fn footer_size(op: Op) -> usize {
    if op == Op::ZoneAppend {
        9
    } else {
        1
    }
}

/// Puts a request into the queue.
///
/// # Errors
///
/// Why not, with the request.
#[inline(always)]
pub(crate) fn submit(
    queue: &mut Virtqueue,
    request: Request,
    max_zeroes: u32,
) -> Result<(), Refused> {
    match request.op() {
        Op::Read => submit_data(queue, request, RequestType::In),
        Op::Write => submit_data(queue, request, RequestType::Out),
        op => submit_other(queue, request, op, max_zeroes),
    }
}

/// Puts a request that reads or writes into the queue.
#[inline(always)]
fn submit_data(
    queue: &mut Virtqueue,
    mut request: Request,
    kind: RequestType,
) -> Result<(), Refused> {
    // Tags are used again.
    request.data_mut().question = Question::Nothing;
    let command = Command {
        header: header(kind, request.priority(), request.sector()),
        data: Data::Request,
        footer: 1,
    };
    Ok(queue.add(request, command)?)
}

/// Puts any other request into the queue.
#[inline(never)]
fn submit_other(
    queue: &mut Virtqueue,
    mut request: Request,
    op: Op,
    max_zeroes: u32,
) -> Result<(), Refused> {
    let (kind, data, sector) = match op {
        Op::Flush => (RequestType::Flush, Data::None, 0),
        Op::ZoneAppend => (RequestType::ZoneAppend, Data::Request, request.sector()),
        Op::ZoneOpen => (RequestType::ZoneOpen, Data::None, request.sector()),
        Op::ZoneClose => (RequestType::ZoneClose, Data::None, request.sector()),
        Op::ZoneFinish => (RequestType::ZoneFinish, Data::None, request.sector()),
        Op::ZoneReset => (RequestType::ZoneReset, Data::None, request.sector()),
        Op::ZoneResetAll => (RequestType::ZoneResetAll, Data::None, 0),
        Op::Driver => match request.data().question {
            Question::Id => (RequestType::GetId, Data::Writable(ID_BYTES), 0),
            Question::Lifetime => (RequestType::GetLifetime, Data::Writable(LIFETIME_BYTES), 0),
            Question::Zones => (
                RequestType::ZoneReport,
                Data::Request,
                request.data().sector,
            ),
            Question::Nothing => return Err(Refused::Never(request, Status::NotSupported)),
        },
        Op::Discard | Op::SecureErase | Op::WriteZeroes => {
            return submit_ranges(queue, request, max_zeroes);
        }
        _ => return Err(Refused::Never(request, Status::NotSupported)),
    };
    if op != Op::Driver {
        // Tags are used again.
        request.data_mut().question = Question::Nothing;
    }
    let command = Command {
        header: header(kind, request.priority(), sector),
        data,
        footer: footer_size(op),
    };
    Ok(queue.add(request, command)?)
}

/// Puts a discard, a write of zeroes or an erase into the queue.
#[cold]
fn submit_ranges(
    queue: &mut Virtqueue,
    mut request: Request,
    max_zeroes: u32,
) -> Result<(), Refused> {
    request.data_mut().question = Question::Nothing;
    let zeroes = RequestType::WriteZeroes;
    // Ranges of zeroes are as long as the block layer was told a request may be.
    let (kind, flags, most) = match request.op() {
        Op::Discard => (RequestType::Discard, 0, u32::MAX),
        Op::SecureErase => (RequestType::SecureErase, 0, u32::MAX),
        _ if request.may_unmap() => (zeroes, WRITE_ZEROES_FLAG_UNMAP, max_zeroes),
        _ => (zeroes, 0, max_zeroes),
    };
    let most = most.max(1);
    let mut count = 0_u32;
    request.for_each_range(|_, sectors| {
        count = count.saturating_add(sectors.div_ceil(most));
    });
    if count == 0 || count > MAX_RANGES.into() {
        // Not what the block layer was told to send.
        return Err(Refused::Never(request, Status::IoError));
    }
    let size = count as usize * RANGE_SIZE;
    let mut inline = [0; INLINE_SIZE];
    let data = if let Some(room) = inline.get_mut(..size) {
        let mut ranges = Ranges::new(room, flags, most);
        request.for_each_range(|sector, sectors| ranges.push(sector, sectors));
        Data::Readable(room)
    } else {
        let Ok(mut room) = KVec::from_elem(0, size, GFP_ATOMIC | __GFP_NOWARN) else {
            return Err(Refused::NoMemory(request));
        };
        let mut ranges = Ranges::new(&mut room, flags, most);
        request.for_each_range(|sector, sectors| ranges.push(sector, sectors));
        request.set_payload(room);
        Data::Payload
    };
    let command = Command {
        header: header(kind, request.priority(), 0),
        data,
        footer: footer_size(request.op()),
    };
    queue.add(request, command).map_err(|mut error| {
        error.request.set_payload(KVec::new());
        error.into()
    })
}

/// Room for ranges, as the device wants them (`struct virtio_blk_discard_write_zeroes`).
struct Ranges<'a> {
    room: core::slice::ChunksExactMut<'a, u8>,
    flags: u32,
    /// Sectors of a range at most, not 0.
    most: u32,
}

impl<'a> Ranges<'a> {
    fn new(room: &'a mut [u8], flags: u32, most: u32) -> Self {
        Self {
            room: room.chunks_exact_mut(RANGE_SIZE),
            flags,
            most,
        }
    }

    /// Fills in a range, in as many parts as it takes.
    fn push(&mut self, mut sector: u64, mut sectors: u32) {
        while sectors != 0 {
            let Some(room) = self.room.next() else {
                return;
            };
            let part = sectors.min(self.most);
            let words = [sector, u64::from(part) | u64::from(self.flags) << 32];
            for (to, word) in room.chunks_exact_mut(8).zip(words) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            sector += u64::from(part);
            sectors -= part;
        }
    }
}

/// Notes how a request ended, whose footer the device wrote, if it `counts` what it writes.
/// `zone_sectors` is the size of the disk's zones, if it has any.  True if it ended well, and that is
/// all there is to say.
#[inline]
pub(crate) fn finish(done: Done<Request>, counts: bool, zone_sectors: u32) -> (Request, bool) {
    let Done {
        mut request,
        written,
        footer,
    } = done;
    let data_size = match request.op() {
        Op::Read => request.bytes(),
        Op::Driver => request.data().least(),
        Op::ZoneAppend => {
            let footer = u128::from_ne_bytes(footer);
            let request = finish_append(request, written, footer, counts, zone_sectors);
            return (request, false);
        }
        Op::Discard | Op::SecureErase | Op::WriteZeroes => {
            request.set_payload(KVec::new());
            0
        }
        _ => 0,
    };
    let status = status_of(footer[0], !counts || written > data_size);
    request.data_mut().status = status;
    (request, status == Status::Ok)
}

/// [`finish`] for a zone append: notes where the data went, too, if that can be true.
// In registers, so that none of it need be in memory for the others.
#[cold]
fn finish_append(
    mut request: Request,
    written: u32,
    footer: u128,
    counts: bool,
    zone_sectors: u32,
) -> Request {
    let footer = footer.to_ne_bytes();
    // The sector is all that it wrote beside the status.
    let status = status_of(footer[8], !counts || written > 8);
    let zone = (request.sector(), zone_sectors);
    let place = appended(&footer, zone, request.sectors());
    let data = request.data_mut();
    data.status = status;
    if status == Status::Ok {
        match place {
            Some(sector) => data.sector = sector,
            None => data.status = Status::IoError,
        }
    }
    request
}

/// Where so many sectors went that were appended to the zone that begins there and is so long;
/// `None` if the device says what cannot be.
fn appended(footer: &[u8; HEADER_SIZE], (start, len): (u64, u32), sectors: u32) -> Option<u64> {
    let sector = u64::from_le_bytes(*footer.first_chunk()?);
    holds_append(start, len, sector, sectors).then_some(sector)
}

/// What the status byte means, of a request of which the device wrote all, or not.
fn status_of(status: u8, complete: bool) -> Status {
    if status == request_status::OK {
        // What it did not write is not what was asked for.
        return if complete {
            Status::Ok
        } else {
            Status::IoError
        };
    }
    match status {
        request_status::UNSUPP => Status::NotSupported,
        request_status::ZONE_OPEN_RESOURCE => Status::ZoneOpenResource,
        request_status::ZONE_ACTIVE_RESOURCE => Status::ZoneActiveResource,
        _ => Status::IoError,
    }
}

#[kunit_tests(virtio_blk_command)]
mod tests {
    use super::*;

    #[test]
    fn header_is_type_priority_and_sector() {
        let bytes = header(RequestType::Out, 0x4002, 0x0102_0304_0506_0708);
        assert_eq!(bytes, [1, 0, 0, 0, 2, 0x40, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(header(RequestType::ZoneResetAll, 0, 0)[0], 26);
    }

    #[test]
    fn ranges_are_sector_count_and_flags() {
        let mut room = [0xee; 3 * RANGE_SIZE];
        let mut ranges = Ranges::new(&mut room, WRITE_ZEROES_FLAG_UNMAP, u32::MAX);
        ranges.push(0x0102_0304_0506_0708, 9);
        ranges.push(0, u32::MAX);
        assert_eq!(
            room[..RANGE_SIZE],
            [8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 1, 0, 0, 0]
        );
        assert_eq!(room[24..32], [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
        assert_eq!(room[32..], [0xee; RANGE_SIZE]);
    }

    #[test]
    fn long_range_is_several() {
        let mut room = [0; 3 * RANGE_SIZE];
        let mut ranges = Ranges::new(&mut room, 0, 10);
        ranges.push(100, 25);
        // There is no room for it.
        ranges.push(200, 1);
        for (at, (sector, sectors)) in [(100, 10), (110, 10), (120, 5)].into_iter().enumerate() {
            assert_eq!(room[at * RANGE_SIZE], sector);
            assert_eq!(room[at * RANGE_SIZE + 8], sectors);
        }
    }

    #[test]
    fn sector_of_an_append_is_before_its_status() {
        let mut footer = [0xff; HEADER_SIZE];
        footer[..9].copy_from_slice(&[8, 7, 0, 0, 0, 0, 0, 0, request_status::OK]);
        assert_eq!(footer[footer_size(Op::ZoneAppend) - 1], request_status::OK);
        assert_eq!(footer_size(Op::Write), 1);
        assert_eq!(appended(&footer, (0x700, 0x100), 8), Some(0x708));
        // In another zone, or not all of it.
        assert_eq!(appended(&footer, (0x800, 0x100), 8), None);
        assert_eq!(appended(&footer, (0x600, 0x100), 8), None);
        assert_eq!(appended(&footer, (0x700, 0x100), 0xf9), None);
        // A device that wrote nothing but the status.
        footer[..8].fill(0xff);
        assert_eq!(appended(&footer, (0x700, 0x100), 8), None);
    }

    #[test]
    fn answers_have_room_and_others_none() {
        let mut data = RequestData::default();
        assert!(data.reply().is_empty());
        data.ask_lifetime();
        data.reply()[..LIFETIME_BYTES].copy_from_slice(&[1, 0, 3, 0, 11, 1]);
        assert_eq!(data.least(), 6);
        let report = data.lifetime();
        assert_eq!(report.pre_eol_info.get(), 1);
        assert_eq!(report.device_lifetime_est_typ_a.get(), 3);
        assert_eq!(report.device_lifetime_est_typ_b.get(), 0x010b);
        data.ask_id();
        assert_eq!(data.least(), 0);
        assert!(data.id() == ([0; ID_BYTES], 0));
        data.reply()[..3].copy_from_slice(b"abc");
        assert_eq!(data.id().1, 3);
        // Zones go to memory of their own.
        #[cfg(CONFIG_BLK_DEV_ZONED)]
        {
            data.ask_zones(64);
            assert!(data.reply().is_empty());
        }
    }

    #[test]
    fn status_byte_that_nobody_wrote_is_an_error() {
        assert_eq!(
            status_of(request_status::NOT_WRITTEN, true),
            Status::IoError
        );
        for status in 7..=u8::MAX {
            assert_eq!(status_of(status, true), Status::IoError);
        }
        assert_eq!(status_of(request_status::OK, true), Status::Ok);
        assert_eq!(
            status_of(request_status::UNSUPP, true),
            Status::NotSupported
        );
    }

    #[test]
    fn data_that_was_not_written_is_an_error() {
        assert_eq!(status_of(request_status::OK, false), Status::IoError);
        assert_eq!(
            status_of(request_status::UNSUPP, false),
            Status::NotSupported
        );
    }
}
