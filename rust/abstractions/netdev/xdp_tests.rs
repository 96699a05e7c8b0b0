// SPDX-License-Identifier: GPL-2.0

//! Programs that say the same of every packet, and what becomes of packets.

use crate::{
    bridge::{
        Outgoing,
        RxBuffer, //
    },
    napi::{
        Napi,
        QueueType, //
    },
    pool::PoolBuffer,
    skb::MAX_FRAGS,
    tests::{
        device,
        lengths,
        Idle,
        IdleNapi, //
    },
    xdp::{
        Program,
        RxInfo,
        Verdict,
        XdpBuff,
        XDP_HEADROOM,
        XDP_ROOM, //
    },
    xdp_frame::{
        XdpFrame,
        XdpFrames, //
    },
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    ffi::c_void,
    prelude::*, //
};
use virtio::packets::Packet;
use virtio_bindings as bindings;

const PAGE: u32 = bindings::PAGE_SIZE as u32;

/// A program that always says `act`.
struct Always(ManuallyDrop<Program>);

impl Always {
    fn new(act: u32) -> Result<Self> {
        // SAFETY: No preconditions; it has no references, so that none is dropped.
        let program = unsafe {
            let program = NonNull::new(bindings::virtio_test_program(act)).ok_or(ENOMEM)?;
            Program::from_raw(program)
        };
        Ok(Self(ManuallyDrop::new(program)))
    }
}

impl Drop for Always {
    fn drop(&mut self) {
        // SAFETY: Made by `new`, and run no more.
        unsafe { bindings::virtio_test_program_free(self.0.as_raw()) };
    }
}

/// What a test has of a poll.
struct Bench<'a> {
    info: &'a RxInfo,
    /// Of each verdict.
    programs: &'a [Always],
    alloc: &'a dyn Fn(u32) -> Result<PoolBuffer>,
    dev: *mut bindings::net_device,
}

impl Bench<'_> {
    /// A packet of `len` bytes with the usual room, of a page.
    fn packet(&self, len: u32) -> Result<XdpBuff<'_>> {
        let buffer = (self.alloc)(PAGE)?;
        // SAFETY: `with_bench` has bottom halves off, and nobody else uses the pool.
        unsafe { XdpBuff::new(self.info, buffer, XDP_HEADROOM, len) }.map_err(|_| EINVAL)
    }

    fn run<'a>(&self, act: u32, packet: XdpBuff<'a>) -> Result<Verdict<XdpBuff<'a>>> {
        let program = self.programs.get(act as usize).ok_or(EINVAL)?;
        // SAFETY: The device of the test.
        Ok(unsafe { packet.run(&program.0, self.dev) })
    }

    fn frame(&self, len: u32) -> Result<XdpFrame> {
        match self.run(bindings::xdp_action_XDP_TX, self.packet(len)?)? {
            Verdict::Transmit(frame) => Ok(frame),
            _ => Err(EINVAL),
        }
    }
}

/// A function that is called once, and what it returned.
struct Call<F>(Option<F>, Result);

extern "C" fn call<F: FnOnce() -> Result>(data: *mut c_void) {
    // SAFETY: `with_bench` passes it, which is not used by anybody else meanwhile.
    let Call(f, result) = unsafe { &mut *data.cast::<Call<F>>() };
    if let Some(f) = f.take() {
        *result = f();
    }
}

/// Calls `f` as a poll is called.
fn in_poll<F: FnOnce() -> Result>(f: F) -> Result {
    let mut data = Call(Some(f), Err(EINVAL));
    // SAFETY: The function that is for such data.
    unsafe { bindings::virtio_test_in_poll(Some(call::<F>), (&raw mut data).cast()) };
    data.1
}

