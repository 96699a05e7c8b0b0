// SPDX-License-Identifier: GPL-2.0

//! What an honest device of each kind does with a request.

use crate::{
    ring::{
        Chain,
        Segment, //
    },
    scenario::{
        hex,
        Kind,
        Lie,
        Scenario, //
    },
    zones::{
        Action,
        Zones, //
    },
};
use std::{
    io,
    iter::repeat_n, //
};
use vm_memory::{
    Bytes,
    GuestAddress,
    GuestMemoryMmap, //
};

/// What the entropy device gives: a letter, so that the guest can tell it from all else.
const ENTROPY: u8 = b'Z';
const SECTOR: u64 = 512;
const DISK: u64 = 8 << 20;
const BLK_IN: u32 = 0;
const BLK_OUT: u32 = 1;
const BLK_FLUSH: u32 = 4;
const BLK_GET_ID: u32 = 8;
const BLK_GET_LIFETIME: u32 = 10;
const BLK_DISCARD: u32 = 11;
const BLK_WRITE_ZEROES: u32 = 13;
const BLK_ZONE_APPEND: u32 = 15;
const BLK_ZONE_REPORT: u32 = 16;
const BLK_ZONE_OPEN: u32 = 18;
const BLK_ZONE_CLOSE: u32 = 20;
const BLK_ZONE_FINISH: u32 = 22;
const BLK_ZONE_RESET: u32 = 24;
const BLK_ZONE_RESET_ALL: u32 = 26;
const BLK_F_DISCARD: u64 = 1 << 13;
const BLK_F_WRITE_ZEROES: u64 = 1 << 14;
const BLK_F_LIFETIME: u64 = 1 << 15;
const BLK_F_ZONED: u64 = 1 << 17;
const BLK_OK: u8 = 0;
const BLK_IOERR: u8 = 1;
const BLK_UNSUPP: u8 = 2;
const BLK_HEADER: usize = 16;
/// Bytes of `struct virtio_blk_discard_write_zeroes`.
const BLK_RANGE: usize = 16;
/// Bytes of `struct virtio_net_hdr_v1`.
const NET_HEADER: usize = 12;
const ETHERNET: usize = 14;
const MAX_REQUEST: usize = 4 << 20;

/// What became of a request.
pub enum Answer {
    /// It is complete, with so many bytes written.
    Done(u32),
    /// It is complete, and these bytes are for a buffer of that queue.
    Forward(usize, Vec<u8>),
}

/// An honest device.
pub struct Device {
    kind: Kind,
    disk: Vec<u8>,
    zones: Option<Zones>,
    lifetime: Option<[u16; 3]>,
    ranges: Option<u32>,
    /// The most ranges that a request had so far.
    seen_ranges: usize,
}

fn read(memory: &GuestMemoryMmap, chain: &Chain) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for segment in chain.segments.iter().filter(|segment| !segment.writable) {
        let start = bytes.len();
        if start + segment.len as usize > MAX_REQUEST {
            return Err(io::Error::other("a request that is too long"));
        }
        bytes.resize(start + segment.len as usize, 0);
        memory
            .read_slice(&mut bytes[start..], GuestAddress(segment.addr))
            .map_err(io::Error::other)?;
    }
    Ok(bytes)
}

/// Room for the device in `chain`, in bytes.
pub fn room(chain: &Chain) -> u32 {
    let writable = chain.segments.iter().filter(|segment| segment.writable);
    writable.fold(0, |sum, segment| segment.len.saturating_add(sum))
}

/// Writes `bytes` into the writable segments of `chain`, as far as they go; returns how many it wrote.
///
/// # Errors
///
/// Addresses outside of the guest's memory.
pub fn write(memory: &GuestMemoryMmap, chain: &Chain, bytes: &[u8]) -> io::Result<u32> {
    let mut rest = bytes;
    for Segment { addr, len, .. } in chain.segments.iter().filter(|segment| segment.writable) {
        let (now, later) = rest.split_at(rest.len().min(*len as usize));
        memory
            .write_slice(now, GuestAddress(*addr))
            .map_err(io::Error::other)?;
        rest = later;
    }
    Ok((bytes.len() - rest.len()) as u32)
}

