// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/virtio/virtioN/`: the queues of a device, what its driver counts, and with
//! `CONFIG_VIRTIO_DEBUG` the [feature filter](crate::feature_filter).
//!
//! C source: `drivers/virtio/virtio_debug.c`, which has only the filter.  Its functions are in the kernel
//! image even if virtio is a module, so their symbols are not this module's to export.

#[cfg(CONFIG_VIRTIO_DEBUG)]
use crate::feature_filter;
use crate::{
    device::Device,
    recovery, //
};
use core::{
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    seq_file::SeqFile,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    ModuleMetadata, //
};
use virtio_bindings as bindings;

/// The directory `virtio`; an error that debugfs understands where it could not be made.
static ROOT: Atomic<*mut bindings::dentry> = Atomic::new(ptr::null_mut());

/// Makes the directory of the bus (C: `virtio_debug_init`).  May sleep.
pub(crate) fn init() {
    // SAFETY: A directory below the root of debugfs.
    let root = unsafe { bindings::debugfs_create_dir(c"virtio".as_char_ptr(), ptr::null_mut()) };
    ROOT.store(root, Relaxed);
}

/// Removes the directory of the bus (C: `virtio_debug_exit`).  May sleep.
pub(crate) fn exit() {
    // SAFETY: Made by `init`; errors are left alone.
    unsafe { bindings::debugfs_remove(ROOT.load(Relaxed)) };
    ROOT.store(ptr::null_mut(), Relaxed);
}

/// A file of every device.
pub(crate) struct File {
    name: &'static CStr,
    mode: u16,
    operations: bindings::file_operations,
}

// SAFETY: Never written after its definition.
unsafe impl Sync for File {}

impl File {
    const fn new(name: &'static CStr, mode: u16) -> Self {
        // SAFETY: All zeroes are a valid `struct file_operations`: no callbacks.
        let mut operations: bindings::file_operations =
            unsafe { MaybeUninit::zeroed().assume_init() };
        operations.owner = <crate::LocalModule as ModuleMetadata>::THIS_MODULE.as_ptr();
        Self {
            name,
            mode,
            operations,
        }
    }
}

/// What a file shows.
pub(crate) trait Show {
    /// Prints it.  May sleep.
    ///
    /// # Errors
    ///
    /// What the reader gets.
    fn show(dev: &Device, file: &SeqFile) -> Result;
}

/// What a file does with a number.
pub(crate) trait Take {
    /// Takes it.  May sleep.
    ///
    /// # Errors
    ///
    /// What the writer gets.
    fn take(dev: &Device, value: u64) -> Result;
}

/// A file that its owner may read.
pub(crate) const fn readable<T: Show>(name: &'static CStr) -> File {
    let mut file = File::new(name, 0o400);
    file.operations.open = Some(open_to_read::<T>);
    file.operations.read = Some(bindings::seq_read);
    file.operations.llseek = Some(bindings::seq_lseek);
    file.operations.release = Some(bindings::single_release);
    file
}

/// A file to which its owner may write a number: decimal, or as the C language has it.
pub(crate) const fn writable<T: Take>(name: &'static CStr) -> File {
    let mut file = File::new(name, 0o200);
    file.operations.open = Some(open_to_write::<T>);
    file.operations.read = Some(bindings::simple_attr_read);
    file.operations.write = Some(bindings::simple_attr_write);
    file.operations.release = Some(bindings::simple_attr_release);
    file
}

extern "C" fn open_to_read<T: Show>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The VFS opens a file of ours, whose private data is the device.
    unsafe { bindings::single_open(file, Some(show::<T>), (*inode).i_private) }
}

extern "C" fn show<T: Show>(file: *mut bindings::seq_file, _: *mut c_void) -> c_int {
    from_result(|| {
        // SAFETY: See `open_to_read`.  debugfs keeps `device_exit` waiting meanwhile, and lets nobody
        // in afterwards.
        let (dev, file) = unsafe {
            (
                Device::from_raw((*file).private.cast()),
                SeqFile::from_raw(file),
            )
        };
        T::show(dev, file)?;
        Ok(0)
    })
}

extern "C" fn open_to_write<T: Take>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The VFS opens a file of ours, whose private data is the device.
    unsafe {
        bindings::simple_attr_open(inode, file, None, Some(take::<T>), c"%llu\n".as_char_ptr())
    }
}

extern "C" fn take<T: Take>(device: *mut c_void, value: u64) -> c_int {
    from_result(|| {
        // SAFETY: See `open_to_write` and `show`.
        T::take(unsafe { Device::from_raw(device.cast()) }, value)?;
        Ok(0)
    })
}

/// The queues, a line each.
struct Queues;

impl Show for Queues {
    fn show(dev: &Device, file: &SeqFile) -> Result {
        file.call_printf(core::format_args!("{}\n", virtio_ring::STATE_HEADER));
        // The list's own lock: a probe that hangs with the device lock held is when this is read.
        // SAFETY: Registered.
        unsafe {
            virtio_ring::for_each(dev.as_raw(), |queue| {
                file.call_printf(core::format_args!("{}\n", queue.state()));
            });
        }
        Ok(())
    }
}

static QUEUES: File = readable::<Queues>(c"queues");

/// What the driver counts by itself.
struct Statistics;

impl Show for Statistics {
    fn show(dev: &Device, file: &SeqFile) -> Result {
        if let Some(handle) = recovery::handle(dev) {
            handle.print_statistics(file);
        }
        Ok(())
    }
}

static STATISTICS: File = readable::<Statistics>(c"statistics");

/// Makes the directory of a device (C: `virtio_debug_device_init`).  May sleep.
///
/// Failure is not reported, as everywhere in debugfs: the device works without.
pub(crate) fn device_init(dev: &Device) {
    // SAFETY: The device is named; the parent is a directory or an error.
    let dir = unsafe {
        bindings::debugfs_create_dir(dev.as_device().name().as_char_ptr(), ROOT.load(Relaxed))
    };
    #[cfg(CONFIG_VIRTIO_DEBUG)]
    // SAFETY: C keeps it there; nobody else uses it.
    unsafe {
        (*dev.as_raw()).debugfs_dir = dir;
    }
    let create = |file: &'static File| {
        // SAFETY: The directory is one or an error, the operations take a device, which goes after
        // `device_exit` only.
        unsafe {
            bindings::debugfs_create_file_full(
                file.name.as_char_ptr(),
                file.mode,
                dir,
                dev.as_raw().cast(),
                ptr::null(),
                &raw const file.operations,
            );
        }
    };
    create(&QUEUES);
    create(&STATISTICS);
    #[cfg(CONFIG_VIRTIO_DEBUG)]
    feature_filter::FILES.iter().for_each(create);
}

/// Removes the directory of a device (C: `virtio_debug_device_exit`); waits for those who use its
/// files.  May sleep; the device lock is not held.
pub(crate) fn device_exit(dev: &Device) {
    let root = ROOT.load(Relaxed);
    // Without a parent, that would be a name in the root of debugfs.
    if !root.is_null() {
        // SAFETY: The parent is a directory or an error.
        unsafe {
            bindings::debugfs_lookup_and_remove(dev.as_device().name().as_char_ptr(), root);
        }
    }
}