/// Runs `f` as a poll would be run.
fn with_bench(f: impl FnOnce(&Bench<'_>) -> Result) -> Result {
    let device = device()?;
    let napi: IdleNapi = Napi::new(&device, QueueType::Rx, 0, Idle)?;
    napi.set_pool(16, -1, None)?;
    let mut programs = KVec::new();
    for act in 0..=bindings::xdp_action_XDP_TX {
        programs.push(Always::new(act)?, GFP_KERNEL)?;
    }
    let done = napi.with_disabled(|_, memory| {
        let bench = Bench {
            info: memory.rx_info().ok_or(EINVAL)?,
            programs: &programs,
            alloc: &|size| memory.alloc(size, false).ok_or(ENOMEM),
            dev: device.core().as_raw(),
        };
        in_poll(|| f(&bench))
    });
    done.ok_or(EBUSY)?
}

#[kunit_tests(virtio_netdev_xdp)]
mod suite {
    use super::*;

    #[test]
    fn packets_go_where_the_program_says() -> Result {
        with_bench(|bench| {
            let passed = bench.run(bindings::xdp_action_XDP_PASS, bench.packet(100)?)?;
            let Verdict::Pass(packet) = passed else {
                return Err(EINVAL);
            };
            assert_eq!(packet.len(), 100);
            let skb = packet.into_skb().ok_or(ENOMEM)?;
            assert!(skb.len() == 100 && skb.head_len() == 100);
            for act in [
                bindings::xdp_action_XDP_DROP,
                bindings::xdp_action_XDP_ABORTED,
            ] {
                let verdict = bench.run(act, bench.packet(100)?)?;
                assert!(matches!(verdict, Verdict::Dropped));
            }
            assert_eq!(bench.frame(60)?.len(), 60);
            Ok(())
        })
    }

    #[test]
    fn a_packet_has_room_behind() -> Result {
        with_bench(|bench| {
            assert_eq!(bench.packet(PAGE - XDP_ROOM)?.len(), PAGE - XDP_ROOM);
            assert!(bench.packet(PAGE - XDP_ROOM + 64).is_err());
            // What has no room for its own description is no frame.
            let buffer = (bench.alloc)(PAGE)?;
            // SAFETY: Bottom halves are off.
            let packet = unsafe { XdpBuff::new(bench.info, buffer, 16, 60) };
            let packet = packet.map_err(|_| EINVAL)?;
            let verdict = bench.run(bindings::xdp_action_XDP_TX, packet)?;
            assert!(matches!(verdict, Verdict::Dropped));
            Ok(())
        })
    }

    #[test]
    fn a_packet_is_made_of_several_buffers() -> Result {
        with_bench(|bench| {
            let mut packet = bench.packet(100)?;
            // Nothing, and more than there is.
            for (offset, len) in [(0, 0), (PAGE, 1), (64, PAGE)] {
                assert!(packet.append((bench.alloc)(PAGE)?, offset, len).is_err());
            }
            for _ in 0..MAX_FRAGS {
                packet
                    .append((bench.alloc)(PAGE)?, XDP_HEADROOM, 10)
                    .map_err(|_| EINVAL)?;
            }
            assert!(packet.append((bench.alloc)(PAGE)?, 0, 10).is_err());
            let whole = 100 + MAX_FRAGS as u32 * 10;
            assert_eq!(packet.len(), whole);
            let verdict = bench.run(bindings::xdp_action_XDP_PASS, packet)?;
            let Verdict::Pass(packet) = verdict else {
                return Err(EINVAL);
            };
            let skb = packet.into_skb().ok_or(ENOMEM)?;
            assert!(skb.len() == whole && skb.head_len() == 100);
            Ok(())
        })
    }

    #[test]
    fn a_frame_is_sent_with_a_header() -> Result {
        with_bench(|bench| {
            for (any_layout, pieces) in [(true, &[72, 30][..]), (false, &[12, 60, 30][..])] {
                let mut packet = bench.packet(60)?;
                let rest = (bench.alloc)(64)?;
                packet.append(rest, 0, 30).map_err(|_| EINVAL)?;
                let verdict = bench.run(bindings::xdp_action_XDP_TX, packet)?;
                let Verdict::Transmit(frame) = verdict else {
                    return Err(EINVAL);
                };
                assert_eq!(frame.len(), 90);
                let outgoing = Outgoing::frame(frame, 12, any_layout).map_err(|_| EINVAL)?;
                assert!(*lengths(&outgoing)? == *pieces);
                assert!(outgoing.only_piece().is_none());
            }
            let outgoing = Outgoing::frame(bench.frame(60)?, 12, true).map_err(|_| EINVAL)?;
            assert!(outgoing.only_piece().is_some() && *lengths(&outgoing)? == [72]);
            assert!(Outgoing::frame(bench.frame(60)?, 4096, true).is_err());
            // Through the queue, and back.
            let (data, word) = outgoing.into_raw();
            // SAFETY: Taken apart just now.
            let outgoing = unsafe { Outgoing::from_raw(data, word) };
            assert!(lengths(&outgoing)?.is_empty());
            Ok(())
        })
    }

    #[test]
    fn frames_that_were_not_taken_are_the_callers() -> Result {
        with_bench(|bench| {
            let mut raw = [core::ptr::null_mut(); 4];
            for (index, raw) in raw.iter_mut().enumerate() {
                *raw = bench.frame(60 + index as u32)?.into_raw().as_ptr();
            }
            // SAFETY: Made just now.
            let mut frames = unsafe { XdpFrames::new(&raw) };
            let mut seen = 0;
            frames.send(|frame| {
                seen += frame.len();
                if frame.len() == 62 {
                    return Err(frame);
                }
                Ok(())
            });
            assert!(seen == 60 + 61 + 62 && frames.sent() == 2 && frames.count() == 4);
            // One that was taken counts, whatever comes back for it.
            let mut other = Some(bench.frame(99)?);
            frames.send(|_| other.take().map_or(Ok(()), Err));
            assert_eq!(frames.sent(), 3);
            frames.send(|_| Ok(()));
            Ok(())
        })
    }

    #[test]
    fn a_buffer_keeps_its_headroom_in_the_queue() -> Result {
        with_bench(|bench| {
            for roomy in [false, true] {
                let mut buffer = (bench.alloc)(PAGE)?;
                if roomy {
                    buffer.lend_behind_headroom(64, 100);
                }
                let headroom = if roomy { XDP_HEADROOM } else { 0 };
                assert_eq!(buffer.headroom(), headroom);
                if roomy {
                    assert!(buffer.lent() == (64 + XDP_HEADROOM, 100));
                }
                let size = buffer.size();
                let (data, word) = RxBuffer::One(buffer).into_raw();
                // SAFETY: Taken apart just now.
                let RxBuffer::One(buffer) = (unsafe { RxBuffer::from_raw(data, word) }) else {
                    return Err(EINVAL);
                };
                assert!(buffer.headroom() == headroom && buffer.size() == size);
            }
            Ok(())
        })
    }

    #[test]
    fn copies_stay_in_bounds() -> Result {
        with_bench(|bench| {
            let (mut to, from) = ((bench.alloc)(PAGE)?, (bench.alloc)(128)?);
            let size = from.size();
            for (at, offset, len, fits) in [
                (0, 0, size, true),
                (PAGE - 16, size - 16, 16, true),
                (PAGE - 16, 0, 17, false),
                (0, size - 16, 17, false),
                (PAGE + 1, 0, 0, false),
                (0, 0, u32::MAX, false),
            ] {
                assert_eq!(to.copy_from(at, &from, offset, len), fits);
            }
            Ok(())
        })
    }
}
