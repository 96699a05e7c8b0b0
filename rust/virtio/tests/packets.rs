// SPDX-License-Identifier: GPL-2.0

//! Queues of packets: what the device sees of them, and what comes back.

use crate::{
    driver::Driver,
    fake::{
        wait_until,
        Behaviour,
        DataPacket,
        DataRequest,
        FakeDevice,
        PIECE, //
    },
    lifecycle::{
        Configured,
        Init,
        Quiesced, //
    },
    packets::PacketQueue,
    queue::{
        AddErrorKind,
        CbState,
        QueueSpec,
        Queues,
        RingErrorKind, //
    },
    requests::{
        DataDirection,
        Request, //
    },
    tests::{
        device_of,
        Bench, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use virtio_spec::{
    features::Class,
    negotiate::Requirement,
    transport::IndirectDesc,
    DeviceType,
    Features, //
};

/// Pieces of a packet at most, and descriptors of the ring.
const PIECES: u16 = 5;
const SIZE: u16 = 8;

/// The class of devices with a queue of packets.
struct PacketClass;

impl Class for PacketClass {
    const DEVICE: DeviceType = DeviceType::new(0xfa4e_0003);
    const DEFINED: Features = Features::EMPTY;
    const REQUIREMENTS: &'static [Requirement] = &[];
    const NAMES: &'static [(u32, &'static str)] = &[];
}

/// A driver that leaves its queue to the test.
struct PacketDriver;

#[pin_data]
struct Kept {
    device: Arc<FakeDevice>,
}

impl Driver for PacketDriver {
    type Class = PacketClass;
    type Data = Kept;

    const DEFERS_BUFFERS: bool = true;

    fn queues(_dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut specs = KVec::new();
        let spec = QueueSpec {
            name: c"packets",
            interrupt: true,
        };
        specs.push(spec, GFP_KERNEL)?;
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Kept, Error>> {
        let device = device_of(dev);
        let queue = queues.take_packets(dev, 0, PIECES)?;
        *device.packets.lock() = Some(queue);
        Ok(try_pin_init!(Kept { device }))
    }

    fn used_buffers(data: Pin<&Kept>, _queue: u32) {
        data.device.driver.used_buffers.add(1);
    }

    fn remove(data: Pin<&Kept>) {
        data.device.driver.remove.add(1);
    }

    /// Counts what comes back, and adds up its numbers.
    fn quiesced(proof: &Quiesced<'_>, data: Pin<&Kept>) {
        let log = &data.device.driver;
        let queue = data.device.packets.lock().take();
        if let Some(mut queue) = queue {
            while let Some(packet) = queue.drain(proof) {
                log.completed.add(1);
                log.bytes.add(packet.0.slot() as i32);
            }
        }
    }
}

type PacketBench = Bench<PacketDriver>;

/// A device whose queue has 16 descriptors, and can be reset alone.
fn resizable() -> Result<PacketBench> {
    let mut behaviour = Behaviour::HONEST;
    behaviour.features = behaviour.features.with::<IndirectDesc>();
    behaviour.queue_size = 2 * SIZE;
    behaviour.queue_reset = Ok(());
    Bench::with_behaviour(behaviour)
}

/// A device with or without indirect tables.
fn bench(indirect: bool) -> Result<PacketBench> {
    let mut behaviour = Behaviour::HONEST;
    if indirect {
        behaviour.features = behaviour.features.with::<IndirectDesc>();
    }
    behaviour.queue_size = SIZE;
    Bench::with_behaviour(behaviour)
}

impl PacketBench {
    /// What `f` makes of the queue.
    fn with<R>(&self, f: impl FnOnce(&mut PacketQueue<DataPacket>) -> Result<R>) -> Result<R> {
        match &mut *self.device.packets.lock() {
            Some(queue) => f(queue),
            None => Err(ENODEV),
        }
    }

    /// Adds packet `number` with so many pieces; why not, if it comes back.
    fn add(&self, number: usize, pieces: usize) -> Result<Option<AddErrorKind>> {
        let packet = DataRequest::new(&self.device, number, DataDirection::Readable, pieces)?;
        self.with(|queue| match queue.add(DataPacket(packet)) {
            Ok(()) => Ok(None),
            Err(error) => {
                check_eq!(error.buffer.0.slot(), number);
                Ok(Some(error.kind))
            }
        })
    }

    /// Resizes the queue: what came of it, and how many packets were given back.
    fn resize(&self, size: u32) -> Result<(Result, usize)> {
        let mut back = 0;
        let result = self.with(|queue| Ok(queue.resize(size, |_| back += 1)))?;
        Ok((result, back))
    }