/// The last byte that the device may write in `chain`.
fn last_byte(chain: &Chain) -> Option<GuestAddress> {
    let mut writable = chain.segments.iter().filter(|segment| segment.writable);
    let last = writable.next_back()?;
    Some(GuestAddress(
        last.addr + u64::from(last.len.checked_sub(1)?),
    ))
}

impl Device {
    /// The device of `scenario`.
    pub fn new(scenario: &Scenario) -> Self {
        let kind = scenario.device;
        let size = if kind == Kind::Blk { DISK } else { 0 };
        let zones = scenario.zones.clone();
        Self {
            kind,
            disk: vec![0; size as usize],
            zones: zones.map(|layout| Zones::new(layout, DISK / SECTOR)),
            lifetime: scenario.lifetime,
            ranges: scenario.ranges,
            seen_ranges: 0,
        }
    }

    /// The type of the block request in `chain`.
    pub fn request_kind(&self, memory: &GuestMemoryMmap, chain: &Chain) -> Option<u32> {
        let first = chain.segments.first().filter(|_| self.kind == Kind::Blk)?;
        memory.read_obj(GuestAddress(first.addr)).ok()
    }

    /// Queues that it has.
    pub fn queues(&self) -> usize {
        match self.kind {
            Kind::Rng | Kind::Blk => 1,
            Kind::Net => 2,
        }
    }

    /// Feature bits besides those of the transport.
    pub fn features(&self) -> u64 {
        match self.kind {
            // VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH.
            Kind::Blk => {
                let zoned = self.zones.as_ref().map_or(0, |_| BLK_F_ZONED);
                let lifetime = self.lifetime.map_or(0, |_| BLK_F_LIFETIME);
                let both = BLK_F_DISCARD | BLK_F_WRITE_ZEROES;
                let ranges = self.ranges.map_or(0, |_| both);
                1 << 2 | 1 << 6 | 1 << 9 | zoned | lifetime | ranges
            }
            // VIRTIO_NET_F_MRG_RXBUF.
            Kind::Net => 1 << 15,
            Kind::Rng => 0,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 60];
        if let Some(zones) = &self.zones {
            config.resize(72, 0);
            config.extend(zones.config());
        }
        if self.kind == Kind::Blk {
            config[..8].copy_from_slice(&(DISK / SECTOR).to_le_bytes());
            config[12..16].copy_from_slice(&126u32.to_le_bytes());
            config[20..24].copy_from_slice(&(SECTOR as u32).to_le_bytes());
            config[34..36].copy_from_slice(&1u16.to_le_bytes());
            if let Some(ranges) = self.ranges {
                // Of a discard, then of zeroes: sectors of a range, ranges, and of a discard its alignment.
                for (at, number) in [
                    (36, u32::MAX),
                    (40, ranges),
                    (44, 1),
                    (48, u32::MAX),
                    (52, ranges),
                ] {
                    config[at..at + 4].copy_from_slice(&number.to_le_bytes());
                }
            }
        }
        config
    }

    /// Carries out the request in `chain`, as `lie` has it.
    ///
    /// # Errors
    ///
    /// Addresses outside of the guest's memory.
    pub fn serve(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        lie: Option<&Lie>,
    ) -> io::Result<Answer> {
        let most = lie.and_then(|lie| lie.write).unwrap_or(u32::MAX) as usize;
        match self.kind {
            Kind::Rng => {
                let count = most.min(room(chain) as usize).min(MAX_REQUEST);
                let bytes: Vec<u8> = repeat_n(ENTROPY, count).collect();
                Ok(Answer::Done(write(memory, chain, &bytes)?))
            }
            Kind::Blk => self.block(memory, chain, lie, most),
            Kind::Net => Ok(match reflected(&read(memory, chain)?) {
                Some(frame) => Answer::Forward(0, frame),
                None => Answer::Done(0),
            }),
        }
    }

