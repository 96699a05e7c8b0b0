// SPDX-License-Identifier: GPL-2.0

//! The C ABI of `virtio_ring.ko`: what C drivers and C transports call.
//!
//! C headers: [`include/linux/virtio.h`](srctree/include/linux/virtio.h),
//! [`include/linux/virtio_ring.h`](srctree/include/linux/virtio_ring.h).
//!
//! Every function has C's contract: the pointers are valid, a queue is used by one caller at a
//! time except where C says otherwise.  That contract is what each `SAFETY` comment here means.

use crate::{
    add::Lists,
    mapper::{
        self,
        Mapper,
        CACHE_CLEAN, //
    },
    vring::{
        self,
        Params,
        Token,
        Vring, //
    },
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*, //
};
use virtio_bindings as bindings;
use virtqueue::{
    CbState,
    CbToken, //
};

/// Defines a C function, and checks its signature against the header's.
macro_rules! export {
    ($(unsafe fn $name:ident($($arg:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block)*) => {$(
        const _: () = {
            if true { bindings::$name } else { $name };
        };
        /// # Safety
        ///
        /// C's contract, see the module.
        #[no_mangle]
        unsafe extern "C" fn $name($($arg: $t),*) $(-> $r)? {
            // SAFETY: C's contract.
            unsafe { $body }
        }
    )*};
}

type Queue = *mut bindings::virtqueue;
type Notify = Option<unsafe extern "C" fn(Queue) -> bool>;

type Recycle = Option<unsafe extern "C" fn(Queue, *mut c_void)>;
type RecycleDone = Option<unsafe extern "C" fn(Queue)>;

/// # Safety
///
/// C's contract of `virtqueue_add_*`.
unsafe fn add(
    vq: Queue,
    lists: &Lists<'_>,
    data: *mut c_void,
    context: *mut c_void,
    gfp: bindings::gfp_t,
) -> c_int {
    let Some(data) = NonNull::new(data) else {
        return EINVAL.to_errno();
    };
    let token = Token {
        data,
        context,
        premapped: lists.premapped,
        table: None,
    };
    // SAFETY: By the contract.
    match unsafe { Vring::from_raw(vq).add_lists(lists, token, gfp) } {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// One list of `num` entries.
fn one(list: &*mut bindings::scatterlist, num: c_uint, out: bool) -> Lists<'_> {
    Lists {
        lists: core::slice::from_ref(list),
        outs: usize::from(out),
        total: num,
        premapped: false,
        attrs: 0,
    }
}

export! {
    unsafe fn virtqueue_add_sgs(
        vq: Queue,
        sgs: *mut *mut bindings::scatterlist,
        out_sgs: c_uint,
        in_sgs: c_uint,
        data: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        let lists = core::slice::from_raw_parts(sgs, (out_sgs + in_sgs) as usize);
        let mut total = 0;
        for list in lists {
            let mut sg = *list;
            while !sg.is_null() {
                total += 1;
                sg = bindings::sg_next(sg);
            }
        }
        let lists = Lists {
            lists,
            outs: out_sgs as usize,
            total,
            premapped: false,
            attrs: 0,
        };
        add(vq, &lists, data, ptr::null_mut(), gfp)
    }

    unsafe fn virtqueue_add_outbuf(
        vq: Queue,
        sg: *mut bindings::scatterlist,
        num: c_uint,
        data: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        add(vq, &one(&sg, num, true), data, ptr::null_mut(), gfp)
    }

    unsafe fn virtqueue_add_outbuf_premapped(
        vq: Queue,
        sg: *mut bindings::scatterlist,
        num: c_uint,
        data: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        let lists = Lists { premapped: true, ..one(&sg, num, true) };
        add(vq, &lists, data, ptr::null_mut(), gfp)
    }

    unsafe fn virtqueue_add_inbuf(
        vq: Queue,
        sg: *mut bindings::scatterlist,
        num: c_uint,
        data: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        add(vq, &one(&sg, num, false), data, ptr::null_mut(), gfp)
    }

    unsafe fn virtqueue_add_inbuf_cache_clean(
        vq: Queue,
        sg: *mut bindings::scatterlist,
        num: c_uint,
        data: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        let lists = Lists { attrs: CACHE_CLEAN, ..one(&sg, num, false) };
        add(vq, &lists, data, ptr::null_mut(), gfp)
    }

    unsafe fn virtqueue_add_inbuf_ctx(
        vq: Queue,
        sg: *mut bindings::scatterlist,
        num: c_uint,
        data: *mut c_void,
        ctx: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        add(vq, &one(&sg, num, false), data, ctx, gfp)
    }

    unsafe fn virtqueue_add_inbuf_premapped(
        vq: Queue,
        sg: *mut bindings::scatterlist,
        num: c_uint,
        data: *mut c_void,
        ctx: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> c_int {
        let lists = Lists { premapped: true, ..one(&sg, num, false) };
        add(vq, &lists, data, ctx, gfp)
    }

    unsafe fn virtqueue_dma_dev(vq: Queue) -> *mut bindings::device {
        let mapper = Vring::from_raw(vq).mapper();
        if mapper.uses_api() && mapper.ops().is_none() {
            mapper.dma_dev()
        } else {
            ptr::null_mut()
        }
    }

    unsafe fn virtqueue_kick_prepare(vq: Queue) -> bool {
        Vring::from_raw(vq).kick_prepare()
    }

    unsafe fn virtqueue_notify(vq: Queue) -> bool {
        Vring::from_raw(vq).notify()
    }

    unsafe fn virtqueue_kick(vq: Queue) -> bool {
        let vring = Vring::from_raw(vq);
        if vring.kick_prepare() {
            vring.notify()
        } else {
            true
        }
    }

    unsafe fn virtqueue_get_buf_ctx(
        vq: Queue,
        len: *mut c_uint,
        ctx: *mut *mut c_void,
    ) -> *mut c_void {
        match Vring::from_raw(vq).get() {
            Some((token, written)) => {
                *len = written;
                if !ctx.is_null() {
                    *ctx = token.context;
                }
                token.data.as_ptr()
            }
            None => ptr::null_mut(),
        }
    }

    unsafe fn virtqueue_get_buf(vq: Queue, len: *mut c_uint) -> *mut c_void {
        virtqueue_get_buf_ctx(vq, len, ptr::null_mut())
    }

    unsafe fn virtqueue_disable_cb(vq: Queue) {
        Vring::from_raw(vq).observer().disable_cb();
    }

    unsafe fn virtqueue_enable_cb_prepare(vq: Queue) -> c_uint {
        Vring::from_raw(vq).ring().enable_cb_prepare().into()
    }

    unsafe fn virtqueue_poll(vq: Queue, last_used_idx: c_uint) -> bool {
        Vring::from_raw(vq).observer().poll_token(CbToken::from(last_used_idx))
    }

    unsafe fn virtqueue_enable_cb(vq: Queue) -> bool {
        matches!(Vring::from_raw(vq).ring().enable_cb(), CbState::Armed)
    }

    unsafe fn virtqueue_enable_cb_delayed(vq: Queue) -> bool {
        matches!(Vring::from_raw(vq).ring().enable_cb_delayed(), CbState::Armed)
    }

    unsafe fn virtqueue_detach_unused_buf(vq: Queue) -> *mut c_void {
        match Vring::from_raw(vq).detach() {
            Some(token) => token.data.as_ptr(),
            None => ptr::null_mut(),
        }
    }

    unsafe fn vring_interrupt(_irq: c_int, vq: *mut c_void) -> bindings::irqreturn_t {
        if vring::interrupt(NonNull::new_unchecked(vq.cast())) {
            bindings::irqreturn::IRQ_HANDLED
        } else {
            bindings::irqreturn::IRQ_NONE
        }
    }

    unsafe fn vring_create_virtqueue(
        index: c_uint,
        num: c_uint,
        vring_align: c_uint,
        vdev: *mut bindings::virtio_device,
        weak_barriers: bool,
        may_reduce_num: bool,
        ctx: bool,
        notify: Notify,
        callback: bindings::vq_callback_t,
        name: *const c_char,
    ) -> Queue {
        vring_create_virtqueue_map(
            index,
            num,
            vring_align,
            vdev,
            weak_barriers,
            may_reduce_num,
            ctx,
            notify,
            callback,
            name,
            Mapper::default_token(vdev),
        )
    }

    unsafe fn vring_create_virtqueue_map(
        index: c_uint,
        num: c_uint,
        vring_align: c_uint,
        vdev: *mut bindings::virtio_device,
        weak_barriers: bool,
        may_reduce_num: bool,
        ctx: bool,
        notify: Notify,
        callback: bindings::vq_callback_t,
        name: *const c_char,
        map: bindings::virtio_map,
    ) -> Queue {
        let Some(notify) = notify else {
            return ptr::null_mut();
        };
        let params = Params {
            index,
            size: num,
            align: vring_align,
            weak_barriers,
            may_reduce: may_reduce_num,
            context: ctx,
            notify,
            callback,
            name,
        };
        match vring::create_mapped(vdev, &params, map) {
            Ok(vq) => vq.as_ptr(),
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn vring_new_virtqueue(
        index: c_uint,
        num: c_uint,
        vring_align: c_uint,
        vdev: *mut bindings::virtio_device,
        weak_barriers: bool,
        ctx: bool,
        pages: *mut c_void,
        notify: Notify,
        callback: bindings::vq_callback_t,
        name: *const c_char,
    ) -> Queue {
        let (Some(notify), Some(pages)) = (notify, NonNull::new(pages)) else {
            return ptr::null_mut();
        };
        let params = Params {
            index,
            size: num,
            align: vring_align,
            weak_barriers,
            may_reduce: false,
            context: ctx,
            notify,
            callback,
            name,
        };
        match vring::create_in_place(vdev, &params, pages.cast()) {
            Ok(vq) => vq.as_ptr(),
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn virtqueue_resize(
        vq: Queue,
        num: u32,
        recycle: Recycle,
        recycle_done: RecycleDone,
    ) -> c_int {
        restart(vq, Some(num), recycle, recycle_done)
    }

    unsafe fn virtqueue_reset(
        vq: Queue,
        recycle: Recycle,
        recycle_done: RecycleDone,
    ) -> c_int {
        restart(vq, None, recycle, recycle_done)
    }

    unsafe fn vring_del_virtqueue(vq: Queue) {
        vring::delete(NonNull::new_unchecked(vq));
    }

    unsafe fn vring_notification_data(vq: Queue) -> u32 {
        vring::notification_data(NonNull::new_unchecked(vq))
    }

    unsafe fn vring_transport_features(vdev: *mut bindings::virtio_device) {
        let accepted = vring::accepted_transport_features(mapper::features(vdev));
        (*vdev).__bindgen_anon_1.features_array = accepted.to_u64s();
    }

    unsafe fn virtqueue_get_vring_size(vq: *const bindings::virtqueue) -> c_uint {
        vring::size(NonNull::new_unchecked(vq.cast_mut()))
    }

    unsafe fn __virtqueue_break(vq: Queue) {
        Vring::from_raw(vq).shared().break_ring();
    }

    unsafe fn __virtqueue_unbreak(vq: Queue) {
        Vring::from_raw(vq).shared().unbreak();
    }

    unsafe fn virtqueue_is_broken(vq: *const bindings::virtqueue) -> bool {
        Vring::from_raw(vq).shared().is_broken()
    }

    unsafe fn virtio_break_device(vdev: *mut bindings::virtio_device) {
        vring::for_each(vdev, |vring| vring.shared().break_ring());
    }

    unsafe fn __virtio_unbreak_device(vdev: *mut bindings::virtio_device) {
        vring::for_each(vdev, |vring| vring.shared().unbreak());
    }

    unsafe fn virtqueue_get_desc_addr(vq: *const bindings::virtqueue) -> bindings::dma_addr_t {
        vring::addresses(NonNull::new_unchecked(vq.cast_mut())).desc
    }

    unsafe fn virtqueue_get_avail_addr(vq: *const bindings::virtqueue) -> bindings::dma_addr_t {
        vring::addresses(NonNull::new_unchecked(vq.cast_mut())).driver
    }

    unsafe fn virtqueue_get_used_addr(vq: *const bindings::virtqueue) -> bindings::dma_addr_t {
        vring::addresses(NonNull::new_unchecked(vq.cast_mut())).device
    }

    unsafe fn virtqueue_get_vring(vq: *const bindings::virtqueue) -> *const bindings::vring {
        Vring::from_raw(vq).view()
    }

    unsafe fn virtio_max_dma_size(vdev: *const bindings::virtio_device) -> usize {
        Mapper::max_size(vdev)
    }

    unsafe fn virtqueue_map_alloc_coherent(
        vdev: *mut bindings::virtio_device,
        map: bindings::virtio_map,
        size: usize,
        map_handle: *mut bindings::dma_addr_t,
        gfp: bindings::gfp_t,
    ) -> *mut c_void {
        match (*vdev).map.as_ref() {
            Some(ops) => match ops.alloc {
                Some(alloc) => alloc(map, size, map_handle, gfp),
                None => ptr::null_mut(),
            },
            None => bindings::dma_alloc_attrs(map.dma_dev, size, map_handle, gfp, 0),
        }
    }

    unsafe fn virtqueue_map_free_coherent(
        vdev: *mut bindings::virtio_device,
        map: bindings::virtio_map,
        size: usize,
        vaddr: *mut c_void,
        map_handle: bindings::dma_addr_t,
    ) {
        match (*vdev).map.as_ref() {
            Some(ops) => {
                if let Some(free) = ops.free {
                    free(map, size, vaddr, map_handle, 0);
                }
            }
            None => bindings::dma_free_attrs(map.dma_dev, size, vaddr, map_handle, 0),
        }
    }

    unsafe fn virtqueue_map_page_attrs(
        vq: *const bindings::virtqueue,
        page: *mut bindings::page,
        offset: c_ulong,
        size: usize,
        dir: bindings::dma_data_direction,
        attrs: c_ulong,
    ) -> bindings::dma_addr_t {
        let mapper = Vring::from_raw(vq).mapper();
        match mapper.ops() {
            Some(ops) => match ops.map_page {
                Some(map) => map(mapper.token(), page, offset, size, dir, attrs),
                None => bindings::dma_addr_t::MAX,
            },
            None => bindings::dma_map_page_attrs(mapper.dma_dev(), page, offset, size, dir, attrs),
        }
    }

    unsafe fn virtqueue_unmap_page_attrs(
        vq: *const bindings::virtqueue,
        map_handle: bindings::dma_addr_t,
        size: usize,
        dir: bindings::dma_data_direction,
        attrs: c_ulong,
    ) {
        let mapper = Vring::from_raw(vq).mapper();
        match mapper.ops() {
            Some(ops) => {
                if let Some(unmap) = ops.unmap_page {
                    unmap(mapper.token(), map_handle, size, dir, attrs);
                }
            }
            None => bindings::dma_unmap_page_attrs(mapper.dma_dev(), map_handle, size, dir, attrs),
        }
    }

    unsafe fn virtqueue_map_single_attrs(
        vq: *const bindings::virtqueue,
        memory: *mut c_void,
        size: usize,
        dir: bindings::dma_data_direction,
        attrs: c_ulong,
    ) -> bindings::dma_addr_t {
        let mapper = Vring::from_raw(vq).mapper();
        if !mapper.uses_api() {
            let address = bindings::virtio_virt_to_phys(memory);
            bindings::virtio_kmsan_handle_dma(address, size, dir);
            return address;
        }
        if bindings::virtio_is_vmalloc_addr(memory) {
            kernel::do_once_lite! { dev_warn!(
                Vring::from_raw(vq).as_device(),
                "rejecting DMA map of vmalloc memory\n"
            ) }
            return bindings::dma_addr_t::MAX;
        }
        let offset = memory.addr() & (bindings::PAGE_SIZE - 1);
        virtqueue_map_page_attrs(vq, bindings::virtio_virt_to_page(memory), offset, size, dir, attrs)
    }

    unsafe fn virtqueue_unmap_single_attrs(
        vq: *const bindings::virtqueue,
        addr: bindings::dma_addr_t,
        size: usize,
        dir: bindings::dma_data_direction,
        attrs: c_ulong,
    ) {
        if Vring::from_raw(vq).mapper().uses_api() {
            virtqueue_unmap_page_attrs(vq, addr, size, dir, attrs);
        }
    }

    unsafe fn virtqueue_map_mapping_error(
        vq: *const bindings::virtqueue,
        addr: bindings::dma_addr_t,
    ) -> c_int {
        let mapper = Vring::from_raw(vq).mapper();
        if !mapper.uses_api() {
            return 0;
        }
        match mapper.ops() {
            Some(ops) => ops.mapping_error.map_or(0, |failed| failed(mapper.token(), addr)),
            None => bindings::virtio_dma_mapping_error(mapper.dma_dev(), addr),
        }
    }

    unsafe fn virtqueue_map_need_sync(
        vq: *const bindings::virtqueue,
        addr: bindings::dma_addr_t,
    ) -> bool {
        let mapper = Vring::from_raw(vq).mapper();
        if !mapper.uses_api() {
            return false;
        }
        match mapper.ops() {
            Some(ops) => ops.need_sync.is_some_and(|need| need(mapper.token(), addr)),
            None => bindings::virtio_dma_need_sync(mapper.dma_dev(), addr),
        }
    }

    unsafe fn virtqueue_map_sync_single_range_for_cpu(
        vq: *const bindings::virtqueue,
        addr: bindings::dma_addr_t,
        offset: c_ulong,
        size: usize,
        dir: bindings::dma_data_direction,
    ) {
        let mapper = Vring::from_raw(vq).mapper();
        if !mapper.uses_api() {
            return;
        }
        match mapper.ops() {
            Some(ops) => {
                if let Some(sync) = ops.sync_single_for_cpu {
                    sync(mapper.token(), addr + offset as u64, size, dir);
                }
            }
            None => bindings::virtio_dma_sync_for_cpu(mapper.dma_dev(), addr, offset, size, dir),
        }
    }

    unsafe fn virtqueue_map_sync_single_range_for_device(
        vq: *const bindings::virtqueue,
        addr: bindings::dma_addr_t,
        offset: c_ulong,
        size: usize,
        dir: bindings::dma_data_direction,
    ) {
        let mapper = Vring::from_raw(vq).mapper();
        if !mapper.uses_api() {
            return;
        }
        match mapper.ops() {
            Some(ops) => {
                if let Some(sync) = ops.sync_single_for_device {
                    sync(mapper.token(), addr + offset as u64, size, dir);
                }
            }
            None => bindings::virtio_dma_sync_for_device(mapper.dma_dev(), addr, offset, size, dir),
        }
    }
}

/// Resets one queue, and gives what is in it back.
///
/// # Safety
///
/// C's contract of `virtqueue_resize`.
unsafe fn restart(
    vq: Queue,
    size: Option<u32>,
    recycle: Recycle,
    recycle_done: RecycleDone,
) -> c_int {
    let give_back = |vring: &Vring| {
        // SAFETY: By the contract; the device has the buffers no more.
        unsafe {
            while let Some(token) = vring.detach() {
                if let Some(recycle) = recycle {
                    recycle(vq, token.data.as_ptr());
                }
            }
            if let Some(done) = recycle_done {
                done(vq);
            }
        }
    };
    // SAFETY: By the contract.
    let result = unsafe { crate::restart::restart(NonNull::new_unchecked(vq), size, give_back) };
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