    /// Shows the device what was added.
    fn kick(&self) -> Result {
        if let Some(notification) = self.with(|queue| Ok(queue.kick()))? {
            notification.send();
        }
        Ok(())
    }

    /// Takes a packet back: its number.
    fn done(&self) -> Result<Option<usize>> {
        self.with(|queue| Ok(queue.get().map(|(packet, _)| packet.0.slot())))
    }

    /// The device uses the next packet: whether it was a table, and had so many pieces.
    fn serve(&self, pieces: usize) -> Option<bool> {
        let mut seen = None;
        self.device.serve(0, |chain| {
            let expected = core::iter::repeat_n((PIECE as u32, false), pieces);
            let good =
                chain.has(expected) && (0..pieces).all(|at| chain.read(at) == [at as u8; 16]);
            seen = good.then_some(chain.indirect);
            0
        });
        seen
    }
}

#[kunit_tests(virtio_fake_packets)]
mod suite {
    use super::*;

    const FULL: Option<AddErrorKind> = Some(AddErrorKind::Ring(RingErrorKind::Full));
    const TOO_LONG: Option<AddErrorKind> = Some(AddErrorKind::Ring(RingErrorKind::TooLong));

    #[test]
    fn one_piece_is_a_descriptor_and_several_are_a_table() -> Result {
        let bench = bench(true)?;
        for (number, pieces) in [1, 2, PIECES as usize].into_iter().enumerate() {
            check_eq!(bench.add(number, pieces)?, None);
            bench.kick()?;
            check_eq!(bench.serve(pieces), Some(pieces != 1));
            check_eq!(bench.done()?, Some(number));
            check_eq!(bench.device.driver.buffers.get(), 0);
        }
        check_eq!(bench.done()?, None);
        Ok(())
    }

    #[test]
    fn there_is_a_table_for_each_descriptor_again_and_again() -> Result {
        let bench = bench(true)?;
        for _ in 0..3 {
            for number in 0..SIZE.into() {
                check_eq!(bench.add(number, 3)?, None);
            }
            check_eq!(bench.add(99, 3)?, FULL);
            check_eq!(bench.with(|queue| Ok(queue.num_free()))?, 0);
            bench.kick()?;
            for number in 0..SIZE.into() {
                check_eq!(bench.serve(3), Some(true));
                check_eq!(bench.done()?, Some(number));
            }
        }
        check_eq!(bench.device.driver.buffers.get(), 0);
        Ok(())
    }