    fn block(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        lie: Option<&Lie>,
        most: usize,
    ) -> io::Result<Answer> {
        let request = read(memory, chain)?;
        let field = |at: usize| -> Option<[u8; 4]> { request.get(at..at + 4)?.try_into().ok() };
        let (Some(kind), Some(low), Some(high)) = (field(0), field(8), field(12)) else {
            return Err(io::Error::other("a block request without a header"));
        };
        let sector = u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32;
        let start = usize::try_from(sector.saturating_mul(SECTOR)).unwrap_or(usize::MAX);
        let data = &request[BLK_HEADER.min(request.len())..];
        let space = (room(chain) as usize).saturating_sub(1);
        let mut reply = Vec::new();
        let honest = match u32::from_le_bytes(kind) {
            BLK_IN => match start
                .checked_add(space)
                .and_then(|end| self.disk.get(start..end))
            {
                Some(bytes) => {
                    reply = bytes.to_vec();
                    BLK_OK
                }
                None => BLK_IOERR,
            },
            BLK_OUT => match self.advance(sector, data.len()) {
                BLK_OK => self.store(start, data),
                status => status,
            },
            BLK_FLUSH => BLK_OK,
            BLK_DISCARD | BLK_WRITE_ZEROES => self.clear(data),
            BLK_GET_ID => {
                reply = b"hostile\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
                BLK_OK
            }
            BLK_GET_LIFETIME => match self.lifetime {
                Some(numbers) => {
                    reply = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
                    BLK_OK
                }
                None => BLK_UNSUPP,
            },
            kind => self.zone_request(kind, sector, data, (space, &mut reply)),
        };
        for patch in lie.map(|lie| &lie.reply[..]).unwrap_or_default() {
            let bytes = hex(&patch.bytes).map_err(|error| io::Error::other(error.to_string()))?;
            let end = patch.at + bytes.len();
            reply.resize(reply.len().max(end), 0);
            reply[patch.at..end].copy_from_slice(&bytes);
        }
        reply.truncate(space.min(most));
        let mut written = write(memory, chain, &reply)?;
        let status = lie.and_then(|lie| lie.status).unwrap_or(honest.into());
        if let (Ok(status), Some(place)) = (u8::try_from(status), last_byte(chain)) {
            memory.write_obj(status, place).map_err(io::Error::other)?;
            written += 1;
        }
        Ok(Answer::Done(written))
    }

    /// Moves the write pointer of a zoned disk, if `bytes` may be written at `sector`.
    fn advance(&mut self, sector: u64, bytes: usize) -> u8 {
        let sectors = bytes as u64 / SECTOR;
        let zones = self.zones.as_mut();
        zones.map_or(BLK_OK, |zones| zones.write(sector, sectors))
    }

    fn store(&mut self, start: usize, data: &[u8]) -> u8 {
        let end = start.checked_add(data.len());
        match end.and_then(|end| self.disk.get_mut(start..end)) {
            Some(place) => {
                place.copy_from_slice(data);
                BLK_OK
            }
            None => BLK_IOERR,
        }
    }

    /// Fills the ranges that `data` lists with zeroes.
    fn clear(&mut self, data: &[u8]) -> u8 {
        let count = data.len() / BLK_RANGE;
        let Some(most) = self.ranges else {
            return BLK_UNSUPP;
        };
        if count == 0 || count > most as usize || !data.len().is_multiple_of(BLK_RANGE) {
            return BLK_IOERR;
        }
        if count > self.seen_ranges {
            self.seen_ranges = count;
            println!("a request of {count} ranges");
        }
        for range in data.chunks_exact(BLK_RANGE) {
            let (Some(sector), Some(sectors)) = (
                range.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
                range[8..]
                    .first_chunk()
                    .map(|bytes| u32::from_le_bytes(*bytes)),
            ) else {
                return BLK_IOERR;
            };
            let start = sector.saturating_mul(SECTOR);
            let end = start.saturating_add(u64::from(sectors) * SECTOR);
            let Some(place) = self.disk.get_mut(start as usize..end as usize) else {
                return BLK_IOERR;
            };
            place.fill(0);
        }
        BLK_OK
    }

