// SPDX-License-Identifier: GPL-2.0

//! Processors that come and go.
//!
//! C header: [`include/linux/cpuhotplug.h`](srctree/include/linux/cpuhotplug.h).
//!
//! The kernel tells of them with a lock held that is taken under the RTNL lock elsewhere: so it is a work item
//! in which a driver hears of them.

use crate::{
    device::{
        rtnl_lock,
        DeviceRef, //
    },
    operations::Operations, //
};
use core::marker::PhantomData;
use kernel::{
    container_of,
    error::to_result,
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;

/// What is called of a device.
type Callback = extern "C" fn(c_uint, *mut bindings::hlist_node) -> c_int;

/// The state of processors that come, which the kernel has numbered; 0 if there is none.
static ONLINE: Atomic<i32> = Atomic::new(0);

const DEAD: bindings::cpuhp_state = bindings::cpuhp_state_CPUHP_VIRT_NET_DEAD;

/// The states of processors of which the devices of a module hear: one for a module.
pub struct CpuStates(bindings::cpuhp_state);

impl CpuStates {
    /// Sets them up, with names for sysfs.  May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another module has them; `ENOSPC`.
    pub fn new(online: &'static CStr, dead: &'static CStr) -> Result<Self> {
        let number = Self::set_up(
            bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
            online,
            Some(came),
            None,
        )?;
        Self::set_up(DEAD, dead, None, Some(went)).inspect_err(|_| {
            // SAFETY: Set up above, with no instances.
            unsafe { bindings::__cpuhp_remove_state(number, false) };
        })?;
        ONLINE.store(number, Relaxed);
        Ok(Self(number))
    }

    fn set_up(
        state: bindings::cpuhp_state,
        name: &'static CStr,
        startup: Option<Callback>,
        teardown: Option<Callback>,
    ) -> Result<bindings::cpuhp_state> {
        // SAFETY: C has one type for callbacks of states with instances and without, and calls those with
        // instances as what they are; the name lives for ever.
        let number = unsafe {
            let plain = |callback: Callback| {
                core::mem::transmute::<Callback, unsafe extern "C" fn(c_uint) -> c_int>(callback)
            };
            bindings::__cpuhp_setup_state(
                state,
                name.as_char_ptr(),
                false,
                startup.map(plain),
                teardown.map(plain),
                true,
            )
        };
        to_result(number.min(0))?;
        Ok(number)
    }
}

impl Drop for CpuStates {
    fn drop(&mut self) {
        ONLINE.store(0, Relaxed);
        // SAFETY: Set up by `new`; the devices of the module are gone, and their instances with them.
        unsafe {
            bindings::__cpuhp_remove_state(DEAD, false);
            bindings::__cpuhp_remove_state(self.0, false);
        }
    }
}

/// What C knows of a device.
#[pin_data]
struct Nodes {
    #[pin]
    online: Opaque<bindings::hlist_node>,
    #[pin]
    dead: Opaque<bindings::hlist_node>,
    #[pin]
    work: Opaque<bindings::work_struct>,
}

impl Nodes {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            online: Opaque::zeroed(),
            dead: Opaque::zeroed(),
            work: Opaque::zeroed(),
        })
    }
}

/// Has a device hear of it later.
///
/// # Safety
///
/// Of a device that is watched.
unsafe fn schedule(nodes: *mut Nodes) -> c_int {
    // SAFETY: By the contract, initialised, and cancelled before it goes.
    unsafe { bindings::virtio_schedule_work((*nodes).work.get()) };
    0
}

extern "C" fn came(_cpu: c_uint, node: *mut bindings::hlist_node) -> c_int {
    let node = node.cast::<Opaque<bindings::hlist_node>>();
    // SAFETY: Called for an instance of that state.
    unsafe { schedule(container_of!(node, Nodes, online)) }
}

extern "C" fn went(_cpu: c_uint, node: *mut bindings::hlist_node) -> c_int {
    let node = node.cast::<Opaque<bindings::hlist_node>>();
    // SAFETY: Called for an instance of that state.
    unsafe { schedule(container_of!(node, Nodes, dead)) }
}

/// Tells a device of processors, as long as there is one.
///
/// # Invariants
///
/// - the first node is an instance of the state `online` if there is one, and the second one of [`DEAD`] if it
///   `hears_of_dead`;
/// - the work is [`CpuWatch::work`], and `dev` is registered.
#[pin_data(PinnedDrop)]
pub(crate) struct CpuWatch<O: Operations> {
    #[pin]
    nodes: Nodes,
    online: Option<bindings::cpuhp_state>,
    hears_of_dead: bool,
    dev: *mut bindings::net_device,
    _operations: PhantomData<O>,
}

// SAFETY: The kernel has locks of its own.
unsafe impl<O: Operations> Send for CpuWatch<O> {}
// SAFETY: As above.
unsafe impl<O: Operations> Sync for CpuWatch<O> {}

impl<O: Operations> CpuWatch<O> {
    /// Begins; `None` if the module has no states.  May sleep.
    ///
    /// # Safety
    ///
    /// `dev` is registered, and stays so until this is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of the kernel.
    pub(crate) unsafe fn new(dev: *mut bindings::net_device) -> Result<Option<Pin<KBox<Self>>>> {
        let online = ONLINE.load(Relaxed);
        if online == 0 {
            return Ok(None);
        }
        let mut this = KBox::pin_init(
            pin_init!(Self {
                nodes <- Nodes::new(),
                online: None,
                hears_of_dead: false,
                dev,
                _operations: PhantomData,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: Zeroed, pinned, and taken back before it is freed; nothing is moved.
        unsafe {
            bindings::virtio_init_work(this.nodes.work.get(), Some(Self::work));
            let this = this.as_mut().get_unchecked_mut();
            let node = this.nodes.online.get();
            to_result(bindings::__cpuhp_state_add_instance(online, node, false))?;
            // INVARIANT: Just now.
            this.online = Some(online);
            let node = this.nodes.dead.get();
            to_result(bindings::__cpuhp_state_add_instance(DEAD, node, false))?;
            // INVARIANT: Just now.
            this.hears_of_dead = true;
        }
        Ok(Some(this))
    }

    extern "C" fn work(work: *mut bindings::work_struct) {
        let work = work.cast::<Opaque<bindings::work_struct>>();
        // SAFETY: By the type invariants; cancelled before it goes.
        unsafe {
            let nodes = container_of!(work, Nodes, work);
            let this = container_of!(nodes, Self, nodes);
            let _rtnl = rtnl_lock();
            let (dev, data) = DeviceRef::<O>::with_data((*this).dev);
            O::cpus_changed(dev, data);
        }
    }
}

#[pinned_drop]
impl<O: Operations> PinnedDrop for CpuWatch<O> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants; nobody schedules the work when it is cancelled.
        unsafe {
            if let Some(online) = self.online {
                bindings::__cpuhp_state_remove_instance(online, self.nodes.online.get(), false);
            }
            if self.hears_of_dead {
                bindings::__cpuhp_state_remove_instance(DEAD, self.nodes.dead.get(), false);
            }
            bindings::cancel_work_sync(self.nodes.work.get());
        }
    }
}
