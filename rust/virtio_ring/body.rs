// SPDX-License-Identifier: GPL-2.0

//! What a resize replaces of a virtqueue: the ring and its memory.
//!
//! C source: `vring_alloc_queue_split`, `vring_alloc_queue_packed` and `vring_free` in
//! `drivers/virtio/virtio_ring.c`.

use crate::{
    mapper::Mapper,
    memory::Memory,
    vring::Token, //
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    ffi::c_uint,
    prelude::*,
    sync::Arc, //
};
use virtio_bindings as bindings;
use virtqueue::{
    layout::{
        PackedLayout,
        SplitLayout, //
    },
    Config,
    Entry,
    Layout,
    Observer,
    QueueSize,
    Ring,
    Shared,
    Slot, //
};

pub(crate) type Store = (KVVec<Slot<Token>>, KVVec<Entry>);
pub(crate) type KernelRing = Ring<&'static Memory, Store>;

/// One area of ring memory.
pub(crate) struct Area {
    pub(crate) memory: NonNull<u8>,
    pub(crate) address: u64,
    pub(crate) size: usize,
}

/// What a resize replaces: the ring, its memory, and what reads it without serialisation.
///
/// # Invariants
///
/// `memory` was leaked from a `KBox`; `Body::free` takes it back.
pub(crate) struct Body {
    pub(crate) observer: Observer<&'static Memory>,
    pub(crate) ring: UnsafeCell<KernelRing>,
    memory: NonNull<Memory>,
    /// Empty for a ring in somebody else's memory.
    pub(crate) areas: KVec<Area>,
    /// For `virtqueue_get_vring`.
    pub(crate) view: bindings::vring,
}

impl Body {
    /// Allocates the memory of a ring, less than asked for if that may be, and makes the ring.
    pub(crate) fn allocate(
        mapper: &Mapper,
        mut config: Config,
        align: u32,
        weak_barriers: bool,
        may_reduce: bool,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let areas = loop {
            match allocate(mapper, config.layout, config.size, align) {
                Ok(areas) => break areas,
                // A whole page at least was asked for: half of it may be there.
                Err(error)
                    if error == ENOMEM
                        && may_reduce
                        && usize::from(config.size.get()) * 16 > bindings::PAGE_SIZE =>
                {
                    config.size = QueueSize::new(u32::from(config.size.get() / 2)).ok_or(EINVAL)?;
                }
                Err(error) => return Err(error),
            }
        };
        let starts = area_addresses(&config, align, &areas).map(|starts| starts.map(|(at, _)| at));
        let made = match starts {
            // SAFETY: Zeroed areas of the right sizes, which live until `Body::free`.
            Some(starts) => unsafe {
                Self::on_memory(starts, &config, align, weak_barriers, shared)
            },
            None => Err(EINVAL),
        };
        match made {
            Ok(mut body) => {
                body.areas = areas;
                Ok(body)
            }
            Err(error) => {
                free_areas(mapper, &areas);
                Err(error)
            }
        }
    }

    /// Makes a ring on memory that is there.
    ///
    /// # Safety
    ///
    /// The areas are zeroed, as large and aligned as the layout wants, and live as long as the body.
    pub(crate) unsafe fn on_memory(
        starts: [NonNull<u8>; 3],
        config: &Config,
        align: u32,
        weak_barriers: bool,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let size = config.size.get();
        let mut slots = KVVec::with_capacity(usize::from(size), GFP_KERNEL)?;
        for _ in 0..size {
            slots.push(Slot::EMPTY, GFP_KERNEL)?;
        }
        // SAFETY: By the contract.
        let memory = unsafe { Memory::new(starts, size, weak_barriers, shared) };
        let memory = NonNull::from(KBox::leak(KBox::new(memory, GFP_KERNEL)?));
        // SAFETY: Leaked; taken back when the ring and the observer are gone.
        let borrowed: &'static Memory = unsafe { memory.as_ref() };
        match Ring::new(*config, borrowed, (slots, KVVec::new())) {
            Ok(ring) => Ok(Self {
                observer: ring.observer(),
                ring: UnsafeCell::new(ring),
                memory,
                areas: KVec::new(),
                view: split_view(config, align, borrowed),
            }),
            Err(_) => {
                // SAFETY: Leaked above; `Ring::new` kept nothing.
                drop(unsafe { KBox::from_raw(memory.as_ptr()) });
                Err(EINVAL)
            }
        }
    }

