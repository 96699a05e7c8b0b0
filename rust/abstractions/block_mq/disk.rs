// SPDX-License-Identifier: GPL-2.0

//! Disks: `struct gendisk` with its request queue.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h).  Upstream:
//! `rust/kernel/block/mq/gen_disk.rs`.

use crate::{
    attributes::Attributes,
    limits::Limits,
    name,
    operations::Operations,
    request::Pdu,
    tag_set::TagSet,
    Geometry, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    device,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    ffi::c_int,
    prelude::*,
    static_lock_class,
    sync::Arc,
    ThisModule, //
};
use virtio_bindings as bindings;

/// Minors of a disk: itself and 15 partitions; more are numbered elsewhere (C: `PART_BITS`).
const MINOR_BITS: u32 = 4;

/// Disks that there can be: as many as minors allow.
pub const MAX_DISKS: u32 = 1 << (bindings::MINORBITS - MINOR_BITS);

/// What a disk is called.
pub struct Identity {
    /// What its name begins with.
    pub prefix: &'static [u8],
    /// Which of them it is, below [`MAX_DISKS`].
    pub index: u32,
    /// Its major number.
    pub major: u32,
}

/// A disk, for as long as it is borrowed.
///
/// # Invariants
///
/// `disk` is valid, of a tag set of `T`, and its `private_data` is an `Arc<T::QueueData>`.
pub struct DiskRef<T: Operations> {
    disk: NonNull<bindings::gendisk>,
    _operations: PhantomData<T>,
}

/// A disk; taken off the system when dropped, which waits for its requests and may sleep.
///
/// # Invariants
///
/// As [`DiskRef`], with a reference.
pub struct Disk<T: Operations> {
    disk: DiskRef<T>,
    /// `device_add_disk` was called.
    added: bool,
    // After the disk, whose queue uses them.
    attributes: KBox<Attributes<T>>,
    _tags: Pin<KBox<TagSet<T>>>,
}

// SAFETY: The block layer has locks of its own.
unsafe impl<T: Operations> Send for Disk<T> {}
// SAFETY: As above.
unsafe impl<T: Operations> Sync for Disk<T> {}

impl<T: Operations> Disk<T> {
    /// Makes a disk that nobody sees yet.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` for limits that the block layer does not take or a name that is too long.
    pub fn new(
        tags: Pin<KBox<TagSet<T>>>,
        limits: &Limits,
        identity: &Identity,
        module: &'static ThisModule,
    ) -> Result<Self> {
        let attributes = Attributes::new()?;
        let mut raw = bindings::queue_limits::default();
        limits.apply(&mut raw);
        limits.apply_zones(&mut raw);
        let data = Arc::as_ptr(tags.data()).cast_mut();
        // SAFETY: The tags are allocated, and outlive the disk's queue.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tags.as_raw(),
                &mut raw,
                data.cast(),
                static_lock_class!().as_ptr(),
            )
        })?;
        let disk = NonNull::new(disk).ok_or(ENOMEM)?;
        // SAFETY: Ours alone so far.
        unsafe {
            let raw = disk.as_ptr();
            (*raw).private_data = Arc::into_raw(tags.data().clone()).cast_mut().cast();
            (*raw).major = identity.major as c_int;
            (*raw).first_minor = (identity.index << MINOR_BITS) as c_int;
            (*raw).minors = 1 << MINOR_BITS;
        }
        // INVARIANT: Made just now.
        let this = Self {
            disk: DiskRef {
                disk,
                _operations: PhantomData,
            },
            added: false,
            attributes,
            _tags: tags,
        };
        // SAFETY: Ours alone so far; the table is freed with the last reference, by `free_disk`.
        unsafe {
            (*disk.as_ptr()).fops = KBox::into_raw(Operators::<T>::table(module)?);
            let room = &mut (*disk.as_ptr()).disk_name;
            let mut text = [0; 32];
            let most = room.len().min(text.len()) - 1;
            let text_room = text.get_mut(..most).ok_or(EINVAL)?;
            name::write(identity.prefix, identity.index, text_room).ok_or(EINVAL)?;
            for (to, from) in room.iter_mut().zip(text) {
                *to = from as kernel::ffi::c_char;
            }
        }
        Ok(this)
    }

    /// Shows the disk to everybody.  Requests come before this returns.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the driver core.
    pub fn add(&mut self, parent: &device::Device) -> Result {
        // `Device` is transparent.
        let parent = core::ptr::from_ref(parent).cast_mut().cast();
        // SAFETY: By the type invariants; the attributes outlive the disk's device.
        to_result(unsafe {
            bindings::device_add_disk(parent, self.as_raw(), self.attributes.groups())
        })?;
        self.added = true;
        Ok(())
    }
}

impl<T: Operations> Deref for Disk<T> {
    type Target = DiskRef<T>;

