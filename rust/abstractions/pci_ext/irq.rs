// SPDX-License-Identifier: GPL-2.0

//! MSI-X vectors with affinity, INTx, and handlers with names made at run time.

use crate::{
    Device,
    DeviceRef, //
};
use core::ptr;
use kernel::{
    cpumask::{
        Cpumask,
        CpumaskVar, //
    },
    error::to_result,
    irq::{
        Handler,
        IrqReturn, //
    },
    prelude::*,
    str::CString,
    sync::Arc, //
};
use virtio_bindings as bindings;

/// The MSI-X vectors of a device; given back when the last reference is dropped.
///
/// # Invariants
///
/// `count` vectors are allocated for `dev`.
pub struct Vectors {
    dev: DeviceRef,
    count: u16,
}

impl Vectors {
    /// Allocates exactly `count` vectors.  May sleep.
    ///
    /// With `affinity`, those that it does not exclude are spread over the processors, and the
    /// kernel manages where they go.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are not as many; others of the PCI core.
    pub fn allocate(
        dev: &Device,
        count: u16,
        affinity: Option<bindings::irq_affinity>,
    ) -> Result<Arc<Self>> {
        let mut flags = bindings::PCI_IRQ_MSIX;
        let mut affinity = affinity;
        let descriptor = match &mut affinity {
            Some(descriptor) => {
                flags |= bindings::PCI_IRQ_AFFINITY;
                ptr::from_mut(descriptor)
            }
            None => ptr::null_mut(),
        };
        let wanted = c_uint::from(count);
        // SAFETY: The device is valid; the descriptor is null or lives for the call, which does
        // not keep it.
        to_result(unsafe {
            bindings::pci_alloc_irq_vectors_affinity(
                dev.as_raw(),
                wanted,
                wanted,
                flags,
                descriptor,
            )
        })?;
        // INVARIANT: At least and at most `count` vectors were asked for, and granted.
        let vectors = Self {
            dev: dev.into(),
            count,
        };
        Ok(Arc::new(vectors, GFP_KERNEL)?)
    }

    /// The interrupt number of a vector.
    fn irq(&self, vector: u16) -> Result<c_uint> {
        if vector >= self.count {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariants.
        let irq = unsafe { bindings::pci_irq_vector(self.dev.as_raw(), vector.into()) };
        to_result(irq)?;
        Ok(c_uint::try_from(irq)?)
    }

    /// The processors that a vector goes to; null where unknown.  Good while the vectors are
    /// allocated.
    pub fn affinity(&self, vector: u16) -> *const bindings::cpumask {
        if vector >= self.count {
            return ptr::null();
        }
        // SAFETY: By the type invariants.
        unsafe { bindings::pci_irq_get_affinity(self.dev.as_raw(), vector.into()) }
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and since each handler keeps a reference, none is left.
        unsafe { bindings::pci_free_irq_vectors(self.dev.as_raw()) };
    }
}

/// A handler that is registered for an interrupt, until dropped.
///
/// # Invariants
///
/// `handler` is registered for `irq`; its address is the cookie.
pub struct Registration<H: Handler + Send + 'static> {
    irq: c_uint,
    handler: Pin<KBox<H>>,
    hint: Option<KBox<CpumaskVar>>,
    // What follows outlives the registration, which ends in `drop`.
    _name: CString,
    _dev: DeviceRef,
    _vectors: Option<Arc<Vectors>>,
}

impl<H: Handler + Send + 'static> Registration<H> {
    /// Registers `handler` for an MSI-X vector; it may run before this returns.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such vector; others of the interrupt core.
    pub fn for_vector(
        vectors: &Arc<Vectors>,
        vector: u16,
        name: CString,
        handler: H,
    ) -> Result<Self> {
        let irq = vectors.irq(vector)?;
        Self::new(&vectors.dev, irq, 0, name, handler, Some(vectors.clone()))
    }

    /// Registers `handler` for the device's interrupt line, which it may share with others.  It
    /// may run before this returns.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the device has none; others of the interrupt core.
    pub fn for_line(dev: &Device, name: CString, handler: H) -> Result<Self> {
        // SAFETY: The device is valid; constant while the device is enabled and has no vectors.
        let irq = unsafe { (*dev.as_raw()).irq };
        if irq == 0 {
            return Err(ENXIO);
        }
        // CAST: No narrower than 32 bits.
        let flags = bindings::IRQF_SHARED as c_ulong;
        Self::new(dev, irq, flags, name, handler, None)
    }

    fn new(
        dev: &Device,
        irq: c_uint,
        flags: c_ulong,
        name: CString,
        handler: H,
        vectors: Option<Arc<Vectors>>,
    ) -> Result<Self> {
        let handler = KBox::pin(handler, GFP_KERNEL)?;
        let cookie = ptr::from_ref::<H>(&handler).cast_mut().cast();
        // SAFETY: `handle` takes a pointer to an `H`; that, and the name, stay where they are
        // until `free_irq`.
        to_result(unsafe {
            bindings::request_irq(irq, Some(handle::<H>), flags, name.as_char_ptr(), cookie)
        })?;
        // INVARIANT: Registered just now.
        Ok(Self {
            irq,
            handler,
            hint: None,
            _name: name,
            _dev: dev.into(),
            _vectors: vectors,
        })
    }

    /// Waits until the handler does not run.  May sleep.
    pub fn synchronize(&self) {
        // SAFETY: By the type invariants, the interrupt is valid.
        unsafe { bindings::synchronize_irq(self.irq) };
    }

    /// Steers the interrupt to `mask`, and tells user space that it should stay there; `None`
    /// takes the hint back (C: `irq_set_affinity_and_hint`).  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.  That the interrupt cannot be steered is none: it is a hint.
    pub fn set_affinity_hint(&mut self, mask: Option<&Cpumask>) -> Result {
        let hint = match mask {
            Some(mask) => Some(KBox::new(CpumaskVar::try_clone(mask)?, GFP_KERNEL)?),
            None => None,
        };
        let raw = hint
            .as_ref()
            .map_or(ptr::null(), |hint| hint.as_raw().cast_const());
        // SAFETY: By the type invariants, the interrupt is valid.  The mask is kept in `self`
        // until another takes its place, or `drop` takes it back.
        unsafe { bindings::__irq_apply_affinity_hint(self.irq, raw, !raw.is_null()) };
        self.hint = hint;
        Ok(())
    }
}

impl<H: Handler + Send + 'static> Drop for Registration<H> {
    fn drop(&mut self) {
        let cookie = ptr::from_ref::<H>(&self.handler).cast_mut().cast();
        // SAFETY: By the type invariants, registered with this cookie; `free_irq` waits for a
        // handler that runs.  It wants the hint to be taken back before.
        unsafe {
            if self.hint.is_some() {
                bindings::__irq_apply_affinity_hint(self.irq, ptr::null(), false);
            }
            bindings::free_irq(self.irq, cookie);
        }
    }
}

/// # Safety
///
/// The interrupt core calls this with a cookie that [`Registration::new`] has given it.
unsafe extern "C" fn handle<H: Handler>(_irq: c_int, cookie: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: By the contract, a pointer to an `H`, which stays until `free_irq` has waited for us.
    match unsafe { &*cookie.cast::<H>() }.handle() {
        IrqReturn::None => bindings::irqreturn::IRQ_NONE,
        IrqReturn::Handled => bindings::irqreturn::IRQ_HANDLED,
    }
}
