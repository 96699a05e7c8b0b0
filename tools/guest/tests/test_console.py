# SPDX-License-Identifier: GPL-2.0
"""What counts as a sick guest, and what does not."""

import unittest

from guest.console import device_error, died_of_qemu, leaks, never_began, scan, stale_breakpoint

SICK = (
    "[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "[    1.0] BUG: KASAN: slab-use-after-free in virtqueue_add+0x1/0x2 [virtio_ring]",
    "[    1.0] kernel BUG at drivers/block/virtio_blk.c:1129!",
    "[    1.0] Oops: general protection fault, probably for non-canonical address",
    "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/dma/debug.c:1000 check_unmap+0x1/0x2",
    "[    1.0] UBSAN: array-index-out-of-bounds in drivers/net/virtio_net.c:1:2",
    "[    1.0] WARNING: possible circular locking dependency detected",
    "[    1.0] WARNING: inconsistent lock state",
    "[    1.0] INFO: task sh:42 blocked for more than 30 seconds.",
    "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:42]",
    "[    1.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
    "[    1.0] DMA-API: virtio-pci 0000:00:01.0: device driver frees DMA memory with different size",
    "[    1.0] ODEBUG: free active (active state 0) object: 00000000 object type: timer_list",
    "[    1.0] refcount_t: underflow; use-after-free.",
    "[    1.0] rust_kernel: panicked at drivers/virtio_rng.rs:1:2: explicit panic",
    "[    1.0] Kernel panic - not syncing: Attempted to kill init!",
)

HEALTHY = (
    "[    1.0] kasan: KernelAddressSanitizer initialized (generic)",
    "[    1.0] DMA-API: preallocated 65536 debug entries",
    "[    1.0] DMA-API: debugging enabled by kernel config",
    "[    1.0] rcu: \tRCU CPU stall warnings suppressed (rcu_cpu_stall_suppress).",
    "[    1.0] virtio_blk virtio1: [vda] 131072 512-byte logical blocks (67.1 MB/64.0 MiB)",
    "[    1.0] FAULT_INJECTION: forcing a failure.",
)

LEAK = """\
unreferenced object 0xff11000001234500 (size 64):
  comm "modprobe", pid 80, jiffies 4294900000
  backtrace (crc 0):
    kmemleak_alloc+0x1/0x2
    vring_create+0x1/0x2 [virtio_ring]
    do_one_initcall+0x1/0x2
unreferenced object 0xff11000001234600 (size 32):
  backtrace (crc 0):
    acpi_ns_create+0x1/0x2
"""


STALE = """[    0.978299] Oops: int3: 0000 [#1] SMP
[    0.980726] CPU: 0 UID: 0 PID: 11 Comm: kworker/0:1 Not tainted 7.3.4 #1 PREEMPTLAZY
[    0.981204] Modules linked in:
[    0.981204] Kernel panic - not syncing: Fatal exception in interrupt
"""


ASSERTION = """\
qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: Assertion `section_index < d->map.sections_nb' failed.
"""


class Splats(unittest.TestCase):
    def test_stale_breakpoint(self) -> None:
        self.assertTrue(stale_breakpoint(STALE))
        self.assertFalse(stale_breakpoint(STALE.replace("linked in:", "linked in: virtio_ring(O)")))
        self.assertFalse(stale_breakpoint(STALE.replace("Not tainted", "Tainted: G O")))
        self.assertFalse(stale_breakpoint(STALE.replace("int3", "general protection fault")))
        self.assertFalse(stale_breakpoint("[    0.1] WARNING: something\n" + STALE))
        self.assertFalse(stale_breakpoint(""))

    def test_never_began(self) -> None:
        asleep = "[   64.5] INFO: task swapper/0:1 blocked for more than 32 seconds.\n"
        self.assertTrue(never_began("[    0.02] tsc: Unable to calibrate against PIT\n" + asleep))
        self.assertFalse(never_began("[    1.0] virtio_ring: loading out-of-tree module\n" + asleep))
        self.assertFalse(never_began("[   64.5] INFO: task sh:42 blocked for more than 32 seconds.\n" + asleep))
        self.assertFalse(never_began(""))

    def test_died_of_qemu(self) -> None:
        early = "[    0.024000] tsc: Unable to calibrate against PIT\n"
        self.assertTrue(died_of_qemu(early, ASSERTION))
        self.assertFalse(died_of_qemu(early, ""))
        self.assertFalse(died_of_qemu(early, "qemu-system-x86_64: virtio: zero sized buffers are not allowed\n"))
        late = early + "[    3.1] virtio_ring: loading out-of-tree module\n"
        self.assertTrue(died_of_qemu(late, ASSERTION))
        other = "qemu-system-x86_64: ../hw/virtio/virtio.c:9: virtio_reset: Assertion `!vdev->started' failed.\n"
        self.assertTrue(died_of_qemu(early, other))
        self.assertFalse(died_of_qemu(late, other))

    def test_sick(self) -> None:
        for line in SICK:
            with self.subTest(line):
                self.assertIsNotNone(scan(f"booted\n{line}\n", []))

    def test_healthy(self) -> None:
        self.assertIsNone(scan("\n".join(HEALTHY), []))

    def test_allow(self) -> None:
        self.assertIsNone(scan(SICK[0], ["NULL pointer"]))
        self.assertIsNotNone(scan("\n".join(SICK[:2]), ["NULL pointer"]))

    def test_leak_of_ours(self) -> None:
        self.assertIsNotNone(leaks(LEAK, {"virtio_ring"}))

    def test_leak_of_others(self) -> None:
        self.assertIsNone(leaks(LEAK, {"virtio_net"}))

    def test_device_error(self) -> None:
        self.assertIsNotNone(device_error("qemu-system-x86_64: virtio: zero sized buffers are not allowed\n", []))
        self.assertIsNone(device_error("qemu-system-x86_64: warning: something\n", []))


if __name__ == "__main__":
    unittest.main()
