// SPDX-License-Identifier: GPL-2.0

//! Large blocks of free memory, kept out of use for somebody who need not care for what is in them
//! (specification 5.5.6.5).
//!
//! C source: `get_free_page_and_send` and `return_free_pages_to_mm` in
//! `drivers/virtio/virtio_balloon.c`.

use crate::list::PageList;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::SpinLock, //
};
use virtio::packets::Piece;
use virtio_bindings as bindings;

/// Pages of a block, as a binary logarithm: as many as the kernel keeps together (C:
/// `VIRTIO_BALLOON_HINT_BLOCK_ORDER`).
const ORDER: u32 = bindings::MAX_PAGE_ORDER;

/// Pages of a block.
pub const BLOCK_PAGES: usize = 1 << ORDER;

/// A block of memory that nobody uses; free again when dropped.
///
/// # Invariants
///
/// The first of [`BLOCK_PAGES`] pages that are ours alone, and whose `lru` nobody else uses.
pub struct Block(NonNull<bindings::page>);

// SAFETY: Pages belong to no thread.
unsafe impl Send for Block {}

impl Block {
    /// Takes one that is free and can be spared, if there is one.  Any context: nothing is reclaimed
    /// or moved for it.
    pub fn new() -> Option<Self> {
        // SAFETY: No preconditions.
        let page = unsafe { bindings::virtio_alloc_block() };
        // INVARIANT: Allocated just now.
        NonNull::new(page).map(Self)
    }

    /// All of it.
    pub(crate) fn piece(&self) -> Piece {
        Piece {
            page: self.0,
            offset: 0,
            len: (BLOCK_PAGES * PAGE_SIZE) as u32,
        }
    }

    /// Takes it apart: its first page.
    pub(crate) fn into_page(self) -> NonNull<bindings::page> {
        ManuallyDrop::new(self).0
    }

    /// Puts it together again.
    ///
    /// # Safety
    ///
    /// `page` comes from `into_page`, and is used once.
    pub(crate) unsafe fn from_page(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: By the contract.
        Self(page)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::__free_pages(self.0.as_ptr(), ORDER) };
    }
}

/// Blocks that are kept, and can be had back at any time.
#[pin_data]
pub struct Blocks {
    #[pin]
    list: SpinLock<PageList<ORDER>>,
}

impl Blocks {
    /// None.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            list <- new_spinlock!(PageList::new()),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.lock().len()
    }

    /// Keeps `block`.
    pub fn keep(&self, block: Block) {
        let mut list = self.list.lock();
        // SAFETY: By the type invariants of `Block`, which goes to the list.
        unsafe { list.as_mut().push(block.into_page()) };
    }

    /// Has one back.
    pub fn take(&self) -> Option<Block> {
        let page = self.list.lock().as_mut().pop()?;
        // INVARIANT: Kept by `keep`.
        Some(Block(page))
    }

    /// Gives at most `count` back to the kernel: how many.
    pub fn free(&self, count: usize) -> usize {
        (0..count).map_while(|_| self.take()).count()
    }
}

#[kunit_tests(virtio_balloon_block)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_until_they_are_wanted() -> Result {
        let blocks = KBox::pin_init(Blocks::new(), GFP_KERNEL)?;
        assert!(blocks.take().is_none());
        for _ in 0..3 {
            blocks.keep(Block::new().ok_or(ENOMEM)?);
        }
        assert_eq!(blocks.count(), 3);
        let block = blocks.take().ok_or(EINVAL)?;
        assert_eq!(block.piece().len as usize, PAGE_SIZE << ORDER);
        drop(block);
        assert_eq!((blocks.count(), blocks.free(1), blocks.count()), (2, 1, 1));
        assert_eq!((blocks.free(9), blocks.free(9)), (1, 0));
        // Those that are left go with it.
        blocks.keep(Block::new().ok_or(ENOMEM)?);
        Ok(())
    }
}