    /// The words that are used without serialisation.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        // SAFETY: By the type invariants, alive.
        unsafe { self.memory.as_ref() }.shared_words()
    }

    /// The number of descriptors.
    pub(crate) fn size(&self) -> u16 {
        // SAFETY: By the type invariants, alive.
        unsafe { self.memory.as_ref() }.size()
    }

    /// Frees the ring.  The device does not own it any more.
    pub(crate) fn free(self, mapper: &Mapper) {
        free_areas(mapper, &self.areas);
        let memory = self.memory;
        drop(self);
        // SAFETY: By the type invariants; ring and observer, which borrowed it, are gone.
        drop(unsafe { KBox::from_raw(memory.as_ptr()) });
    }
}

/// Allocates the areas of a ring; gives back what was got if one fails.
fn allocate(mapper: &Mapper, layout: Layout, size: QueueSize, align: u32) -> Result<KVec<Area>> {
    let sizes: [usize; 3] = if layout.is_packed() {
        let layout = PackedLayout::new(size);
        [
            layout.desc_size,
            layout.driver_event_size,
            layout.device_event_size,
        ]
    } else {
        let layout = SplitLayout::new(size, align as usize).ok_or(EINVAL)?;
        [layout.total, 0, 0]
    };
    let mut areas = KVec::with_capacity(sizes.len(), GFP_KERNEL)?;
    for size in sizes.into_iter().filter(|size| *size != 0) {
        let area = mapper
            .alloc(size, bindings::GFP_KERNEL | bindings::__GFP_NOWARN)
            .map(|(memory, address)| Area {
                memory,
                address,
                size,
            });
        match area {
            Ok(area) => areas.push(area, GFP_KERNEL)?,
            Err(error) => {
                free_areas(mapper, &areas);
                return Err(error);
            }
        }
    }
    Ok(areas)
}

fn free_areas(mapper: &Mapper, areas: &[Area]) {
    for area in areas {
        // SAFETY: Just allocated, and no device knows it.
        unsafe { mapper.free(area.size, area.memory, area.address) };
    }
}

/// Where the areas start in what was allocated: one block for a split ring, three for a packed.
fn area_addresses(config: &Config, align: u32, areas: &[Area]) -> Option<[(NonNull<u8>, u64); 3]> {
    match areas {
        [block] => {
            let layout = SplitLayout::new(config.size, align as usize)?;
            // SAFETY: The offsets lie inside the block, which has `layout.total` bytes.
            let at = |offset: usize| unsafe {
                (block.memory.add(offset), block.address + offset as u64)
            };
            Some([at(0), at(layout.avail), at(layout.used)])
        }
        [desc, driver, device] => Some([desc, driver, device].map(|a| (a.memory, a.address))),
        _ => None,
    }
}

/// What `virtqueue_get_vring` shows of a split ring.
fn split_view(config: &Config, align: u32, memory: &Memory) -> bindings::vring {
    let mut view = bindings::vring::default();
    if !config.layout.is_packed() {
        if let Some(layout) = SplitLayout::new(config.size, align as usize) {
            // SAFETY: The offsets lie inside the block.
            unsafe {
                let start = memory.start();
                view.num = c_uint::from(config.size.get());
                view.desc = start.as_ptr().cast();
                view.avail = start.add(layout.avail).as_ptr().cast();
                view.used = start.add(layout.used).as_ptr().cast();
            }
        }
    }
    view
}
