// SPDX-License-Identifier: GPL-2.0

//! Packets that a program looks at before the stack does.
//!
//! C source: `receive_small_xdp`, `receive_mergeable_xdp`, `mergeable_xdp_get_buf`,
//! `xdp_linearize_page`, `virtnet_xdp_handler` in `drivers/net/virtio_net.c`.
//!
//! Buffers that the device was given before there was a program have no room for it, and may be
//! shorter: what comes in them is copied, as far as a page has room, and so is what is in several
//! buffers if the program takes only packets in one.

use crate::{
    operations::Operations,
    receive::{
        set_hash,
        Queue,
        Round,
        Rx,
        PAGE_SIZE, //
    },
    statistics::RxStatistics,
    transmit, //
};
use kernel::prelude::*;
use netdev::{
    Polling,
    PoolBuffer,
    RxBuffer,
    SkBuff,
    Verdict,
    XdpBuff,
    XdpFrame,
    XDP_HEADROOM,
    XDP_ROOM, //
};
use virtio_spec::net::header::{
    Checksum,
    Header,
    Words, //
};

/// What a poll counts of programs.
#[derive(Default)]
pub(crate) struct XdpRound {
    pub(crate) packets: u64,
    tx: u64,
    pub(crate) redirects: u64,
    drops: u64,
}

impl XdpRound {
    /// Adds it to what is counted of a queue, by its poll.
    pub(crate) fn count(&self, statistics: &RxStatistics) {
        statistics.xdp_packets.add(self.packets);
        statistics.xdp_tx.add(self.tx);
        statistics.xdp_redirects.add(self.redirects);
        statistics.xdp_drops.add(self.drops);
    }
}

/// A page that buffers of a packet are copied to.
struct Copied {
    page: PoolBuffer,
    len: u32,
}

impl Copied {
    /// One with nothing in it; `None` if there is no memory.
    fn new(polling: &Polling<'_, Operations>) -> Option<Self> {
        let page = polling.memory().alloc(PAGE_SIZE, false)?;
        Some(Self { page, len: 0 })
    }

    /// Appends `len` bytes of `buffer` from `offset` on.  False if they do not fit.
    fn push(&mut self, buffer: &PoolBuffer, offset: u32, len: u32) -> bool {
        let fits = len <= (PAGE_SIZE - XDP_ROOM).saturating_sub(self.len)
            && self
                .page
                .copy_from(XDP_HEADROOM + self.len, buffer, offset, len);
        if fits {
            self.len += len;
        }
        fits
    }
}

/// A buffer, with offset and length of what is in it.
type Part = (PoolBuffer, u32, u32);

impl Rx {
    /// Takes a packet, with any header, whose first buffer is given with offset and length.
    #[inline(never)]
    pub(crate) fn receive_xdp(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        head: Words,
        part: Part,
    ) {
        let (Some(program), Some(queue)) = (&self.program, &mut self.queue) else {
            polling.recycle(part.0);
            return;
        };
        // What the device has, and the first one.
        let most = queue.in_flight().saturating_add(1);
        let written = part.2.saturating_add(self.layout.size() as u32);
        let parsed = self.layout.read_words(&head, written).and_then(|header| {
            let count = header.num_buffers(most)?;
            Ok((header, count.get() - 1))
        });
        let Ok((header, rest)) = parsed else {
            round.length_errors += 1;
            polling.recycle(part.0);
            return;
        };
        let Some(checksum) = finished(&header, part.2) else {
            polling.recycle(part.0);
            take_rest(queue, polling, round, rest, Err);
            round.drop_xdp();
            return;
        };
        let Some(mut shown) = show(queue, polling, round, program.takes_frags(), part, rest) else {
            round.drop_xdp();
            return;
        };
        if let Some(hash) = header.hash() {
            shown.set_hash(&hash);
        }
        round.xdp.packets += 1;
        match polling.run_xdp(program, shown) {
            Verdict::Pass(passed) => self.pass(polling, round, passed, (&header, checksum)),
            Verdict::Transmit(frame) => self.send_back(polling, round, frame),
            Verdict::Redirected => round.xdp.redirects += 1,
            Verdict::Dropped => round.drop_xdp(),
        }
    }

    /// Sends a frame of a program.
    pub(crate) fn send_back(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        frame: XdpFrame,
    ) {
        round.xdp.tx += 1;
        if let Some(tx) = polling.lock_tx(self.xdp_queues.index()) {
            transmit::send_frame(tx, frame);
        }
    }

