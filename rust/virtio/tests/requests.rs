// SPDX-License-Identifier: GPL-2.0

//! Queues of requests: what the device sees of them, and what comes back.

use crate::{
    driver::Driver,
    fake::{
        Behaviour,
        DataRequest,
        FakeDevice,
        PIECE, //
    },
    lifecycle::{
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        AddErrorKind,
        CbState,
        QueueSpec,
        Queues,
        RingErrorKind, //
    },
    requests::{
        AddError,
        Command,
        Data,
        DataDirection,
        Request,
        RequestQueue,
        HEADER_SIZE,
        INLINE_SIZE, //
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

/// Requests that a queue has room for.
const SLOTS: usize = 4;

/// Descriptors of a ring that tables fit into, and of one that they do not.
const LONG: u16 = 64;
const SHORT: u16 = 8;

const HEADER: (u32, bool) = (HEADER_SIZE as u32, false);
const READ: (u32, bool) = (PIECE as u32, false);
const WRITTEN: (u32, bool) = (PIECE as u32, true);

/// The class of devices with a queue of requests.
struct RequestClass;

impl Class for RequestClass {
    const DEVICE: DeviceType = DeviceType::new(0xfa4e_0002);
    const DEFINED: Features = Features::EMPTY;
    const REQUIREMENTS: &'static [Requirement] = &[];
    const NAMES: &'static [(u32, &'static str)] = &[];
}

/// A driver that leaves its queue to the test.
struct RequestDriver;

#[pin_data]
struct Kept {
    device: Arc<FakeDevice>,
}

impl Driver for RequestDriver {
    type Class = RequestClass;
    type Data = Kept;

    fn queues(_dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut specs = KVec::new();
        let spec = QueueSpec {
            name: c"req",
            interrupt: true,
        };
        specs.push(spec, GFP_KERNEL)?;
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Kept, Error>> {
        let device = device_of(dev);
        let queue = queues.take_requests(dev, 0, SLOTS)?;
        *device.requests.lock() = Some(queue);
        Ok(try_pin_init!(Kept { device }))
    }

    fn ready(_dev: &Running<'_>, data: Pin<&Kept>) -> Result {
        data.device.driver.ready.add(1);
        Ok(())
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
        let queue = data.device.requests.lock().take();
        if let Some(mut queue) = queue {
            while let Some(request) = queue.drain(proof) {
                log.completed.add(1);
                log.bytes.add(request.slot() as i32);
            }
        }
    }
}

type RequestBench = Bench<RequestDriver>;

/// A device with or without indirect tables, and with rings of `size`.
fn bench(indirect: bool, size: u16) -> Result<RequestBench> {
    let mut behaviour = Behaviour::HONEST;
    if indirect {
        behaviour.features = behaviour.features.with::<IndirectDesc>();
    }
    behaviour.queue_size = size;
    Bench::with_behaviour(behaviour)
}

impl RequestBench {
    /// What `f` makes of the queue.
    fn with<R>(&self, f: impl FnOnce(&mut RequestQueue<DataRequest>) -> Result<R>) -> Result<R> {
        match &mut *self.device.requests.lock() {
            Some(queue) => f(queue),
            None => Err(ENODEV),
        }
    }

    fn request(&self, slot: usize, dir: DataDirection, pieces: usize) -> Result<DataRequest> {
        DataRequest::new(&self.device, slot, dir, pieces)
    }

    /// Adds `request` with `data`, and does not tell the device.
    fn add(&self, request: DataRequest, data: Data<'_>) -> Result {
        self.with(|queue| {
            let added = queue.add(request, command(data));
            added.map_err(|_not_added| ENOSPC)
        })
    }

    /// Lends the device request `slot` with so many pieces.
    fn lend(&self, slot: usize, dir: DataDirection, pieces: usize) -> Result {
        self.add(self.request(slot, dir, pieces)?, Data::Request)?;
        self.kick().map(|_told| ())
    }

    /// Shows the device what was added; whether it was told.
    fn kick(&self) -> Result<bool> {
        let Some(notification) = self.with(|queue| Ok(queue.kick()))? else {
            return Ok(false);
        };
        notification.send();
        Ok(true)
    }

    /// Tries to add `request`; why it was not, and that it came back.
    fn refused(&self, request: DataRequest, data: Data<'_>) -> Result<AddErrorKind> {
        let slot = request.slot();
        self.with(|queue| match queue.add(request, command(data)) {
            Ok(()) => Err(EINVAL),
            Err(AddError { kind, request }) => {
                check_eq!(request.slot(), slot);
                Ok(kind)
            }
        })
    }

