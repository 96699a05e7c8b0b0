// SPDX-License-Identifier: GPL-2.0

//! What goes through the queue of free page hints (specification 5.5.6.5): numbers of commands, which
//! the device reads, and blocks of memory, of which it is told that it may write there.

use crate::block::Block;
use core::ptr::NonNull;
use kernel::{
    ffi::c_void,
    prelude::*, //
};
use virtio::packets::{
    DataDirection,
    Packet,
    Place, //
};
use virtio_spec::balloon::Wire;

/// The number of a command, in memory of its own.
pub struct Command(KBox<u32>);

impl Command {
    /// Without a number.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self(KBox::new(0, GFP_KERNEL)?))
    }

    /// With number `id`.
    #[must_use]
    pub fn with(mut self, wire: Wire, id: u32) -> Self {
        *self.0 = wire.word(id);
        self
    }
}

/// What the device is told.
pub enum Hint {
    /// For which command the blocks are that follow, or that no more follow.
    Command(Command),
    /// Nobody needs what is in these pages.
    Block(Block),
}

/// Second words of a [`Hint`] that is apart.
const COMMAND: u16 = 0;
const BLOCK: u16 = 1;

// SAFETY: A `KBox` stays where it is, and nobody reaches it while it is apart, nor the pages of a block;
// the second word says which of the two it was.
unsafe impl Packet for Hint {
    const DIRECTION: DataDirection = DataDirection::Writable;
    const MAPS_ITSELF: bool = false;

    fn direction(&self) -> DataDirection {
        match self {
            Self::Command(_) => DataDirection::Readable,
            Self::Block(_) => DataDirection::Writable,
        }
    }

    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        f(match self {
            Self::Command(Command(id)) => {
                Place::Linear(NonNull::from(&**id).cast(), size_of::<u32>() as u32)
            }
            Self::Block(block) => Place::Pages(block.piece()),
        })
    }

    fn into_raw(self) -> (NonNull<c_void>, u16) {
        match self {
            Self::Command(Command(id)) => (NonNull::from(KBox::leak(id)).cast(), COMMAND),
            Self::Block(block) => (block.into_page().cast(), BLOCK),
        }
    }

    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        // SAFETY: By the contract, and by its second word, one or the other.
        unsafe {
            if word == COMMAND {
                Self::Command(Command(KBox::from_raw(data.as_ptr().cast())))
            } else {
                Self::Block(Block::from_page(data.cast()))
            }
        }
    }
}

#[kunit_tests(virtio_balloon_hint)]
mod tests {
    use super::*;
    use crate::block::BLOCK_PAGES;
    use kernel::page::PAGE_SIZE;

    /// Which way it goes, and how many bytes.
    fn shape(hint: &Hint) -> (bool, usize) {
        let mut bytes = 0;
        let _ = hint.pieces(|place| {
            bytes += match place {
                Place::Linear(_, len) => len as usize,
                Place::Pages(piece) => piece.len as usize,
                Place::Mapped(..) => 0,
            };
            Ok::<(), ()>(())
        });
        (hint.direction() == DataDirection::Writable, bytes)
    }

    #[test]
    fn commands_are_read_and_blocks_are_not() -> Result {
        let command = Command::new()?.with(Wire::Modern, 7);
        let (data, word) = Hint::Command(command).into_raw();
        // SAFETY: Taken apart just now.
        let hint = unsafe {
            assert_eq!(data.cast::<u32>().read(), 7_u32.to_le());
            Hint::from_raw(data, word)
        };
        assert_eq!(shape(&hint), (false, 4));
        let (data, word) = Hint::Block(Block::new().ok_or(ENOMEM)?).into_raw();
        // SAFETY: Taken apart just now.
        let hint = unsafe { Hint::from_raw(data, word) };
        assert_eq!(shape(&hint), (true, BLOCK_PAGES * PAGE_SIZE));
        Ok(())
    }
}
