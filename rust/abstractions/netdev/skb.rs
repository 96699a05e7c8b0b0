// SPDX-License-Identifier: GPL-2.0

//! Packets: `struct sk_buff`.
//!
//! C headers: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/linux/virtio_net.h`](srctree/include/linux/virtio_net.h).

use crate::pool::PoolBuffer;
use core::ptr::NonNull;
use kernel::prelude::*;
use virtio_bindings as bindings;
use virtio_spec::net::header::{
    Checksum,
    Gso,
    GsoKind,
    Hash,
    Hashed,
    Header,
    IpVersion,
    Partial,
    Received,
    Transmit,
    Tunnel, //
};

/// Pieces of a packet behind its linear part at most.
pub const MAX_FRAGS: usize = bindings::MAX_SKB_FRAGS as usize;

/// A packet.  Freed, and counted as dropped, when dropped.
///
/// # Invariants
///
/// `skb` is valid, and nobody else's.
pub struct SkBuff(NonNull<bindings::sk_buff>);

// SAFETY: A packet goes where its owner does.
unsafe impl Send for SkBuff {}

impl SkBuff {
    /// # Safety
    ///
    /// As the type invariants.
    #[inline]
    pub(crate) unsafe fn from_raw(skb: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the contract.
        Self(skb)
    }

    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<bindings::sk_buff> {
        let skb = self.0;
        core::mem::forget(self);
        skb
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::sk_buff {
        self.0.as_ptr()
    }

    #[inline]
    pub(crate) fn shared_info(&self) -> *mut bindings::skb_shared_info {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_skb_shinfo(self.as_raw()) }
    }

