// SPDX-License-Identifier: GPL-2.0

//! How memory is made visible to a device: physical addresses, the DMA API, or the device's own
//! `virtio_map_ops`.
//!
//! Specification: 6 (VIRTIO_F_ACCESS_PLATFORM).  C source: `vring_use_map_api` and
//! `virtqueue_map_*` in `drivers/virtio/virtio_ring.c`.

use core::ptr::NonNull;
use kernel::prelude::*;
use virtio_bindings as bindings;
use virtio_spec::{
    transport::AccessPlatform,
    Features, //
};
use virtqueue::Direction;

/// Attribute of mappings whose cache lines the CPU leaves alone (C:
/// `virtqueue_add_inbuf_cache_clean`).
pub(crate) const CACHE_CLEAN: usize = bindings::VIRTIO_DMA_ATTR_CACHE_CLEAN;

/// The mapping policy of a virtqueue.
///
/// # Invariants
///
/// The device of `vdev`, its map operations and the mapping token outlive `self`.
pub struct Mapper {
    vdev: NonNull<bindings::virtio_device>,
    token: bindings::virtio_map,
    uses_api: bool,
}

// SAFETY: The mapping functions may be called from anywhere.
unsafe impl Send for Mapper {}
// SAFETY: As above.
unsafe impl Sync for Mapper {}

/// The features that `vdev` agreed on.
///
/// # Safety
///
/// `vdev` is valid.
pub(crate) unsafe fn features(vdev: *const bindings::virtio_device) -> Features {
    // SAFETY: By the contract; changed only before there are queues.
    Features::from_u64s(unsafe { (*vdev).__bindgen_anon_1.features_array })
}

/// Whether addresses must be mapped: the device says so, or we run on Xen (C:
/// `vring_use_map_api`).  Without the feature, history has devices bypass the IOMMU.
///
/// # Safety
///
/// `vdev` is valid.
pub(crate) unsafe fn uses_map_api(vdev: *const bindings::virtio_device) -> bool {
    // SAFETY: By the contract; the helper has no preconditions.
    unsafe { features(vdev).has::<AccessPlatform>() || bindings::virtio_xen_domain() }
}

fn direction(direction: Direction) -> bindings::dma_data_direction {
    match direction {
        Direction::Readable => bindings::dma_data_direction::DMA_TO_DEVICE,
        Direction::Writable => bindings::dma_data_direction::DMA_FROM_DEVICE,
    }
}

impl Mapper {
    /// # Safety
    ///
    /// As the type invariants.
    pub(crate) unsafe fn new(
        vdev: NonNull<bindings::virtio_device>,
        token: bindings::virtio_map,
    ) -> Self {
        // INVARIANT: By the contract.
        Self {
            vdev,
            token,
            // SAFETY: By the contract.
            uses_api: unsafe { uses_map_api(vdev.as_ptr()) },
        }
    }

    /// Whether addresses come from the DMA API (or the device's own), and must be unmapped.
    #[inline]
    pub fn uses_api(&self) -> bool {
        self.uses_api
    }

    pub(crate) fn ops(&self) -> Option<&bindings::virtio_map_ops> {
        // SAFETY: By the type invariants; null or valid.
        unsafe { (*self.vdev.as_ptr()).map.as_ref() }
    }

    /// The device that does the DMA.  Only without `ops`.
    pub(crate) fn dma_dev(&self) -> *mut bindings::device {
        // SAFETY: Without map operations the token is the device.
        unsafe { self.token.dma_dev }
    }

    pub(crate) fn token(&self) -> bindings::virtio_map {
        self.token
    }

