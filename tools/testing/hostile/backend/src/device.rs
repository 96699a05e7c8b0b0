// SPDX-License-Identifier: GPL-2.0

//! What an honest device of each kind does with a request.

use crate::{
    ring::{
        Chain,
        Segment, //
    },
    scenario::{
        Kind,
        Lie, //
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
const BLK_OK: u8 = 0;
const BLK_IOERR: u8 = 1;
const BLK_UNSUPP: u8 = 2;
const BLK_HEADER: usize = 16;
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
    /// A device of `kind`.
    pub fn new(kind: Kind) -> Self {
        let size = if kind == Kind::Blk { DISK } else { 0 };
        Self {
            kind,
            disk: vec![0; size as usize],
        }
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
            Kind::Blk => 1 << 2 | 1 << 6 | 1 << 9,
            // VIRTIO_NET_F_MRG_RXBUF.
            Kind::Net => 1 << 15,
            Kind::Rng => 0,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 60];
        if self.kind == Kind::Blk {
            config[..8].copy_from_slice(&(DISK / SECTOR).to_le_bytes());
            config[12..16].copy_from_slice(&126u32.to_le_bytes());
            config[20..24].copy_from_slice(&(SECTOR as u32).to_le_bytes());
            config[34..36].copy_from_slice(&1u16.to_le_bytes());
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
        let mut written = 0;
        let honest = match u32::from_le_bytes(kind) {
            BLK_IN => match start
                .checked_add(space)
                .and_then(|end| self.disk.get(start..end))
            {
                Some(bytes) => {
                    written = write(memory, chain, &bytes[..bytes.len().min(most)])?;
                    BLK_OK
                }
                None => BLK_IOERR,
            },
            BLK_OUT => {
                let end = start.checked_add(data.len());
                match end.and_then(|end| self.disk.get_mut(start..end)) {
                    Some(place) => {
                        place.copy_from_slice(data);
                        BLK_OK
                    }
                    None => BLK_IOERR,
                }
            }
            BLK_FLUSH => BLK_OK,
            BLK_GET_ID => {
                let id = b"hostile\0\0\0\0\0\0\0\0\0\0\0\0\0";
                written = write(memory, chain, &id[..id.len().min(space)])?;
                BLK_OK
            }
            _ => BLK_UNSUPP,
        };
        let status = lie.and_then(|lie| lie.status).unwrap_or(honest.into());
        if let (Ok(status), Some(place)) = (u8::try_from(status), last_byte(chain)) {
            memory.write_obj(status, place).map_err(io::Error::other)?;
            written += 1;
        }
        Ok(Answer::Done(written))
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