    /// Bytes of the whole packet.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).len }
    }

    /// Bytes of its linear part.
    #[inline]
    pub fn head_len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_skb_headlen(self.as_raw()) }
    }

    /// Makes it linear if pieces of it are packets by themselves.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub fn flatten(&mut self) -> Result {
        // SAFETY: By the type invariants.
        unsafe {
            if (*self.shared_info()).frag_list.is_null() {
                return Ok(());
            }
            kernel::error::to_result(bindings::virtio_skb_linearize(self.as_raw()))
        }
    }

    /// Whether it is not made of other packets, and asks the device for nothing.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let info = self.shared_info();
        // SAFETY: By the type invariants.
        unsafe {
            (*info).frag_list.is_null()
                && (*info).gso_size == 0
                && bindings::virtio_skb_ip_summed(self.as_raw()) != bindings::CHECKSUM_PARTIAL as u8
        }
    }

    /// Takes the time at which it is sent, for who wants to know.
    #[inline]
    pub fn timestamp(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_skb_tx_timestamp(self.as_raw()) };
    }

    /// Ends the life of a packet that was sent; `budget` is that of the poll, or 0 outside of one.
    #[inline]
    pub fn consume(self, budget: u32) {
        // SAFETY: By the type invariants.
        unsafe { bindings::napi_consume_skb(self.into_raw().as_ptr(), budget as i32) };
    }

    /// What the device is to do with it.  For segments, how long the headers are is told exactly.
    ///
    /// # Errors
    ///
    /// `EPROTO` for segments of a kind that no device has.
    #[inline]
    pub fn offload(&self) -> Result<Transmit> {
        let mut offload = Transmit::default();
        // SAFETY: By the type invariants.
        unsafe {
            let skb = self.as_raw();
            if bindings::virtio_skb_ip_summed(skb) == bindings::CHECKSUM_PARTIAL as u8 {
                offload.checksum = Some(Partial {
                    // In the linear part, which is not that long.
                    start: bindings::virtio_skb_checksum_start_offset(skb) as u16,
                    offset: bindings::virtio_skb_csum_offset(skb),
                });
            }
            let info = self.shared_info();
            if (*info).gso_size != 0 {
                let bits = (*info).gso_type as i32;
                let kind = if bits & bindings::SKB_GSO_TCPV4 != 0 {
                    GsoKind::TcpV4
                } else if bits & bindings::SKB_GSO_TCPV6 != 0 {
                    GsoKind::TcpV6
                } else if bits & bindings::SKB_GSO_UDP_L4 != 0 {
                    GsoKind::UdpL4
                } else {
                    return Err(EPROTO);
                };
                offload.gso = Some(Gso {
                    kind,
                    ecn: bits & bindings::SKB_GSO_TCP_ECN != 0,
                    size: (*info).gso_size,
                });
                let tunnels = bindings::SKB_GSO_UDP_TUNNEL | bindings::SKB_GSO_UDP_TUNNEL_CSUM;
                let len = if bits & tunnels == 0 {
                    bindings::virtio_skb_gso_header_len(skb, kind.is_tcp())
                } else {
                    offload.tunnel = Some(self.tunnel(bits)?);
                    bindings::virtio_skb_inner_gso_header_len(skb, kind.is_tcp())
                };
                offload.header_len = u16::try_from(len).unwrap_or(u16::MAX);
            }
        }
        Ok(offload)
    }

    /// The tunnel of segments that the stack describes with `bits` (C: `virtio_net_hdr_tnl_from_skb`).
    #[cold]
    fn tunnel(&self, bits: i32) -> Result<Tunnel> {
        // SAFETY: By the type invariants.
        let (v6, transport, network) = unsafe {
            let skb = self.as_raw();
            (
                bindings::virtio_skb_is_ipv6(skb),
                bindings::virtio_skb_transport_offset(skb),
                bindings::virtio_skb_inner_network_offset(skb),
            )
        };
        Ok(Tunnel {
            outer: if v6 { IpVersion::V6 } else { IpVersion::V4 },
            outer_transport: u16::try_from(transport).map_err(|_| EPROTO)?,
            inner_network: u16::try_from(network).map_err(|_| EPROTO)?,
            checksum: bits & bindings::SKB_GSO_UDP_TUNNEL_CSUM != 0,
        })
    }

    /// Has it belong to nobody from now on (C: `skb_orphan`, `nf_reset_ct`): for who may free it late.
    pub fn orphan(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_skb_orphan(self.as_raw()) };
    }

    /// Takes over what the device says of a packet that it sent, which `header` was checked for, in
    /// the byte order that `little_endian` tells (C: `virtio_net_hdr_tnl_to_skb`,
    /// `virtio_net_handle_csum_offload`).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the packet is not like that.
    #[inline]
    pub fn set_offload(
        &mut self,
        received: &Received,
        header: &Header,
        little_endian: bool,
    ) -> Result {
        if let Checksum::Valid { in_tunnel } = received.checksum {
            self.set_checksum_valid(in_tunnel);
        }
        if received.gso.is_none() && !matches!(received.checksum, Checksum::Partial(_)) {
            return Ok(());
        }
        match received.tunnel {
            Some(tunnel) => self.set_tunnel(header, tunnel.checksum),
            None => self.set_segments(header, little_endian),
        }
    }

    /// Says that the device has validated its checksum, and that of the packet in it if it is a tunnel's.
    #[inline]
    pub fn set_checksum_valid(&mut self, in_tunnel: bool) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_skb_checksum_unnecessary(self.as_raw(), in_tunnel.into()) };
    }

    /// Sets the hash that the device has of it (C: `skb_set_hash`): of ports too, or of addresses only.
    pub fn set_hash(&mut self, hash: &Hash) {
        let of_ports = !matches!(hash.of, Hashed::Network(_));
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_skb_set_hash(self.as_raw(), hash.value, of_ports) };
    }

    fn set_segments(&mut self, header: &Header, little_endian: bool) -> Result {
        let bytes = header.as_bytes();
        let size = size_of::<bindings::virtio_net_hdr>();
        let bytes = bytes.get(..size).ok_or(EINVAL)?;
        // SAFETY: So many bytes, and any bytes are a header; the packet by the type invariants.
        unsafe {
            let header = bytes
                .as_ptr()
                .cast::<bindings::virtio_net_hdr>()
                .read_unaligned();
            let done =
                bindings::virtio_virtio_net_hdr_to_skb(self.as_raw(), &header, little_endian);
            kernel::error::to_result(done)
        }
    }

    /// As [`SkBuff::set_segments`], of segments in a tunnel, with its checksum or without.
    #[cold]
    fn set_tunnel(&mut self, header: &Header, checksum: bool) -> Result {
        let bytes = header.as_bytes();
        let size = size_of::<bindings::virtio_net_hdr_v1_hash_tunnel>();
        let bytes = bytes.get(..size).ok_or(EINVAL)?;
        // SAFETY: So many bytes, and any bytes are a header; the packet by the type invariants.
        unsafe {
            let header = bytes
                .as_ptr()
                .cast::<bindings::virtio_net_hdr_v1_hash_tunnel>()
                .read_unaligned();
            let done = bindings::virtio_virtio_net_hdr_tnl_to_skb(self.as_raw(), &header, checksum);
            kernel::error::to_result(done)
        }
    }

    /// Bytes that can be appended to its linear part, if it has no other.
    #[inline]
    pub fn tailroom(&self) -> u32 {
        // SAFETY: By the type invariants.
        let room = unsafe { bindings::virtio_skb_tailroom(self.as_raw()) };
        u32::try_from(room).unwrap_or(0)
    }

    /// Appends a copy of what `buffer` has from `offset` on.  False if it does not fit.
    #[inline]
    pub fn append_copy(&mut self, buffer: &PoolBuffer, offset: u32, len: u32) -> bool {
        let end = u64::from(offset) + u64::from(len);
        if len > self.tailroom() || end > buffer.size().into() {
            return false;
        }
        // SAFETY: Both have that many bytes, and are ours.
        unsafe {
            let to = bindings::virtio___skb_put(self.as_raw(), len).cast::<u8>();
            buffer.copy_to(offset, to, len as usize);
        }
        true
    }
}