    /// A request of a zoned disk, with room for so many bytes of an answer.
    fn zone_request(
        &mut self,
        kind: u32,
        sector: u64,
        data: &[u8],
        (space, reply): (usize, &mut Vec<u8>),
    ) -> u8 {
        let Some(zones) = &mut self.zones else {
            return BLK_UNSUPP;
        };
        match kind {
            BLK_ZONE_REPORT => {
                *reply = zones.report(sector, space);
                BLK_OK
            }
            BLK_ZONE_APPEND => match zones.append(sector, data.len() as u64 / SECTOR) {
                Ok(place) => {
                    *reply = place.to_le_bytes().to_vec();
                    self.store((place * SECTOR) as usize, data)
                }
                Err(status) => status,
            },
            BLK_ZONE_OPEN => zones.act(sector, Action::Open),
            BLK_ZONE_CLOSE => zones.act(sector, Action::Close),
            BLK_ZONE_FINISH => zones.act(sector, Action::Finish),
            BLK_ZONE_RESET => match zones.act(sector, Action::Reset) {
                BLK_OK => self.forget(Some(sector)),
                status => status,
            },
            BLK_ZONE_RESET_ALL => match zones.reset_all() {
                BLK_OK => self.forget(None),
                status => status,
            },
            _ => BLK_UNSUPP,
        }
    }

    /// What was in the zone that has `sector`, or in all, is gone.
    fn forget(&mut self, sector: Option<u64>) -> u8 {
        if let Some(zones) = &self.zones {
            let (first, count) = zones.place(sector);
            let start = (first * SECTOR) as usize;
            let end = start + (count * SECTOR) as usize;
            if let Some(place) = self.disk.get_mut(start..end) {
                place.fill(0);
            }
        }
        BLK_OK
    }
}

/// The answer to an ARP request or a ping in `packet`, with its header; `None` for all else.
fn reflected(packet: &[u8]) -> Option<Vec<u8>> {
    let mut answer = packet.to_vec();
    let frame = answer.get_mut(NET_HEADER..)?;
    let (mine, theirs) = (
        [2, 0, 0, 0, 0, 1],
        <[u8; 6]>::try_from(frame.get(6..12)?).ok()?,
    );
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    frame.get_mut(..6)?.copy_from_slice(&theirs);
    frame.get_mut(6..12)?.copy_from_slice(&mine);
    let body = frame.get_mut(ETHERNET..)?;
    match kind {
        // ARP: who asks gets an answer from whom it asked for.
        0x0806 if body.get(6..8)? == [0, 1] => {
            let asked = <[u8; 4]>::try_from(body.get(24..28)?).ok()?;
            let sender = <[u8; 10]>::try_from(body.get(8..18)?).ok()?;
            body.get_mut(7..8)?.fill(2);
            body.get_mut(8..14)?.copy_from_slice(&mine);
            body.get_mut(14..18)?.copy_from_slice(&asked);
            body.get_mut(18..28)?.copy_from_slice(&sender);
        }
        // ICMP echo: source and destination change places, which changes no checksum but ICMP's own.
        0x0800 if body.get(9..10)? == [1] && body.get(20..21)? == [8] => {
            let addresses = <[u8; 8]>::try_from(body.get(12..20)?).ok()?;
            body.get_mut(12..16)?.copy_from_slice(&addresses[4..]);
            body.get_mut(16..20)?.copy_from_slice(&addresses[..4]);
            body.get_mut(20..21)?.fill(0);
            let sum = u16::from_be_bytes(body.get(22..24)?.try_into().ok()?);
            let (sum, carry) = sum.overflowing_add(0x0800);
            let sum = sum + u16::from(carry);
            body.get_mut(22..24)?.copy_from_slice(&sum.to_be_bytes());
        }
        _ => return None,
    }
    answer.get_mut(..NET_HEADER)?.fill(0);
    // num_buffers
    answer.get_mut(10..11)?.fill(1);
    Some(answer)
}