    #[test]
    fn packets_of_a_queue_may_go_both_ways() -> Result {
        for indirect in [true, false] {
            let bench = bench(indirect)?;
            let mut number = 0;
            for pieces in [1, 3] {
                for direction in [DataDirection::Readable, DataDirection::Writable] {
                    let packet = DataRequest::new(&bench.device, number, direction, pieces)?;
                    let added = bench.with(|queue| Ok(queue.add(DataPacket(packet)).is_ok()))?;
                    check!(added);
                    bench.kick()?;
                    let writes = direction == DataDirection::Writable;
                    let mut good = false;
                    bench.device.serve(0, |chain| {
                        good = chain.has(core::iter::repeat_n((PIECE as u32, writes), pieces));
                        0
                    });
                    check!(good);
                    check_eq!(bench.done()?, Some(number));
                    number += 1;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn without_tables_a_packet_is_a_chain_and_what_does_not_fit_comes_back() -> Result {
        let bench = bench(false)?;
        check_eq!(bench.add(0, 5)?, None);
        check_eq!(bench.add(1, 4)?, FULL);
        check_eq!(bench.add(1, 3)?, None);
        bench.kick()?;
        check_eq!(bench.serve(5), Some(false));
        check_eq!(bench.serve(3), Some(false));
        check_eq!(bench.done()?, Some(0));
        check_eq!(bench.done()?, Some(1));
        Ok(())
    }

    #[test]
    fn packet_of_more_pieces_than_were_said_comes_back() -> Result {
        for indirect in [false, true] {
            let bench = bench(indirect)?;
            check_eq!(bench.add(7, usize::from(PIECES) + 1)?, TOO_LONG);
            check_eq!(bench.device.driver.buffers.get(), 0);
            // Nothing is left of it.
            check_eq!(bench.with(|queue| Ok(queue.num_free()))?, SIZE.into());
            check_eq!(bench.add(7, PIECES.into())?, None);
        }
        Ok(())
    }

    #[test]
    fn packets_that_were_not_used_come_back_with_the_device() -> Result {
        let bench = bench(true)?;
        for (number, pieces) in [(1, 1), (2, 3), (4, 5)] {
            check_eq!(bench.add(number, pieces)?, None);
        }
        bench.kick()?;
        let device = bench.device.clone();
        drop(bench);
        check_eq!(device.driver.completed.get(), 3);
        check_eq!(device.driver.bytes.get(), 1 + 2 + 4);
        check_eq!(device.driver.buffers.get(), 0);
        Ok(())
    }

    #[test]
    fn interrupts_are_off_until_somebody_asks_for_them() -> Result {
        let bench = bench(true)?;
        for number in 0..2 {
            check_eq!(bench.add(number, 1)?, None);
        }
        bench.kick()?;
        check_eq!(bench.serve(1), Some(false));
        check!(bench.with(|queue| Ok(queue.has_used()))?);
        check_eq!(
            bench.with(|queue| Ok(queue.enable_callbacks()))?,
            CbState::MorePending
        );
        check_eq!(bench.done()?, Some(0));
        check_eq!(
            bench.with(|queue| Ok(queue.enable_callbacks()))?,
            CbState::Armed
        );
        bench.with(|queue| {
            let suppressor = queue.suppressor();
            suppressor.disable_callbacks();
            Ok(())
        })?;
        check_eq!(bench.serve(1), Some(false));
        check_eq!(bench.done()?, Some(1));
        Ok(())
    }

    #[test]
    fn queue_changes_its_size_and_gives_packets_back() -> Result {
        let bench = resizable()?;
        for (size, expected) in [(8, Ok(())), (16, Ok(())), (16, Ok(()))] {
            let kept = bench.with(|queue| Ok(queue.size() == size))?;
            for number in 0..3 {
                check_eq!(bench.add(number, 2)?, None);
            }
            bench.kick()?;
            let (result, back) = bench.resize(size)?;
            check_eq!(result, expected);
            // One that has the size is left alone.
            check_eq!(back, if kept { 0 } else { 3 });
            check_eq!(bench.with(|queue| Ok(queue.size()))?, size);
            if !kept {
                check_eq!(bench.device.driver.buffers.get(), 0);
            }
            // More than there were, if it is longer.
            let first = bench.device.driver.buffers.get() as usize;
            for number in first..size as usize {
                check_eq!(bench.add(number, 1)?, None);
            }
            check_eq!(bench.add(99, 1)?, FULL);
            bench.kick()?;
            for number in 0..size as usize {
                let pieces = if number < first { 2 } else { 1 };
                check!(bench.serve(pieces).is_some());
                check_eq!(bench.done()?, Some(number));
            }
        }
        Ok(())
    }

    #[test]
    fn size_that_cannot_be_changes_nothing() -> Result {
        let bench = resizable()?;
        check_eq!(bench.add(1, 1)?, None);
        // Shorter than a packet, longer than the device takes, or none at all.
        for (size, error) in [(4, EINVAL), (32, E2BIG), (0, EINVAL)] {
            check_eq!(bench.resize(size)?, (Err(error), 0));
        }
        // No ring has it: this one goes on, as new.
        check_eq!(bench.resize(12)?, (Err(EINVAL), 1));
        check_eq!(bench.with(|queue| Ok(queue.size()))?, 16);
        check_eq!(bench.add(2, 1)?, None);
        bench.kick()?;
        check_eq!(bench.serve(1), Some(false));
        check_eq!(bench.done()?, Some(2));
        // Of a device that cannot.
        bench
            .device
            .script(|behaviour| behaviour.queue_reset = Err(ENOENT));
        check_eq!(bench.add(3, 1)?, None);
        check_eq!(bench.resize(8)?, (Err(ENOENT), 0));
        bench.kick()?;
        check_eq!(bench.serve(1), Some(false));
        check_eq!(bench.done()?, Some(3));
        Ok(())
    }

    #[test]
    fn device_that_does_not_reset_a_queue_is_recovered() -> Result {
        for starts in [false, true] {
            let bench = resizable()?;
            check_eq!(bench.add(1, 1)?, None);
            bench.device.script(|behaviour| {
                if starts {
                    behaviour.queue_restart = Err(EIO);
                } else {
                    behaviour.queue_reset = Err(ETIMEDOUT);
                }
            });
            let device = bench.device.clone();
            let resized = bench.resize(8)?;
            // What the device may still have stays where it is.
            check_eq!(
                resized,
                if starts {
                    (Err(EBUSY), 1)
                } else {
                    (Err(ETIMEDOUT), 0)
                }
            );
            check!(wait_until(|| device.driver.buffers.get() == 0));
            drop(bench);
            check_eq!(device.driver.completed.get(), i32::from(!starts));
        }
        Ok(())
    }
}