    /// Hands a packet to the stack, with what the device has said of it before the program saw it.
    fn pass(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        passed: XdpBuff<'_>,
        (header, checksum): (&Header, Checksum),
    ) {
        let Some(skb) = passed.into_skb() else {
            round.drops += 1;
            return;
        };
        self.hand_over_passed(polling, round, skb, (header, checksum));
    }

    /// Hands what a program has passed to the stack.
    pub(crate) fn hand_over_passed(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        mut skb: SkBuff,
        (header, checksum): (&Header, Checksum),
    ) {
        polling.prepare(&mut skb, self.index);
        set_hash(polling, &mut skb, header);
        if let Checksum::Valid { in_tunnel } = checksum {
            skb.set_checksum_valid(in_tunnel);
        }
        if polling.receive(skb).is_err() {
            round.frame_errors += 1;
        }
    }

    /// Ends a poll: what was redirected or sent goes on.
    pub(crate) fn end_xdp(&self, polling: &Polling<'_, Operations>, round: &XdpRound) {
        if round.redirects != 0 {
            polling.flush_redirected();
        }
        if round.tx != 0 {
            if let Some(tx) = polling.lock_tx(self.xdp_queues.index()) {
                transmit::flush_frames(tx);
            }
        }
    }
}

impl Round {
    /// Counts a packet that ends here for a program.
    pub(crate) fn drop_xdp(&mut self) {
        self.drops += 1;
        self.xdp.drops += 1;
    }
}

/// What the device says of the checksum of a packet that needs nothing more to be done with it.  Others
/// were on their way when the device was told that there are to be none.
pub(crate) fn finished(header: &Header, len: u32) -> Option<Checksum> {
    let received = header.check(len).ok()?;
    match received.checksum {
        Checksum::Partial(_) => None,
        checksum => received.gso.is_none().then_some(checksum),
    }
}

/// Takes the next `rest` buffers of a packet, and calls `put` for each until it gives one back.  False if
/// not all of them were taken.
fn take_rest(
    queue: &mut Queue,
    polling: &Polling<'_, Operations>,
    round: &mut Round,
    rest: u16,
    mut put: impl FnMut(Part) -> Result<(), Part>,
) -> bool {
    let mut whole = true;
    for _ in 0..rest {
        let Some((RxBuffer::One(buffer), written)) = queue.get() else {
            round.length_errors += 1;
            return false;
        };
        round.bytes += u64::from(written);
        let start = buffer.headroom();
        let fits = written != 0 && buffer.sync(start, written);
        round.length_errors += u64::from(!fits);
        let part = (buffer, start, written);
        let refused = if whole && fits {
            put(part).err()
        } else {
            Some(part)
        };
        if let Some((buffer, ..)) = refused {
            whole = false;
            polling.recycle(buffer);
        }
    }
    whole
}

/// Puts together what the program sees of a packet that begins in a buffer, and goes on in the next
/// `rest`.  `None` if there is no room, or no memory; all of its buffers are gone then.
fn show<'a>(
    queue: &mut Queue,
    polling: &'a Polling<'_, Operations>,
    round: &mut Round,
    takes_frags: bool,
    (first, start, len): Part,
    rest: u16,
) -> Option<XdpBuff<'a>> {
    let all_in_one = rest != 0 && !takes_frags;
    let shown = if first.headroom() != 0 && !all_in_one {
        polling.xdp_buff(first, start, len)
    } else {
        let copied = Copied::new(polling)
            .and_then(|mut copied| copied.push(&first, start, len).then_some(copied));
        polling.recycle(first);
        let Some(mut copied) = copied else {
            take_rest(queue, polling, round, rest, Err);
            return None;
        };
        if all_in_one {
            let whole = take_rest(queue, polling, round, rest, |(buffer, start, len)| {
                if !copied.push(&buffer, start, len) {
                    return Err((buffer, start, len));
                }
                polling.recycle(buffer);
                Ok(())
            });
            if !whole {
                return None;
            }
        }
        polling.xdp_buff(copied.page, XDP_HEADROOM, copied.len)
    };
    let mut shown = shown.map_err(|buffer| polling.recycle(buffer)).ok();
    if !all_in_one {
        let whole = take_rest(
            queue,
            polling,
            round,
            rest,
            |(buffer, start, len)| match &mut shown {
                Some(shown) => shown
                    .append(buffer, start, len)
                    .map_err(|buffer| (buffer, start, len)),
                None => Err((buffer, start, len)),
            },
        );
        if !whole {
            return None;
        }
    }
    shown
}