impl Drop for SkBuff {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_dev_kfree_skb_any(self.as_raw()) };
    }
}

/// A received packet that is put together of several buffers.
///
/// # Invariants
///
/// `tail` is the last packet of the list that begins with `head`, or `head` itself.
pub struct Assembly {
    head: SkBuff,
    tail: NonNull<bindings::sk_buff>,
}

// SAFETY: As `SkBuff`.
unsafe impl Send for Assembly {}

impl Assembly {
    /// Begins with `head`.  What is appended goes back to its page pool with it.
    #[inline]
    pub fn new(head: SkBuff) -> Self {
        // SAFETY: A packet of ours, of which pages of a pool are to be parts.
        unsafe { bindings::virtio_skb_mark_for_recycle(head.as_raw()) };
        let tail = head.0;
        // INVARIANT: It is alone.
        Self { head, tail }
    }

    /// Appends `len` bytes of `buffer` from `offset` on, with no copy.
    ///
    /// # Errors
    ///
    /// The buffer, if that is not in it, or there is no memory for another list of pieces.
    pub fn append(&mut self, buffer: PoolBuffer, offset: u32, len: u32) -> Result<(), PoolBuffer> {
        if offset > buffer.size() || len > buffer.size() - offset {
            return Err(buffer);
        }
        let head = self.head.as_raw();
        let mut tail = self.tail.as_ptr();
        let size = buffer.size();
        // SAFETY: By the type invariants; lengths are far from where they would wrap, since a device
        // has at most a ring full of buffers.
        unsafe {
            let mut frags = usize::from((*bindings::virtio_skb_shinfo(tail)).nr_frags);
            if frags >= MAX_FRAGS {
                let Some(next) = NonNull::new(bindings::virtio_alloc_skb(0)) else {
                    return Err(buffer);
                };
                bindings::virtio_skb_mark_for_recycle(next.as_ptr());
                if tail == head {
                    (*bindings::virtio_skb_shinfo(tail)).frag_list = next.as_ptr();
                } else {
                    bindings::virtio_skb_set_next(tail, next.as_ptr());
                }
                (*head).truesize = (*head).truesize.wrapping_add((*next.as_ptr()).truesize);
                // INVARIANT: It is behind the last.
                self.tail = next;
                tail = next.as_ptr();
                frags = 0;
            }
            if tail != head {
                (*head).data_len = (*head).data_len.wrapping_add(len);
                (*head).len = (*head).len.wrapping_add(len);
                (*head).truesize = (*head).truesize.wrapping_add(size);
            }
            let (page, before) = buffer.page();
            let at = (before + offset) as i32;
            let frags = frags as i32;
            if bindings::virtio_skb_can_coalesce(tail, frags, page.as_ptr(), at) {
                bindings::skb_coalesce_rx_frag(tail, frags - 1, len as i32, size);
                // The piece before has the page already.
                buffer.put(true);
            } else {
                bindings::virtio_skb_add_rx_frag(tail, frags, page.as_ptr(), at, len as i32, size);
                // The packet has it now.
                core::mem::forget(buffer);
            }
        }
        Ok(())
    }

    /// The packet as it is now.
    #[inline]
    pub fn finish(self) -> SkBuff {
        self.head
    }
}