    fn deref(&self) -> &DiskRef<T> {
        &self.disk
    }
}

impl<T: Operations> DiskRef<T> {
    /// # Safety
    ///
    /// As the type invariants.
    pub(crate) unsafe fn from_raw(disk: NonNull<bindings::gendisk>) -> Self {
        // INVARIANT: By the contract.
        Self {
            disk,
            _operations: PhantomData,
        }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::gendisk {
        self.disk.as_ptr()
    }

    fn queue(&self) -> *mut bindings::request_queue {
        // SAFETY: By the type invariants; constant.
        unsafe { (*self.as_raw()).queue }
    }

    /// The driver's data.
    pub fn data(&self) -> &T::QueueData {
        // SAFETY: By the type invariants.
        unsafe { &*(*self.as_raw()).private_data.cast::<T::QueueData>() }
    }

    /// Its name, as bytes.
    pub fn name(&self) -> &CStr {
        // SAFETY: By the type invariants; constant, and it ends with a zero.
        unsafe { CStr::from_char_ptr((*self.as_raw()).disk_name.as_ptr()) }
    }

    /// Its size in sectors of 512 bytes.
    pub fn capacity(&self) -> u64 {
        // SAFETY: By the type invariants; one word.
        unsafe { (*(*self.as_raw()).part0).bd_nr_sectors }
    }

    /// Changes its size, and tells user space of it if it could be in use.  May sleep.
    pub fn set_capacity(&self, sectors: u64) {
        // SAFETY: By the type invariants.
        unsafe { bindings::set_capacity_and_notify(self.as_raw(), sectors) };
    }

    /// Lets nobody write.  May sleep.
    pub fn set_read_only(&self, read_only: bool) {
        // SAFETY: By the type invariants.
        unsafe { bindings::set_disk_ro(self.as_raw(), read_only) };
    }

    /// Changes limits while requests wait.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for limits that the block layer does not take.
    pub fn change_limits(&self, change: impl FnOnce(&mut LimitsUpdate<'_>)) -> Result {
        // SAFETY: By the type invariants; committed below, which unlocks what this locks.
        unsafe {
            let mut raw = bindings::virtio_queue_limits_start_update(self.queue());
            change(&mut LimitsUpdate(&mut raw));
            to_result(bindings::queue_limits_commit_update_frozen(
                self.queue(),
                &mut raw,
            ))
        }
    }

    /// Hands no more requests to the driver, and waits until none is being handed.  May sleep.
    pub fn quiesce(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::blk_mq_quiesce_queue(self.queue()) };
    }

    /// Undoes [`DiskRef::quiesce`].
    pub fn unquiesce(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::blk_mq_unquiesce_queue(self.queue()) };
    }

    /// Has stopped queues go on, and requests that were requeued started anew.
    pub fn kick_requeued(&self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::blk_mq_start_stopped_hw_queues(self.queue(), true);
            bindings::blk_mq_kick_requeue_list(self.queue());
        }
    }

    /// Ends whatever comes from now on: the device is gone.  May sleep.
    pub fn mark_dead(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::blk_mark_disk_dead(self.as_raw()) };
    }

    /// Asks something of the driver itself: `prepare` says what, in the data of an [`Op::Driver`]
    /// request, and `result` reads it there when that has ended.  It times out as all requests do.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the disk is dying; that of the request.
    ///
    /// [`Op::Driver`]: crate::Op::Driver
    pub fn execute<R>(
        &self,
        prepare: impl FnOnce(&mut T::RequestData),
        result: impl FnOnce(&T::RequestData) -> R,
    ) -> Result<R> {
        self.execute_with(&mut [], prepare, result)
    }

    /// As [`DiskRef::execute`], and the device writes to `memory`, of at least a byte and at most
    /// [`DiskRef::max_transfer`].  May sleep.
    ///
    /// # Errors
    ///
    /// As there; `ENOMEM`, `EINVAL` if there is too much memory.
    pub fn execute_into(
        &self,
        memory: &mut [u8],
        prepare: impl FnOnce(&mut T::RequestData),
    ) -> Result {
        self.execute_with(memory, prepare, |_| ())
    }

    fn execute_with<R>(
        &self,
        memory: &mut [u8],
        prepare: impl FnOnce(&mut T::RequestData),
        result: impl FnOnce(&T::RequestData) -> R,
    ) -> Result<R> {
        let len = u32::try_from(memory.len())?;
        // SAFETY: By the type invariants; the request is ours but while it is executed, and so is
        // the memory.
        unsafe {
            let rq = from_err_ptr(bindings::blk_mq_alloc_request(
                self.queue(),
                bindings::req_op_REQ_OP_DRV_IN,
                0,
            ))?;
            if len != 0 {
                let memory = memory.as_mut_ptr().cast();
                let mapped = bindings::blk_rq_map_kern(rq, memory, len, bindings::GFP_KERNEL);
                if let Err(error) = to_result(mapped) {
                    bindings::blk_mq_free_request(rq);
                    return Err(error);
                }
            }
            prepare(Pdu::<T>::data(rq));
            let status = bindings::blk_execute_rq(rq, false);
            let value = result(Pdu::<T>::data(rq));
            bindings::blk_mq_free_request(rq);
            to_result(bindings::blk_status_to_errno(status))?;
            Ok(value)
        }
    }

    /// Bytes that one request can move at most, to or from pages that do not follow each other.
    pub fn max_transfer(&self) -> usize {
        // SAFETY: By the type invariants; two words.
        let (sectors, segments) = unsafe {
            let limits = &(*self.queue()).limits;
            (limits.max_hw_sectors, limits.max_segments)
        };
        let bytes = (sectors as usize).saturating_mul(512);
        bytes.min(usize::from(segments) * bindings::PAGE_SIZE)
    }
}