    /// Takes a request back: its slot, how much was written, and the first byte of its footer.
    fn done(&self) -> Result<Option<(usize, u32, u8)>> {
        self.with(|queue| {
            Ok(queue.get_buf(|request| request.inline()).map(|done| {
                let slot = done.request.slot();
                (slot, done.written, done.footer[0])
            }))
        })
    }
}

/// A command whose header is 1, 2, 3, and so on, and whose footer has one byte.
fn command(data: Data<'_>) -> Command<'_> {
    Command {
        header: core::array::from_fn(|at| at as u8 + 1),
        data,
        footer: 1,
    }
}

#[kunit_tests(virtio_fake_requests)]
mod suite {
    use super::*;
    use DataDirection::{
        Readable,
        Writable, //
    };

    const FOOTER: (u32, bool) = (1, true);

    /// A request to be read by the device, with so many pieces, is `expected` to be a table or not.
    fn readable_chain(bench: &RequestBench, pieces: usize, table: bool) -> Result {
        bench.lend(0, Readable, pieces)?;
        let mut seen = false;
        check!(bench.device.serve(0, |chain| {
            let data = core::iter::repeat_n(READ, pieces);
            seen = chain.indirect == table
                && chain.has(core::iter::once(HEADER).chain(data).chain([FOOTER]))
                && chain.read(0) == core::array::from_fn(|at| at as u8 + 1)
                && (0..pieces).all(|at| chain.read(1 + at) == [at as u8; 16]);
            chain.write(1 + pieces, &[0]);
            1
        }));
        check!(seen);
        check_eq!(bench.done()?, Some((0, 1, 0)));
        check_eq!(bench.device.driver.buffers.get(), 0);
        Ok(())
    }

    #[test]
    fn request_is_a_table_of_header_data_and_footer() -> Result {
        let bench = bench(true, LONG)?;
        readable_chain(&bench, 3, true)?;
        // Written without a loop, and behind a longer one.
        readable_chain(&bench, 1, true)?;
        // One descriptor for each: as many as there are slots.
        for slot in 0..SLOTS {
            bench.lend(slot, Readable, 28)?;
        }
        check_eq!(bench.with(|queue| Ok(queue.in_flight()))?, SLOTS as u16);
        Ok(())
    }

    #[test]
    fn request_is_a_chain_where_there_are_no_tables() -> Result {
        let bench = bench(false, SHORT)?;
        readable_chain(&bench, 3, false)?;
        readable_chain(&bench, 1, false)
    }

    #[test]
    fn ring_that_is_shorter_than_a_table_has_none() -> Result {
        readable_chain(&bench(true, SHORT)?, 3, false)
    }

    #[test]
    fn data_too_scattered_for_the_table_of_a_slot_has_a_large_one() -> Result {
        let bench = bench(true, LONG)?;
        readable_chain(&bench, 28, true)?;
        // More often than there are large tables: each comes back.
        for _ in 0..20 {
            readable_chain(&bench, 29, true)?;
        }
        // And the slot is as good as before.
        readable_chain(&bench, 2, true)
    }

    #[test]
    fn device_writes_data_and_footer() -> Result {
        for (indirect, size) in [(true, LONG), (false, SHORT)] {
            let bench = bench(indirect, size)?;
            bench.lend(1, Writable, 2)?;
            let mut seen = false;
            check!(bench.device.serve(0, |chain| {
                seen = chain.has([HEADER, WRITTEN, WRITTEN, FOOTER]);
                chain.write(2, &[9; PIECE]);
                chain.write(3, &[7]);
                2 * PIECE as u32 + 1
            }));
            check!(seen);
            let done = bench.with(|queue| Ok(queue.get_buf(|request| request.inline())))?;
            let done = done.ok_or(EINVAL)?;
            check_eq!(done.written, 2 * PIECE as u32 + 1);
            check_eq!(done.footer[0], 7);
            check_eq!(done.request.last_byte(0)?, 0);
            check_eq!(done.request.last_byte(1)?, 9);
        }
        Ok(())
    }

    #[test]
    fn footer_that_is_not_written_is_all_ones() -> Result {
        let bench = bench(true, LONG)?;
        // The second time too, though the slot had another footer meanwhile.
        for written in [None, Some(0), None] {
            bench.lend(0, Writable, 1)?;
            check!(bench.device.serve(0, |chain| {
                if let Some(status) = written {
                    chain.write(2, &[status]);
                }
                0
            }));
            check_eq!(bench.done()?, Some((0, 0, written.unwrap_or(u8::MAX))));
        }
        Ok(())
    }

    #[test]
    fn device_cannot_say_it_wrote_more_than_there_is() -> Result {
        for (indirect, size) in [(true, LONG), (false, SHORT)] {
            let bench = bench(indirect, size)?;
            bench.lend(0, Writable, 2)?;
            check!(bench.device.serve(0, |_| 2 * PIECE as u32 + 2));
            if let Some((_, written, _)) = bench.done()? {
                check!(written <= 2 * PIECE as u32 + 1);
            }
        }
        Ok(())
    }

    #[test]
    fn payload_is_read_whatever_the_data_is_for() -> Result {
        for (indirect, size) in [(true, LONG), (false, SHORT)] {
            let bench = bench(indirect, size)?;
            // Its data is to be written, and too scattered for the table of a slot.
            bench.add(bench.request(1, Writable, 29)?, Data::Payload)?;
            bench.kick()?;
            let mut seen = false;
            check!(bench.device.serve(0, |chain| {
                seen = chain.indirect == indirect
                    && chain.has([HEADER, (PIECE as u32 / 2, false), FOOTER])
                    && chain.read(1) == [0; 16];
                chain.write(2, &[3]);
                1
            }));
            check!(seen);
            check_eq!(bench.done()?, Some((1, 1, 3)));
            // None there: none sent.
            bench.add(bench.request(0, Writable, 0)?, Data::Payload)?;
            bench.kick()?;
            check!(bench.device.serve(0, |chain| {
                seen = chain.has([HEADER, FOOTER]);
                1
            }));
            check!(seen);
        }
        Ok(())
    }

    #[test]
    fn inline_data_goes_both_ways() -> Result {
        let bench = bench(true, LONG)?;
        bench.add(bench.request(0, Readable, 0)?, Data::Readable(&[5; 20]))?;
        check!(bench.kick()?);
        let mut seen = false;
        check!(bench.device.serve(0, |chain| {
            seen = chain.has([HEADER, (20, false), FOOTER]) && chain.read(1) == [5; 16];
            1
        }));
        check!(seen);
        check!(bench.done()?.is_some());

        bench.add(bench.request(0, Readable, 0)?, Data::Writable(3))?;
        check!(bench.kick()?);
        check!(bench.device.serve(0, |chain| {
            // What was there before is not shown.
            seen = chain.has([HEADER, (3, true), FOOTER]) && chain.read(1) == [0; 16];
            chain.write(1, &[1, 2, 3]);
            chain.write(2, &[0]);
            4
        }));
        check!(seen);
        let done = bench.with(|queue| Ok(queue.get_buf(|request| request.inline())))?;
        let mut done = done.ok_or(EINVAL)?;
        check_eq!(done.request.inline().get(..4), Some(&[1, 2, 3, 0][..]));
        Ok(())
    }

    #[test]
    fn requests_come_back_in_any_order() -> Result {
        let bench = bench(true, LONG)?;
        let mut heads = [0; 3];
        for (slot, head) in heads.iter_mut().enumerate() {
            bench.lend(slot, Writable, 1)?;
            *head = bench.device.take(0).ok_or(EINVAL)?;
        }
        for slot in [2, 0, 1] {
            check!(bench.device.put_used(0, heads[slot].into(), 0));
            check_eq!(bench.done()?, Some((slot, 0, u8::MAX)));
            check_eq!(bench.done()?, None);
        }
        Ok(())
    }

    #[test]
    fn slot_is_for_one_request_at_a_time() -> Result {
        let bench = bench(true, LONG)?;
        bench.lend(2, Readable, 1)?;
        for slot in [2, SLOTS, usize::MAX] {
            let request = bench.request(slot, Readable, 1)?;
            check_eq!(bench.refused(request, Data::Request)?, AddErrorKind::NoSlot);
        }
        check_eq!(bench.device.driver.buffers.get(), 1);
        check!(bench.device.serve(0, |_| 0));
        check!(bench.done()?.is_some());
        bench.lend(2, Readable, 1)
    }

    #[test]
    fn full_ring_gives_the_request_back() -> Result {
        let bench = bench(false, SHORT)?;
        // Three descriptors each.
        bench.lend(0, Readable, 1)?;
        bench.lend(1, Readable, 1)?;
        let request = bench.request(2, Readable, 1)?;
        let full = AddErrorKind::Ring(RingErrorKind::Full);
        check_eq!(bench.refused(request, Data::Request)?, full);
        check_eq!(bench.device.driver.buffers.get(), 2);
        check!(bench.device.serve(0, |_| 0));
        check!(bench.done()?.is_some());
        bench.lend(2, Readable, 1)
    }

    #[test]
    fn what_never_fits_is_too_long() -> Result {
        let bench = bench(false, SHORT)?;
        let too_long = AddErrorKind::Ring(RingErrorKind::TooLong);
        let request = bench.request(0, Writable, usize::from(SHORT) - 1)?;
        check_eq!(bench.refused(request, Data::Request)?, too_long);
        let data = [0; INLINE_SIZE + 1];
        let request = bench.request(0, Readable, 0)?;
        check_eq!(bench.refused(request, Data::Readable(&data))?, too_long);
        // Nothing is left of it.
        check_eq!(bench.device.driver.buffers.get(), 0);
        readable_chain(&bench, usize::from(SHORT) - 2, false)
    }

    #[test]
    fn device_is_told_once_of_what_is_new() -> Result {
        let bench = bench(true, LONG)?;
        check!(!bench.kick()?);
        bench.add(bench.request(0, Readable, 1)?, Data::Request)?;
        bench.add(bench.request(1, Readable, 1)?, Data::Request)?;
        // Nor does it see anything before.
        check!(bench.device.take(0).is_none());
        check!(bench.kick()?);
        check_eq!(bench.device.notifications.get(), 1);
        check!(bench.device.take(0).is_some() && bench.device.take(0).is_some());
        check!(!bench.kick()?);
        // Unless it may have missed that.
        bench.with(|queue| Ok(queue.renotify()))?.send();
        check_eq!(bench.device.notifications.get(), 2);
        Ok(())
    }

    #[test]
    fn requests_used_without_callbacks_are_not_missed() -> Result {
        let bench = bench(true, LONG)?;
        bench.with(|queue| {
            queue.disable_callbacks();
            Ok(())
        })?;
        bench.lend(0, Readable, 1)?;
        check!(bench.device.serve(0, |_| 0));
        let state = bench.with(|queue| Ok(queue.enable_callbacks()))?;
        check_eq!(state, CbState::MorePending);
        check!(bench.done()?.is_some());
        let state = bench.with(|queue| Ok(queue.enable_callbacks()))?;
        check_eq!(state, CbState::Armed);
        Ok(())
    }

    #[test]
    fn requests_come_back_from_a_device_that_was_reset() -> Result {
        for (indirect, size) in [(true, LONG), (false, SHORT)] {
            let bench = bench(indirect, size)?;
            bench.lend(1, Readable, 2)?;
            bench.lend(3, Writable, 1)?;
            // It has seen one of them.
            check!(bench.device.take(0).is_some());
            bench.unbind();
            let log = &bench.device.driver;
            check_eq!(log.completed.get(), 2);
            check_eq!(log.bytes.get(), 1 + 3);
            check!(bench.is_clean());
        }
        Ok(())
    }

    #[test]
    fn device_that_breaks_the_queue_is_recovered() -> Result {
        let bench = bench(true, LONG)?;
        bench.lend(0, Readable, 1)?;
        let request = bench.request(1, Readable, 1)?;
        check!(bench.device.put_used(0, LONG.into(), 0));
        // In one go: who recovers it takes the queue away.
        bench.with(|queue| {
            check!(queue.get_buf(|request| request.inline()).is_none());
            check!(queue.is_broken());
            match queue.add(request, command(Data::Request)) {
                Ok(()) => Err(EINVAL),
                Err(refused) => {
                    check_eq!(refused.kind, AddErrorKind::Ring(RingErrorKind::Broken));
                    Ok(())
                }
            }
        })?;
        check!(bench.device.driver.ready.becomes(2));
        // The first one came back, without a use.
        check_eq!(bench.device.driver.completed.get(), 1);
        check_eq!(bench.device.driver.buffers.get(), 0);
        readable_chain(&bench, 1, true)
    }

    #[test]
    fn queue_that_is_given_up_is_recovered() -> Result {
        let bench = bench(true, LONG)?;
        bench.lend(2, Writable, 1)?;
        bench.with(|queue| {
            queue.give_up();
            check!(queue.is_broken());
            Ok(())
        })?;
        check!(bench.device.driver.ready.becomes(2));
        check_eq!(bench.device.driver.completed.get(), 1);
        readable_chain(&bench, 1, true)
    }
}
