// SPDX-License-Identifier: GPL-2.0

//! The C ABI of `virtio_pci.ko`: what the drivers of virtual functions ask of their owner.
//!
//! C header: [`include/linux/virtio_pci_admin.h`](srctree/include/linux/virtio_pci_admin.h)
//!
//! Every function has C's contract: the pointers are valid, `pdev` has a driver that stays bound,
//! callers serialise what they do for one function and may sleep.  That contract is what each
//! `SAFETY` comment here means.

use crate::{
    admin::{
        Admin,
        Member, //
    },
    DRIVER, //
};
use kernel::{
    ffi::c_int,
    prelude::*, //
};
use pci_ext::Device;
use virtio_bindings as bindings;
use virtio_spec::admin::{
    dev_parts_operation,
    DEV_PARTS_OBJECT,
    GET_ALL,
    METADATA_SIZE, //
};
#[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
use {
    crate::admin::LegacySpace,
    virtio_spec::admin::notify_owner, //
};

/// Defines a C function, and checks its signature against the header's.
macro_rules! export {
    ($($(#[$attr:meta])* unsafe fn $name:ident($($arg:ident: $t:ty),* $(,)?) -> $r:ty $body:block)*) => {$(
        $(#[$attr])*
        const _: () = {
            if true { bindings::$name } else { $name };
        };
        /// # Safety
        ///
        /// C's contract, see the module.
        $(#[$attr])*
        #[no_mangle]
        unsafe extern "C" fn $name($($arg: $t),*) -> $r {
            // SAFETY: C's contract.
            unsafe { $body }
        }
    )*};
}

type Function = *mut bindings::pci_dev;

/// The administration of the owner of `pdev`, if the owner is ours.
///
/// # Safety
///
/// C's contract; the result is good for the call.
unsafe fn admin<'a>(pdev: Function) -> Option<&'a Admin> {
    // SAFETY: By the contract.
    let bound = unsafe { DRIVER.data_of_owner(Device::from_raw(pdev)) };
    bound.map(|bound| bound.device.transport().admin())
}

/// Runs `f` for the function as a member of its owner's group.
///
/// # Safety
///
/// C's contract.
unsafe fn with_member(pdev: Function, f: impl FnOnce(Member<'_>) -> Result) -> c_int {
    // SAFETY: By the contract.
    let result = unsafe { admin(pdev) }.ok_or(ENODEV).and_then(|admin| {
        // SAFETY: By the contract.
        let index = unsafe { Device::from_raw(pdev) }.vf_id()?;
        f(admin.member(index))
    });
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Runs `f` for the function, which the owner of `pdev` must be ours for, unless `refuse`.
///
/// # Safety
///
/// C's contract.
unsafe fn with_member_unless(
    refuse: Option<Error>,
    pdev: Function,
    f: impl FnOnce(Member<'_>) -> Result,
) -> c_int {
    // SAFETY: By the contract.
    unsafe { with_member(pdev, |member| refuse.map_or_else(|| f(member), Err)) }
}

/// Writes to the legacy configuration.
///
/// # Safety
///
/// C's contract.
#[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
unsafe fn write(pdev: Function, space: LegacySpace, offset: u8, size: u8, buf: *const u8) -> c_int {
    // SAFETY: By the contract.
    unsafe {
        let bytes = core::slice::from_raw_parts(buf, size.into());
        with_member(pdev, |member| member.legacy_write(space, offset, bytes))
    }
}

/// Reads the legacy configuration.
///
/// # Safety
///
/// C's contract.
#[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
unsafe fn read(pdev: Function, space: LegacySpace, offset: u8, size: u8, buf: *mut u8) -> c_int {
    // SAFETY: By the contract.
    unsafe {
        let bytes = core::slice::from_raw_parts_mut(buf, size.into());
        with_member(pdev, |member| member.legacy_read(space, offset, bytes))
    }
}

export! {
    #[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
    unsafe fn virtio_pci_admin_has_legacy_io(pdev: Function) -> bool {
        admin(pdev).is_some_and(Admin::has_legacy)
    }

    #[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
    unsafe fn virtio_pci_admin_legacy_common_io_write(
        pdev: Function,
        offset: u8,
        size: u8,
        buf: *mut u8,
    ) -> c_int {
        write(pdev, LegacySpace::Common, offset, size, buf)
    }

    #[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
    unsafe fn virtio_pci_admin_legacy_device_io_write(
        pdev: Function,
        offset: u8,
        size: u8,
        buf: *mut u8,
    ) -> c_int {
        write(pdev, LegacySpace::Device, offset, size, buf)
    }

    #[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
    unsafe fn virtio_pci_admin_legacy_common_io_read(
        pdev: Function,
        offset: u8,
        size: u8,
        buf: *mut u8,
    ) -> c_int {
        read(pdev, LegacySpace::Common, offset, size, buf)
    }

    #[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
    unsafe fn virtio_pci_admin_legacy_device_io_read(
        pdev: Function,
        offset: u8,
        size: u8,
        buf: *mut u8,
    ) -> c_int {
        read(pdev, LegacySpace::Device, offset, size, buf)
    }

    #[cfg(CONFIG_VIRTIO_PCI_ADMIN_LEGACY)]
    unsafe fn virtio_pci_admin_legacy_io_notify_info(
        pdev: Function,
        req_bar_flags: u8,
        bar: *mut u8,
        bar_offset: *mut u64,
    ) -> c_int {
        let function = Device::from_raw(pdev);
        let holder = match req_bar_flags {
            notify_owner::OWNER => function.owner(),
            notify_owner::MEMBER => Some(function),
            _ => None,
        };
        with_member(pdev, |member| {
            let (index, offset) = member.notify_info(req_bar_flags, |index| {
                Some(holder?.bar(index.into())?.len)
            })?;
            *bar = index;
            *bar_offset = offset;
            Ok(())
        })
    }

    unsafe fn virtio_pci_admin_has_dev_parts(pdev: Function) -> bool {
        admin(pdev).is_some_and(Admin::has_dev_parts)
    }

    unsafe fn virtio_pci_admin_mode_set(pdev: Function, mode: u8) -> c_int {
        with_member(pdev, |member| member.set_mode(mode))
    }

    unsafe fn virtio_pci_admin_obj_create(
        pdev: Function,
        obj_type: u16,
        operation_type: u8,
        obj_id: *mut u32,
    ) -> c_int {
        let refuse = match (obj_type, operation_type) {
            (DEV_PARTS_OBJECT, dev_parts_operation::GET | dev_parts_operation::SET) => None,
            (DEV_PARTS_OBJECT, _) => Some(EINVAL),
            _ => Some(EOPNOTSUPP),
        };
        with_member_unless(refuse, pdev, |member| {
            *obj_id = member.create_object(operation_type)?;
            Ok(())
        })
    }

    unsafe fn virtio_pci_admin_obj_destroy(pdev: Function, obj_type: u16, id: u32) -> c_int {
        let refuse = (obj_type != DEV_PARTS_OBJECT).then_some(EINVAL);
        with_member_unless(refuse, pdev, |member| member.destroy_object(id))
    }

    unsafe fn virtio_pci_admin_dev_parts_metadata_get(
        pdev: Function,
        obj_type: u16,
        id: u32,
        metadata_type: u8,
        out: *mut u32,
    ) -> c_int {
        let refuse = (metadata_type != METADATA_SIZE).then_some(EOPNOTSUPP);
        with_member_unless(refuse, pdev, |member| {
            *out = member.parts_size(obj_type, id)?;
            Ok(())
        })
    }

    unsafe fn virtio_pci_admin_dev_parts_get(
        pdev: Function,
        obj_type: u16,
        id: u32,
        get_type: u8,
        res_sg: *mut bindings::scatterlist,
        res_size: *mut u32,
    ) -> c_int {
        let refuse = (get_type != GET_ALL).then_some(EOPNOTSUPP);
        with_member_unless(refuse, pdev, |member| {
            *res_size = member.read_parts(obj_type, id, res_sg)?;
            Ok(())
        })
    }

    unsafe fn virtio_pci_admin_dev_parts_set(
        pdev: Function,
        data_sg: *mut bindings::scatterlist,
    ) -> c_int {
        with_member(pdev, |member| member.write_parts(data_sg))
    }
}
