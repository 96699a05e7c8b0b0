// SPDX-License-Identifier: GPL-2.0

//! Packets that a program has given to somebody: `struct xdp_frame`.
//!
//! C header: [`include/net/xdp.h`](srctree/include/net/xdp.h).

use core::ptr::NonNull;
use virtio_bindings as bindings;

/// A packet that a program has redirected, or sent back.  Its buffers go back to where they are from
/// when it is dropped.
///
/// # Invariants
///
/// `frame` is valid, and nobody else's.
pub struct XdpFrame(NonNull<bindings::xdp_frame>);

// SAFETY: A frame goes where its owner does; what it is made of has no context.
unsafe impl Send for XdpFrame {}

impl XdpFrame {
    /// # Safety
    ///
    /// As the type invariants.
    #[inline]
    pub(crate) unsafe fn from_raw(frame: NonNull<bindings::xdp_frame>) -> Self {
        // INVARIANT: By the contract.
        Self(frame)
    }

    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<bindings::xdp_frame> {
        let frame = self.0;
        core::mem::forget(self);
        frame
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::xdp_frame {
        self.0.as_ptr()
    }

    /// Bytes of it.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_xdp_get_frame_len(self.as_raw()) }
    }

    /// Bytes that can be put before it.
    #[inline]
    pub(crate) fn headroom(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).headroom }
    }

    /// Where its linear part is, and how long.
    #[inline]
    pub(crate) fn head(&self) -> (*mut u8, u32) {
        // SAFETY: By the type invariants.
        unsafe { ((*self.as_raw()).data.cast(), (*self.as_raw()).len) }
    }

    /// The pieces behind that.
    #[inline]
    pub(crate) fn frags(&self) -> &[bindings::skb_frag_t] {
        // SAFETY: By the type invariants; so many of them were written.
        unsafe {
            let info = bindings::virtio_xdp_frame_frags(self.as_raw());
            if info.is_null() {
                return &[];
            }
            let frags = &(*info).frags;
            frags
                .get(..usize::from((*info).nr_frags))
                .unwrap_or_default()
        }
    }
}

impl Drop for XdpFrame {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; no context is asked for.
        unsafe { bindings::xdp_return_frame(self.as_raw()) };
    }
}

/// Frames that somebody wants to have sent.
///
/// # Invariants
///
/// Those from `sent` on are valid, and ours.
pub struct XdpFrames<'a> {
    frames: &'a [*mut bindings::xdp_frame],
    sent: usize,
}

impl<'a> XdpFrames<'a> {
    /// # Safety
    ///
    /// All of them are valid, and ours; those that were not sent are the caller's again when this is
    /// gone.
    pub(crate) unsafe fn new(frames: &'a [*mut bindings::xdp_frame]) -> Self {
        // INVARIANT: By the contract.
        Self { frames, sent: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// How many were sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Calls `f` with one after the other that was not sent yet, until it gives one back.
    pub fn send(&mut self, mut f: impl FnMut(XdpFrame) -> Result<(), XdpFrame>) {
        while let Some(frame) = self.frames.get(self.sent).copied().and_then(NonNull::new) {
            // INVARIANT: It is not ours any more, unless it comes back.
            self.sent += 1;
            // SAFETY: By the type invariants.
            match f(unsafe { XdpFrame::from_raw(frame) }) {
                Ok(()) => {}
                Err(back) => {
                    if back.0 == frame {
                        // INVARIANT: It came back.
                        self.sent -= 1;
                        let _ = back.into_raw();
                    }
                    return;
                }
            }
        }
    }
}
