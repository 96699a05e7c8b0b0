// SPDX-License-Identifier: GPL-2.0

//! Packets that come in buffers of sockets.
//!
//! C source: `virtnet_receive_xsk_buf`, `virtnet_receive_xsk_merge`, `xsk_append_merge_buffer`,
//! `virtnet_add_recvbuf_xsk` in `drivers/net/virtio_net.c`.  There what the device says of a packet is
//! lost on the way to the stack, and no frame is sent back, since none has room for a header.

use crate::{
    operations::Operations,
    receive::{
        Queue,
        Round,
        Rx,
        PAGE_SIZE, //
    },
    receive_xdp::finished, //
};
use netdev::{
    Assembly,
    Polling,
    Refill,
    RxBuffer,
    SkBuff,
    Verdict,
    XskBuff,
    XskBuffer,
    XskRx, //
};
use virtio_spec::net::header::Header;

/// Gives the device as many buffers of sockets as it takes.  False if there were none, and nobody will
/// say when there are.
pub(crate) fn fill_from_sockets(queue: &mut Queue, xsk: &mut Option<XskRx>) -> bool {
    let Some(xsk) = xsk else {
        return true;
    };
    let refill = xsk.refill(queue.num_free(), |buffer| {
        queue
            .add(RxBuffer::Socket(buffer))
            .map_err(|error| match error.buffer {
                RxBuffer::Socket(buffer) => Some(buffer),
                RxBuffer::One(_) | RxBuffer::Many(_) => None,
            })
    });
    refill != Refill::Empty || queue.is_broken()
}

/// Gives back what the device does not have any more.
pub(crate) fn give_back(xsk: &mut Option<XskRx>, buffer: RxBuffer) {
    if let (RxBuffer::Socket(buffer), Some(xsk)) = (buffer, xsk) {
        xsk.free(buffer);
    }
}

impl Rx {
    /// Takes a packet that begins, and perhaps ends, in a buffer of sockets.
    #[inline(never)]
    pub(crate) fn receive_socket(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        buffer: XskBuffer,
        written: u32,
    ) {
        let (Some(xsk), Some(queue)) = (&self.xsk, &mut self.queue) else {
            return;
        };
        let Some(first) = xsk.receive(polling, buffer, written, true) else {
            round.length_errors += 1;
            return;
        };
        round.bytes += u64::from(first.len());
        let parsed = self.layout.read_words(&first.header(), written);
        // What the device has, and the first one.
        let most = queue.in_flight().saturating_add(1);
        let parsed = parsed.and_then(|header| {
            let count = header.num_buffers(most)?;
            Ok((header, count.get() - 1))
        });
        let Ok((header, rest)) = parsed else {
            round.length_errors += 1;
            return;
        };
        if self.program.is_none() {
            let skb = first.into_skb(polling).ok_or(());
            let skb = append_rest(queue, xsk, polling, round, skb, rest);
            self.end(polling, round, skb, &header);
            return;
        }
        if rest != 0 {
            // Programs do not see them in several buffers of sockets.
            let none: Result<SkBuff, ()> = append_rest(queue, xsk, polling, round, Err(()), rest);
            drop(none);
            round.drop_xdp();
            return;
        }
        self.show_socket(polling, round, first, &header);
    }

    /// Shows a packet in one buffer to the program.
    fn show_socket(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        mut packet: XskBuff<'_>,
        header: &Header,
    ) {
        let (Some(program), Some(checksum)) = (&self.program, finished(header, packet.len()))
        else {
            round.drop_xdp();
            return;
        };
        packet.set_hash(header.hash().as_ref());
        round.xdp.packets += 1;
        match packet.run(polling, program) {
            Verdict::Pass(passed) => match passed.into_skb(polling) {
                Some(skb) => self.hand_over_passed(polling, round, skb, (header, checksum)),
                None => round.drops += 1,
            },
            Verdict::Transmit(frame) => self.send_back(polling, round, frame),
            Verdict::Redirected => round.xdp.redirects += 1,
            Verdict::Dropped => round.drop_xdp(),
        }
    }
}

/// Appends to a packet a copy of what is in the next `rest` buffers of `queue`.
fn append_rest(
    queue: &mut Queue,
    xsk: &XskRx,
    polling: &Polling<'_, Operations>,
    round: &mut Round,
    begun: Result<SkBuff, ()>,
    rest: u16,
) -> Result<SkBuff, ()> {
    if rest == 0 {
        return begun;
    }
    let mut assembly = begun.map(Assembly::new);
    for _ in 0..rest {
        let Some((RxBuffer::Socket(buffer), written)) = queue.get() else {
            round.length_errors += 1;
            return Err(());
        };
        round.bytes += u64::from(written);
        let part = xsk.receive(polling, buffer, written, false);
        round.length_errors += u64::from(part.is_none());
        assembly = match (assembly, part) {
            (Ok(whole), Some(part)) => append(polling, whole, &part),
            // The others of the packet are not packets by themselves.
            _ => Err(()),
        };
    }
    Ok(assembly?.finish())
}

/// Appends a copy of a buffer, in as many pages as it takes.
fn append(
    polling: &Polling<'_, Operations>,
    mut whole: Assembly,
    part: &XskBuff<'_>,
) -> Result<Assembly, ()> {
    let mut done = 0;
    while done < part.len() {
        let len = (part.len() - done).min(PAGE_SIZE);
        let mut copy = polling.memory().alloc(len, false).ok_or(())?;
        if !part.copy_to(done, &mut copy, len) {
            polling.recycle(copy);
            return Err(());
        }
        whole
            .append(copy, 0, len)
            .map_err(|copy| polling.recycle(copy))?;
        done += len;
    }
    Ok(whole)
}
