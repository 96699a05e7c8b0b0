// SPDX-License-Identifier: GPL-2.0

//! Bindings to the kernel headers that `kernel::bindings` does not cover.

#![allow(
    clippy::all,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clashing_extern_declarations,
    unnecessary_transmutes
)]

#[allow(dead_code)]
#[allow(clippy::as_underscore)]
#[allow(clippy::cast_lossless)]
#[allow(clippy::ptr_as_ptr)]
#[allow(clippy::ref_as_ptr)]
#[allow(clippy::undocumented_unsafe_blocks)]
mod raw {
    use kernel::ffi;
    #[allow(unused_imports)]
    use pin_init::{MaybeZeroable, Zeroable};

    // What is not defined below is the kernel crate's: one type, not two.
    pub use kernel::bindings::*;

    pub use super::helpers::*;

    type __kernel_size_t = usize;
    type __kernel_ssize_t = isize;
    type __kernel_ptrdiff_t = isize;

    include!(concat!(
        env!("VIRTIO_OBJTREE"),
        "/rust/bindings/bindings_generated.rs"
    ));
}

#[allow(dead_code)]
mod helpers {
    use super::raw::*;
    use kernel::ffi;
    include!(concat!(
        env!("VIRTIO_OBJTREE"),
        "/rust/bindings/bindings_helpers_generated.rs"
    ));
}

pub use raw::*;