    /// Allocates zeroed memory shared with the device: its address for us and for the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn alloc(&self, size: usize, gfp: bindings::gfp_t) -> Result<(NonNull<u8>, u64)> {
        let gfp = gfp | bindings::__GFP_ZERO;
        let mut handle = 0;
        // SAFETY: By the type invariants; sizes are those of rings.
        let memory = unsafe {
            if !self.uses_api {
                let pages = bindings::virtio_alloc_pages_exact(size, gfp);
                if !pages.is_null() {
                    handle = bindings::virtio_virt_to_phys(pages);
                }
                pages
            } else if let Some(ops) = self.ops() {
                let alloc = ops.alloc.ok_or(EINVAL)?;
                alloc(self.token, size, &mut handle, gfp)
            } else {
                bindings::dma_alloc_attrs(self.dma_dev(), size, &mut handle, gfp, 0)
            }
        };
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(ENOMEM)?;
        Ok((memory, handle))
    }

    /// Frees what [`Mapper::alloc`] gave.
    ///
    /// # Safety
    ///
    /// The device does not own the memory any more, and the arguments are those of the allocation.
    pub(crate) unsafe fn free(&self, size: usize, memory: NonNull<u8>, handle: u64) {
        let memory = memory.as_ptr().cast();
        // SAFETY: By the contract.
        unsafe {
            if !self.uses_api {
                bindings::virtio_free_pages_exact(memory, size);
            } else if let Some(ops) = self.ops() {
                if let Some(free) = ops.free {
                    free(self.token, size, memory, handle, 0);
                }
            } else {
                bindings::dma_free_attrs(self.dma_dev(), size, memory, handle, 0);
            }
        }
    }

    /// Maps part of a page.
    ///
    /// # Safety
    ///
    /// The memory stays valid, and is not touched but through the DMA rules, until it is unmapped.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room in the IOMMU or the bounce buffer.
    unsafe fn map_page(
        &self,
        page: *mut bindings::page,
        offset: usize,
        len: usize,
        dir: Direction,
        attrs: usize,
    ) -> Result<u64> {
        let dir = direction(dir);
        // SAFETY: By the contract and the type invariants.
        unsafe {
            if let Some(ops) = self.ops() {
                let map = ops.map_page.ok_or(EINVAL)?;
                let address = map(self.token, page, offset, len, dir, attrs);
                match ops.mapping_error {
                    Some(failed) if failed(self.token, address) != 0 => Err(ENOMEM),
                    _ => Ok(address),
                }
            } else {
                let dev = self.dma_dev();
                let address = bindings::dma_map_page_attrs(dev, page, offset, len, dir, attrs);
                if bindings::virtio_dma_mapping_error(dev, address) != 0 {
                    Err(ENOMEM)
                } else {
                    Ok(address)
                }
            }
        }
    }

    /// Maps part of a page, or of pages that follow each other in memory, whichever way the queue maps.
    ///
    /// # Safety
    ///
    /// The memory stays valid, and is not touched but through the DMA rules, until it is unmapped.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no room in the IOMMU or the bounce buffer.
    #[inline]
    pub unsafe fn map_pages(
        &self,
        page: NonNull<bindings::page>,
        offset: u32,
        len: u32,
        dir: Direction,
    ) -> Result<u64> {
        // SAFETY: By the contract.
        unsafe {
            if self.uses_api {
                self.map_page(page.as_ptr(), offset as usize, len as usize, dir, 0)
            } else {
                Ok(Self::page_address(page, offset, len, dir))
            }
        }
    }

    /// [`Mapper::map_pages`] of a queue that does not use the DMA API: the physical address.
    ///
    /// # Safety
    ///
    /// `page` is a page.
    #[inline(always)]
    pub unsafe fn page_address(
        page: NonNull<bindings::page>,
        offset: u32,
        len: u32,
        dir: Direction,
    ) -> u64 {
        // KMSAN cannot know what the device reads or writes: the helper tells it.
        // SAFETY: By the contract.
        unsafe {
            bindings::virtio_page_dma(page.as_ptr(), offset as usize, len as usize, direction(dir))
        }
    }

    /// Maps one entry of a scatterlist (C: `vring_map_one_sg`).
    ///
    /// # Safety
    ///
    /// `sg` is a valid entry; else as [`Mapper::map_page`].
    ///
    /// # Errors
    ///
    /// As [`Mapper::map_page`].
    #[inline]
    pub(crate) unsafe fn map_sg(
        &self,
        sg: *mut bindings::scatterlist,
        dir: Direction,
        attrs: usize,
    ) -> Result<u64> {
        // SAFETY: By the contract.
        unsafe {
            let len = (*sg).length as usize;
            if !self.uses_api {
                let address = bindings::virtio_sg_phys(sg);
                // KMSAN cannot know what the device reads or writes.
                bindings::virtio_kmsan_handle_dma(address, len, direction(dir));
                return Ok(address);
            }
            let page = bindings::virtio_sg_page(sg);
            self.map_page(page, (*sg).offset as usize, len, dir, attrs)
        }
    }

    /// Maps linear kernel memory.
    ///
    /// # Safety
    ///
    /// `memory` has `len` bytes of `kmalloc` or page memory; else as [`Mapper::map_page`].
    ///
    /// # Errors
    ///
    /// As [`Mapper::map_page`], and `EINVAL` for `vmalloc` memory.
    #[inline]
    pub unsafe fn map_single(
        &self,
        memory: NonNull<u8>,
        len: usize,
        dir: Direction,
    ) -> Result<u64> {
        let memory = memory.as_ptr().cast();
        // SAFETY: By the contract.
        unsafe {
            if !self.uses_api {
                let address = bindings::virtio_virt_to_phys(memory);
                bindings::virtio_kmsan_handle_dma(address, len, direction(dir));
                return Ok(address);
            }
            if bindings::virtio_is_vmalloc_addr(memory) {
                return Err(EINVAL);
            }
            let page = bindings::virtio_virt_to_page(memory);
            let offset = memory.addr() & (bindings::PAGE_SIZE - 1);
            self.map_page(page, offset, len, dir, 0)
        }
    }

    /// Undoes a mapping; nothing to do for physical addresses.
    ///
    /// # Safety
    ///
    /// The mapping is ours, and the device does not use it any more.
    pub unsafe fn unmap(&self, address: u64, len: usize, dir: Direction) {
        if !self.uses_api {
            return;
        }
        let dir = direction(dir);
        // SAFETY: By the contract and the type invariants.
        unsafe {
            if let Some(ops) = self.ops() {
                if let Some(unmap) = ops.unmap_page {
                    unmap(self.token, address, len, dir, 0);
                }
            } else {
                bindings::dma_unmap_page_attrs(self.dma_dev(), address, len, dir, 0);
            }
        }
    }

    /// The largest mapping in bytes (C: `virtio_max_dma_size`).
    ///
    /// # Safety
    ///
    /// `vdev` is valid.
    pub(crate) unsafe fn max_size(vdev: *const bindings::virtio_device) -> usize {
        // SAFETY: By the contract.
        unsafe {
            if !uses_map_api(vdev) {
                return usize::MAX;
            }
            match (*vdev).map.as_ref() {
                Some(ops) => match ops.max_mapping_size {
                    Some(max) => max((*vdev).vmap),
                    None => usize::MAX,
                },
                None => bindings::dma_max_mapping_size((*vdev).dev.parent),
            }
        }
    }

    /// The mapping token of a device that does its own DMA: its parent.
    ///
    /// # Safety
    ///
    /// `vdev` is valid.
    pub(crate) unsafe fn default_token(
        vdev: *const bindings::virtio_device,
    ) -> bindings::virtio_map {
        bindings::virtio_map {
            // SAFETY: By the contract.
            dma_dev: unsafe { (*vdev).dev.parent },
        }
    }
}

/// The largest mapping of a device in bytes (C: `virtio_max_dma_size`).
///
/// # Safety
///
/// `vdev` is registered.
pub unsafe fn max_mapping_size(vdev: *const bindings::virtio_device) -> usize {
    // SAFETY: By the contract.
    unsafe { Mapper::max_size(vdev) }
}