/// Limits that are being changed.
pub struct LimitsUpdate<'a>(&'a mut bindings::queue_limits);

impl LimitsUpdate<'_> {
    /// Replaces all of them.
    pub fn set(&mut self, limits: &Limits) {
        limits.apply(self.0);
    }

    /// Says whether there is a volatile cache.
    pub fn set_write_cache(&mut self, on: bool) {
        if on {
            self.0.features |= bindings::VIRTIO_BLK_FEAT_WRITE_CACHE;
        } else {
            self.0.features &= !bindings::VIRTIO_BLK_FEAT_WRITE_CACHE;
        }
    }
}

impl<T: Operations> Drop for Disk<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the tags are freed afterwards.
        unsafe {
            if self.added {
                bindings::del_gendisk(self.as_raw());
                bindings::put_disk(self.as_raw());
            } else {
                // Then there is no `free_disk`.
                let owned = Owned::<T>::of(self.as_raw());
                bindings::put_disk(self.as_raw());
                owned.free();
            }
        }
    }
}

/// The callbacks of a disk; one table a disk, since the module is not known when it is compiled.
struct Operators<T: Operations>(PhantomData<T>);

impl<T: Operations> Operators<T> {
    fn table(module: &'static ThisModule) -> Result<KBox<bindings::block_device_operations>> {
        let table = bindings::block_device_operations {
            owner: module.as_ptr(),
            getgeo: Some(Self::getgeo),
            free_disk: Some(Self::free_disk),
            #[cfg(CONFIG_BLK_DEV_ZONED)]
            report_zones: Some(crate::zones::report::<T>),
            // SAFETY: All that is left is optional functions and a pointer that may be null.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };
        Ok(KBox::new(table, GFP_KERNEL)?)
    }

    extern "C" fn getgeo(
        disk: *mut bindings::gendisk,
        geometry: *mut kernel::bindings::hd_geometry,
    ) -> c_int {
        from_result(|| {
            let disk = NonNull::new(disk).ok_or(ENXIO)?;
            // SAFETY: The block layer passes a disk of ours.
            let disk = unsafe { DiskRef::<T>::from_raw(disk) };
            let Geometry {
                cylinders,
                heads,
                sectors,
            } = T::geometry(disk.data()).ok_or(ENXIO)?;
            // Only declared there, and complete here.
            let geometry = geometry.cast::<bindings::hd_geometry>();
            // SAFETY: And room for the geometry.
            unsafe {
                (*geometry).cylinders = cylinders;
                (*geometry).heads = heads;
                (*geometry).sectors = sectors;
            }
            Ok(0)
        })
    }

    extern "C" fn free_disk(disk: *mut bindings::gendisk) {
        // SAFETY: The last reference is gone; both were set by `Disk::new`.
        unsafe { Owned::<T>::of(disk).free() };
    }
}

/// What a disk owns of ours.
struct Owned<T: Operations> {
    data: *const T::QueueData,
    fops: *mut bindings::block_device_operations,
}

impl<T: Operations> Owned<T> {
    /// # Safety
    ///
    /// `disk` is valid, and was made by [`Disk::new`].
    unsafe fn of(disk: *mut bindings::gendisk) -> Self {
        // SAFETY: By the contract.
        unsafe {
            Self {
                data: (*disk).private_data.cast(),
                fops: (*disk).fops.cast_mut(),
            }
        }
    }

    /// # Safety
    ///
    /// The disk does not use it any more, and this is called once.
    unsafe fn free(self) {
        // SAFETY: By the contract; either is null or was made by `Disk::new`.
        unsafe {
            if !self.data.is_null() {
                drop(Arc::from_raw(self.data));
            }
            if !self.fops.is_null() {
                drop(KBox::from_raw(self.fops));
            }
        }
    }
}
