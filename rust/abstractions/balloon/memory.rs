// SPDX-License-Identifier: GPL-2.0

//! What the kernel knows of its memory.
//!
//! C: `update_balloon_stats`, `virtballoon_validate` in `drivers/virtio/virtio_balloon.c`.

use virtio_bindings as bindings;
use virtio_spec::balloon::{
    stats::{
        Events,
        Sample, //
    },
    target::Memory,
    FreePages, //
};

fn sysinfo() -> bindings::sysinfo {
    let mut info = bindings::sysinfo::default();
    // SAFETY: Filled in.
    unsafe { bindings::si_meminfo(&mut info) };
    info
}

fn available() -> u64 {
    // SAFETY: No preconditions.
    let available = unsafe { bindings::si_mem_available() };
    u64::try_from(available).unwrap_or(0)
}

/// The memory of the guest, of which `taken` pages are not counted any more.
pub fn memory(taken: u64) -> Memory {
    // SAFETY: No preconditions.
    let (total, swap) = unsafe {
        (
            bindings::virtio_totalram_pages(),
            bindings::virtio_get_nr_swap_pages(),
        )
    };
    Memory {
        total: (total as u64).saturating_add(taken),
        available: available(),
        free_swap: u64::try_from(swap).unwrap_or(0),
    }
}

/// The numbers that a device may ask for.
pub fn sample() -> Sample {
    let info = sysinfo();
    let mut counts = [0_u64; 12];
    // SAFETY: Room for all of them.
    let counted = unsafe { bindings::virtio_vm_events(counts.as_mut_ptr()) };
    let [swap_in, swap_out, major_faults, faults, oom_kills, alloc_stalls, async_scans, direct_scans, async_reclaims, direct_reclaims, allocations, failures] =
        counts;
    Sample {
        events: counted.then_some(Events {
            swap_in,
            swap_out,
            major_faults,
            faults,
            oom_kills,
            alloc_stalls,
            async_scans,
            direct_scans,
            async_reclaims,
            direct_reclaims,
            hugetlb: cfg!(CONFIG_HUGETLB_PAGE).then_some((allocations, failures)),
        }),
        free: info.freeram as u64,
        total: info.totalram as u64,
        available: available(),
        // SAFETY: No preconditions.
        caches: unsafe { bindings::virtio_file_pages() } as u64,
    }
}

/// What the kernel does with pages that it frees.
pub fn free_pages() -> FreePages {
    // SAFETY: No preconditions.
    unsafe {
        if bindings::virtio_want_init_on_free() {
            FreePages::Zeroed
        } else if bindings::virtio_page_poisoning_enabled() {
            FreePages::Poisoned
        } else {
            FreePages::AsTheyAre
        }
    }
}
