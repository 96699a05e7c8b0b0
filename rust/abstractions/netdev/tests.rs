// SPDX-License-Identifier: GPL-2.0

//! An interface that nobody sees, with packets and buffers.

use crate::{
    bridge::{
        Outgoing,
        RxBuffer,
        Sent, //
    },
    device::{
        feature,
        DeviceRef,
        NewDevice, //
    },
    dim::{
        Dim,
        Moderator, //
    },
    ethtool::{
        Channels,
        LinkSettings,
        Rings, //
    },
    ethtool_statistics::{
        QueueKind,
        StatisticName,
        Statistics, //
    },
    napi::{
        Napi,
        Poll,
        Polled,
        Polling,
        QueueType, //
    },
    operations::{
        self,
        Operations,
        TxOutcome, //
    },
    pool::{
        PoolBuffer,
        PoolBuffers,
        SHARED_INFO_ROOM, //
    },
    queue_statistics::{
        RxQueueStatistics,
        TxQueueStatistics, //
    },
    skb::{
        Assembly,
        SkBuff,
        MAX_FRAGS, //
    },
    statistics::Totals,
    tx_queue::TxGuard,
    ETH_ALEN, //
};
use core::{
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};
use kernel::{
    alloc::flags::GFP_ATOMIC,
    device,
    faux,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use virtio::packets::{
    Packet,
    Place,
    Suppressor, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    net::{
        self,
        header::{
            Checksum,
            Layout, //
        }, //
    },
    transport::Version1,
    Features, //
};

pub(crate) struct Silent;

/// What coalescing was adapted to: microseconds and packets, if it was.
pub(crate) struct Moderated(Atomic<i32>);

impl Moderator for Moderated {
    fn moderate(&self, _index: u32, usecs: u16, _packets: u16) {
        self.0.store(usecs.into(), Relaxed);
    }
}

impl Operations for Silent {
    type Data = ();
    type Tx = u32;
    type Moderator = Moderated;

    const NAME: &'static str = "silent";
    const VERSION: &'static str = "1";

    fn open(_dev: &DeviceRef<Self>, _data: &()) -> Result {
        Ok(())
    }

    fn stop(_dev: &DeviceRef<Self>, _data: &()) {}

    fn start_xmit(
        _data: &(),
        _tx: TxGuard<'_, Self>,
        _index: usize,
        _skb: SkBuff,
        _more: bool,
    ) -> TxOutcome {
        TxOutcome::Dropped
    }

    fn totals(_data: &()) -> Totals {
        Totals::default()
    }

    fn set_mac_address(_data: &(), _address: &[u8; ETH_ALEN]) -> Result {
        Ok(())
    }

    fn tx_timeout(_dev: &DeviceRef<Self>, _data: &(), _index: usize) {}

    fn bus_name(_data: &()) -> &CStr {
        c"nowhere"
    }

    fn rings(_data: &()) -> Rings {
        Rings::default()
    }

    fn channels(_data: &()) -> Channels {
        Channels::default()
    }

    fn link_settings(_data: &()) -> LinkSettings {
        LinkSettings::UNKNOWN
    }

    fn set_link_settings(_data: &(), _settings: LinkSettings) {}

    fn statistic_names(_data: &(), _kind: QueueKind) -> impl Iterator<Item = StatisticName> {
        core::iter::empty()
    }

    fn statistics(_data: &(), _numbers: &mut Statistics<'_>) {}

    fn rx_queue_statistics(_data: &(), _index: usize, _numbers: &mut RxQueueStatistics) {}

    fn tx_queue_statistics(_data: &(), _index: usize, _numbers: &mut TxQueueStatistics) {}

    fn base_statistics(_data: &(), _rx: &mut RxQueueStatistics, _tx: &mut TxQueueStatistics) {}
}

/// Finds nothing.
pub(crate) struct Idle;

impl Poll<Silent> for Idle {
    type Suppress = Option<Suppressor>;

    fn poll(&mut self, _polling: &Polling<'_, Silent>) -> Polled<Option<Suppressor>> {
        Polled::Idle(0, None)
    }
}

pub(crate) type IdleNapi = Pin<KBox<Napi<Silent, Idle>>>;

/// A device, and what it is below.
pub(crate) struct Rig {
    device: NewDevice<Silent>,
    _parent: faux::Registration,
}

impl Deref for Rig {
    type Target = NewDevice<Silent>;

    fn deref(&self) -> &NewDevice<Silent> {
        &self.device
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut NewDevice<Silent> {
        &mut self.device
    }
}

/// A device with two queues.
pub(crate) fn device() -> Result<Rig> {
    let parent = faux::Registration::new(c"netdev_test", None)?;
    let mut tx = KVec::new();
    for at in 0..2 {
        tx.push(at, GFP_KERNEL)?;
    }
    let below: &faux::Device<device::Bound> = parent.as_ref();
    let below: &device::Device<device::Bound> = below.as_ref();
    Ok(Rig {
        device: NewDevice::new(below, tx)?,
        _parent: parent,
    })
}

/// Runs `f` with a way to allocate buffers.
fn with_buffers(f: impl FnOnce(&dyn Fn(u32) -> Result<PoolBuffer>) -> Result) -> Result {
    let device = device()?;
    let napi: IdleNapi = Napi::new(&device, QueueType::Rx, 0, Idle)?;
    napi.set_pool(16, -1, None)?;
    napi.with_disabled(|_, memory| f(&|size| memory.alloc(size, true).ok_or(ENOMEM)))
        .ok_or(EBUSY)?
}

/// A packet with `head` bytes before it and room for `room`.
fn packet(head: i32, room: u32) -> Result<SkBuff> {
    // SAFETY: Allocated just now, and large enough.
    unsafe {
        let skb = NonNull::new(bindings::virtio_alloc_skb(head as u32 + room)).ok_or(ENOMEM)?;
        bindings::virtio_skb_reserve(skb.as_ptr(), head);
        Ok(SkBuff::from_raw(skb))
    }
}

/// Pieces of a packet: their lengths, and the first bytes of each.
pub(crate) fn lengths(packet: &Outgoing) -> Result<KVec<u32>> {
    let mut lengths = KVec::new();
    packet.pieces(|place| {
        let len = match place {
            Place::Pages(piece) => piece.len,
            Place::Linear(_, len) | Place::Mapped(_, len) => len,
        };
        lengths.push(len, GFP_ATOMIC).map_err(Error::from)
    })?;
    Ok(lengths)
}

/// Pieces of a buffer: where they are in their pages, and how long.
fn pieces(buffer: &RxBuffer) -> Result<KVec<(u32, u32)>> {
    let mut all = KVec::new();
    buffer.pieces(|place| match place {
        Place::Linear(memory, len) => {
            let offset = memory.addr().get() & (bindings::PAGE_SIZE - 1);
            all.push((offset as u32, len), GFP_KERNEL)
                .map_err(Error::from)
        }
        Place::Pages(_) | Place::Mapped(..) => Err(EINVAL),
    })?;
    Ok(all)
}

/// The same of a buffer that is in one piece.
fn one_piece(buffer: PoolBuffer) -> Result<((u32, u32), PoolBuffer)> {
    let buffer = RxBuffer::One(buffer);
    let pieces = pieces(&buffer)?;
    match (pieces.as_slice(), buffer) {
        ([piece], RxBuffer::One(buffer)) => Ok((*piece, buffer)),
        _ => Err(EINVAL),
    }
}

#[kunit_tests(virtio_netdev)]
mod suite {
    use super::*;

    #[test]
    fn a_new_device_is_as_it_was_said_to_be() -> Result {
        let mut device = device()?;
        device.set_features(feature::SG | feature::RXCSUM, feature::SG);
        device.set_mtu(1400, 9000);
        device.set_needed_headroom(12);
        let address = [2, 0, 0, 0, 0, 9];
        assert!(device.set_address(Some(&address)) == address);
        let random = device.set_address(None);
        // Locally administered, and of one interface.
        assert_eq!(random[0] & 3, 2);
        Ok(())
    }

    #[test]
    fn what_is_kept_of_a_queue_is_behind_its_lock() -> Result {
        let device = device()?;
        let core = device.core();
        if let Some(mut tx) = core.lock_tx(1) {
            assert_eq!(*tx, 1);
            *tx = 7;
            // SAFETY: Bottom halves are off while the first one is locked.
            unsafe {
                assert!(core.try_lock_tx_here(1).is_none());
                // Not waited for: nobody has two of them, and lock checking would say so.
                assert_eq!(core.try_lock_tx_here(0).map(|tx| *tx), Some(0));
            }
        }
        assert_eq!(core.lock_tx(1).map(|tx| *tx), Some(7));
        assert!(core.lock_tx(2).is_none());
        Ok(())
    }

    #[test]
    fn a_pool_is_for_who_is_not_polled() -> Result {
        let device = device()?;
        let napi: IdleNapi = Napi::new(&device, QueueType::Rx, 0, Idle)?;
        // There is none yet.
        let buffer = napi.with_disabled(|_, memory| memory.alloc(64, true).is_some());
        assert_eq!(buffer, Some(false));
        napi.set_pool(16, -1, None)?;
        let size = napi.with_disabled(|_, memory| memory.alloc(1, true).map(|b| b.size()));
        assert_eq!(size, Some(Some(64)));
        let large = napi.with_disabled(|_, memory| memory.alloc(4097, true).is_some());
        assert_eq!(large, Some(false));
        Ok(())
    }

    #[test]
    fn a_buffer_is_lent_in_bounds_and_comes_back_whole() -> Result {
        with_buffers(|alloc| {
            let buffer = alloc(1000)?;
            let size = buffer.size();
            assert!(size >= 1000 && size % 64 == 0);
            let ((start, len), mut buffer) = one_piece(buffer)?;
            assert_eq!(len, size);
            for ((offset, len), expected) in [
                ((64, 100), (64, 100)),
                ((size - 4, 100), (size - 4, 4)),
                ((size + 4, 100), (size, 0)),
            ] {
                buffer.lend(offset, len);
                let piece;
                (piece, buffer) = one_piece(buffer)?;
                assert!(piece == (start + expected.0, expected.1));
            }
            let (data, word) = RxBuffer::One(buffer).into_raw();
            // SAFETY: Taken apart just now.
            let RxBuffer::One(buffer) = (unsafe { RxBuffer::from_raw(data, word) }) else {
                return Err(EINVAL);
            };
            assert!(one_piece(buffer)?.0 == (start, size));
            Ok(())
        })
    }

    #[test]
    fn the_header_of_many_buffers_is_a_piece_by_itself() -> Result {
        let device = device()?;
        let napi: IdleNapi = Napi::new(&device, QueueType::Rx, 0, Idle)?;
        napi.set_pool(16, -1, None)?;
        let mut buffers = PoolBuffers::new(3, 12)?;
        let filled = napi.with_disabled(|_, memory| buffers.fill(memory, true));
        assert_eq!(filled, Some(true));
        let (data, word) = RxBuffer::Many(buffers).into_raw();
        // SAFETY: Taken apart just now.
        let buffers = unsafe { RxBuffer::from_raw(data, word) };
        let page = bindings::PAGE_SIZE as u32;
        let expected = [(0, 12), (12, page - 12), (0, page), (0, page)];
        assert!(*pieces(&buffers)? == expected);
        Ok(())
    }

    #[test]
    fn a_packet_is_built_only_where_there_is_room() -> Result {
        with_buffers(|alloc| {
            let buffer = alloc(2048)?;
            let most = buffer.size() - SHARED_INFO_ROOM;
            let buffer = match buffer.build(64, most - 63) {
                Err(buffer) => buffer,
                Ok(_) => return Err(EINVAL),
            };
            let buffer = match buffer.build(u32::MAX, 2) {
                Err(buffer) => buffer,
                Ok(_) => return Err(EINVAL),
            };
            let skb = buffer.build(64, most - 64).map_err(|_| EINVAL)?;
            assert_eq!(skb.len(), most - 64);
            assert_eq!(skb.head_len(), most - 64);
            Ok(())
        })
    }

    #[test]
    fn pieces_are_appended_one_by_one_also_when_there_are_many() -> Result {
        with_buffers(|alloc| {
            let mut assembly = Assembly::new(packet(0, 64)?);
            // More than fit into two packets; they are of one page now and then.
            let count = 2 * MAX_FRAGS as u32 + 8;
            for _ in 0..count {
                let buffer = alloc(2048)?;
                // With a gap, so that they do not grow together.
                assembly.append(buffer, 64, 100).map_err(|_| EINVAL)?;
            }
            let skb = assembly.finish();
            assert_eq!(skb.len(), count * 100);
            assert_eq!(skb.head_len(), 0);
            Ok(())
        })
    }

    #[test]
    fn what_is_not_in_a_buffer_is_not_appended() -> Result {
        with_buffers(|alloc| {
            let mut skb = packet(0, 64)?;
            let buffer = alloc(64)?;
            assert!(!skb.append_copy(&buffer, buffer.size(), 1));
            assert!(!skb.append_copy(&buffer, 0, skb.tailroom() + 1));
            assert!(skb.append_copy(&buffer, 32, 32));
            assert_eq!(skb.len(), 32);
            let mut assembly = Assembly::new(skb);
            let size = buffer.size();
            let buffer = assembly.append(buffer, 1, size).err().ok_or(EINVAL)?;
            let buffer = assembly.append(buffer, size + 1, 0).err().ok_or(EINVAL)?;
            assert!(assembly.append(buffer, 0, size).is_ok());
            assert_eq!(assembly.finish().len(), 32 + size);
            Ok(())
        })
    }

    #[test]
    fn a_header_goes_in_front_if_there_is_room() -> Result {
        with_buffers(|alloc| {
            let buffer = alloc(64)?;
            let header = [7; 12];
            for (head, any_layout, expected) in [
                (12, true, &[76][..]),
                (64, false, &[12, 64]),
                (11, true, &[12, 64]),
            ] {
                let mut skb = packet(head, 64)?;
                assert!(skb.append_copy(&buffer, 0, 64));
                // SAFETY: There are that many bytes before it, or less are looked at.
                let in_front = unsafe { (*skb.as_raw()).data.sub(1) };
                let outgoing = Outgoing::new(skb, &header, any_layout).map_err(|_| EINVAL)?;
                assert!(*lengths(&outgoing)? == *expected);
                if expected.len() == 1 {
                    // SAFETY: As above.
                    assert_eq!(unsafe { in_front.read() }, 7);
                }
                // It is not part of the packet.
                let Sent::Packet(skb) = outgoing.into_sent() else {
                    return Err(EINVAL);
                };
                assert_eq!(skb.len(), 64);
            }
            Ok(())
        })
    }

    #[test]
    fn a_packet_that_asks_for_nothing_has_zeroes_in_front() -> Result {
        with_buffers(|alloc| {
            let buffer = alloc(64)?;
            for (head, header_len, any_layout, taken) in [
                (64, 12, true, true),
                (64, 20, true, true),
                (10, 10, true, true),
                (11, 12, true, false),
                (64, 12, false, false),
            ] {
                let mut skb = packet(head, 64)?;
                assert!(skb.append_copy(&buffer, 0, 64));
                // SAFETY: There are that many bytes before it.
                let in_front = unsafe { (*skb.as_raw()).data.sub(head as usize) };
                // SAFETY: As above.
                unsafe { in_front.write_bytes(7, head as usize) };
                let Ok(outgoing) = Outgoing::plain(skb, header_len, any_layout) else {
                    assert!(!taken);
                    continue;
                };
                assert!(taken);
                assert!(*lengths(&outgoing)? == [64 + header_len]);
                let only = outgoing.only_piece().ok_or(EINVAL)?;
                assert!(matches!(only, Place::Linear(_, len) if len == 64 + header_len));
                for at in 0..head {
                    let zero = at >= head - header_len as i32;
                    // SAFETY: As above.
                    let byte = unsafe { in_front.add(at as usize).read() };
                    assert_eq!(byte, if zero { 0 } else { 7 });
                }
            }
            Ok(())
        })
    }

    #[test]
    fn a_packet_of_segments_is_not_plain() -> Result {
        let skb = packet(64, 64)?;
        // SAFETY: A packet of ours.
        unsafe {
            (*bindings::virtio_skb_shinfo(skb.as_raw())).gso_size = 1000;
        }
        let Err(skb) = Outgoing::plain(skb, 12, true) else {
            return Err(EINVAL);
        };
        // SAFETY: As above.
        unsafe {
            (*bindings::virtio_skb_shinfo(skb.as_raw())).gso_size = 0;
        }
        assert!(Outgoing::plain(skb, 12, true).is_ok());
        Ok(())
    }

    #[test]
    fn words_are_in_the_buffer_and_aligned() -> Result {
        with_buffers(|alloc| {
            let buffer = alloc(64)?;
            let size = buffer.size();
            assert!(buffer.words::<3>(0).is_some());
            assert!(buffer.words::<3>(size - 24).is_some());
            for offset in [4, size - 23, size - 16, size, u32::MAX] {
                assert!(buffer.words::<3>(offset).is_none());
            }
            Ok(())
        })
    }

    #[test]
    fn more_packets_are_moderated_more() -> Result {
        let device = device()?;
        let moderated = Arc::new(Moderated(Atomic::new(-1)), GFP_KERNEL)?;
        let (dim, mut sampler) = Dim::new(&device, 1, moderated.clone())?;
        // More of them each time, with an interrupt each: nothing is measured before it is enabled.
        for enabled in [false, true] {
            dim.set_enabled(enabled);
            let mut packets = 0;
            for round in 0..1000_u64 {
                dim.count_event();
                packets += 1 + round * round / 8;
                sampler.sample(packets, packets * 1000);
                if round % 64 == 63 {
                    fsleep(Delta::from_millis(2));
                }
            }
            dim.cancel();
            let told = moderated.0.load(Relaxed) >= 0;
            assert_eq!(told, enabled);
        }
        Ok(())
    }

    #[test]
    fn totals_are_written_where_nothing_is_aligned() {
        let mut room = [0_u32; 1 + size_of::<bindings::rtnl_link_stats64>() / 4];
        let totals = Totals {
            rx_packets: 1,
            tx_fifo_errors: 2,
            ..Totals::default()
        };
        // One of both is not aligned to eight bytes.
        for at in 0..2 {
            // SAFETY: There is room for the numbers behind either.
            let shown = unsafe {
                let to = room.as_mut_ptr().add(at).cast();
                operations::write_totals(totals, to);
                to.read_unaligned()
            };
            assert_eq!(shown.rx_packets, 1);
            assert_eq!(shown.tx_fifo_errors, 2);
            assert_eq!(shown.rx_bytes, 0);
        }
    }

    #[test]
    fn a_device_may_say_that_a_checksum_is_good() -> Result {
        let features = Features::EMPTY.with::<Version1>().with::<net::GuestCsum>();
        let layout = Layout::new(features);
        let mut bytes = [0; 12];
        bytes[0] = net::hdr_flag::DATA_VALID;
        let header = layout.read(&bytes, 100).map_err(|_| EINVAL)?;
        let received = header.check(88).map_err(|_| EINVAL)?;
        assert!(received.checksum == Checksum::Valid { in_tunnel: false });
        let mut skb = packet(0, 128)?;
        skb.set_offload(&received, &header, true)?;
        // SAFETY: A packet of ours.
        let summed = unsafe { bindings::virtio_skb_ip_summed(skb.as_raw()) };
        assert_eq!(u32::from(summed), bindings::CHECKSUM_UNNECESSARY);
        Ok(())
    }

    #[test]
    fn segments_in_a_tunnel_are_sent_as_they_came() -> Result {
        let features = Features::EMPTY
            .with::<Version1>()
            .with::<net::Csum>()
            .with::<net::GuestCsum>()
            .with::<net::HostTso4>()
            .with::<net::GuestTso4>()
            .with::<net::HostUdpTunnelGso>()
            .with::<net::GuestUdpTunnelGso>()
            .with::<net::HostUdpTunnelGsoCsum>()
            .with::<net::GuestUdpTunnelGsoCsum>();
        let layout = Layout::new(features);
        // VXLAN: outer headers of 14, 20, 8 and 8 bytes, inner ones of 14, 20 and 20.
        let (udp, ip, tcp) = (34_u16, 64_u16, 84_u16);
        let len: u32 = 1000;
        for checksum in [0, net::hdr_flag::UDP_TUNNEL_CSUM] {
            let mut bytes = [0; 24];
            bytes[0] = net::hdr_flag::NEEDS_CSUM | checksum;
            bytes[1] = net::gso_type::TCPV4 | net::gso_type::UDP_TUNNEL_IPV4;
            for (at, value) in [
                (2, tcp + 20),
                (4, 300),
                (6, tcp),
                (8, 16),
                (20, udp),
                (22, ip),
            ] {
                bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
            let header = layout.read(&bytes, 24 + len).map_err(|_| EINVAL)?;
            let received = header.check(len).map_err(|_| EINVAL)?;
            let mut skb = packet(0, len)?;
            // SAFETY: There is so much room, of which the length of the inner header is told.
            unsafe {
                let data = bindings::virtio___skb_put(skb.as_raw(), len).cast::<u8>();
                data.write_bytes(0, len as usize);
                data.add(usize::from(tcp) + 12).write(5 << 4);
            }
            skb.set_offload(&received, &header, true)?;
            let sent = layout.write(&skb.offload()?).map_err(|_| EINVAL)?;
            assert_eq!(sent.as_bytes(), bytes);
        }
        Ok(())
    }
}
