# SPDX-License-Identifier: GPL-2.0
"""From the plugin's file and QEMU's log to sums."""

import unittest

from bench import counts
from bench.symbols import KERNEL, Symbol, Table, demangled, parse

BASE = 0xFFFFFFFF81000000
MODULE = 0xFFFFFFFFA0000000

TABLE = Table(
    [
        Symbol(BASE, "__kmalloc_noprof"),
        Symbol(BASE + 0x100, "_RNvCs1_6kernel5print"),
        Symbol(MODULE, "virtqueue_add", "virtio_ring"),
        Symbol(MODULE + 0x40, "virtqueue_get_buf", "virtio_ring"),
        Symbol(MODULE + 0x1000, "virtblk_done", "virtio_blk"),
    ]
)


def plugin(*blocks: tuple[int, int, int, int]) -> list[str]:
    return ["region 0\n", *(f"{address:x} {size} {entries} {rep}\n" for address, size, entries, rep in blocks)]


class Counting(unittest.TestCase):
    def test_blocks_are_summed_by_the_function_they_are_in(self) -> None:
        lines = plugin(
            (MODULE, 5, 10, 0), (MODULE + 0x20, 2, 10, 0), (MODULE + 0x40, 3, 4, 0), (MODULE + 0x1010, 7, 1, 0)
        )
        (one,) = counts.regions(lines, TABLE)
        self.assertEqual(one.instructions["virtio_ring", "virtqueue_add"], 70)
        driver = frozenset({"virtio_blk"})
        self.assertEqual(one.group("ring", driver), 82)
        self.assertEqual(one.group("driver", driver), 7)
        self.assertEqual(one.group("driver", frozenset()), 0)

    def test_a_call_is_an_entry_at_the_first_instruction(self) -> None:
        (one,) = counts.regions(plugin((BASE, 4, 3, 0), (BASE + 8, 4, 9, 0)), TABLE)
        self.assertEqual(one.calls("alloc"), 3)
        self.assertEqual(one.calls("lock"), 0)

    def test_iterations_are_no_instructions(self) -> None:
        (one,) = counts.regions(plugin((BASE, 1, 4096, 1), (BASE, 4, 1, 0)), TABLE)
        self.assertEqual((one.total(), one.rep), (4, 4096))

    def test_user_space_counts_only_in_the_total(self) -> None:
        (one,) = counts.regions(plugin((0, 1, 50, 0), (BASE + 0x100, 2, 3, 0)), TABLE)
        self.assertEqual((one.total(), one.rust_in_kernel()), (56, 6))

    def test_regions_are_apart(self) -> None:
        two = list(counts.regions([*plugin((MODULE, 1, 1, 0)), *plugin((MODULE, 1, 5, 0))], TABLE))
        self.assertEqual([one.total() for one in two], [1, 5])

    def test_a_torn_file_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            list(counts.regions(["region 0\n", "ffffffff81000000 5\n"], TABLE))


class Log(unittest.TestCase):
    def test_only_events_between_markers_count(self) -> None:
        log = """virtio_queue_notify vdev 0x1 n 0 vq 0x2
bench_region begin 0
virtio_queue_notify vdev 0x1 n 0 vq 0x2
virtio_queue_notify vdev 0x1 n 0 vq 0x2
virtio_notify vdev 0x1 vq 0x2
other line
bench_region end 0
virtio_notify vdev 0x1 vq 0x2
bench_region begin 1
bench_region end 1
""".splitlines()
        events = {"virtio_queue_notify": "kicks", "virtio_notify": "interrupts"}
        found = list(counts.log_counts(log, events))
        self.assertEqual([dict(one) for one in found], [{"kicks": 2, "interrupts": 1}, {}])


class Symbols(unittest.TestCase):
    def test_functions_only(self) -> None:
        lines = [
            "ffffffffa0000000 t virtqueue_add\t[virtio_ring]\n",
            "ffffffffa0000000 t __pfx_virtqueue_add\t[virtio_ring]\n",
            "ffffffffa0002000 d state\t[virtio_ring]\n",
            "0000000000001000 T percpu\n",
            "ffffffff81000000 T _text\n",
        ]
        found = [(symbol.name, symbol.module) for symbol in parse(lines)]
        self.assertEqual(found, [("_text", KERNEL), ("virtqueue_add", "virtio_ring")])

    def test_rust_names_are_readable(self) -> None:
        name = "_RNvMsd_NtCsgrDl55WC7db_11virtio_ring3addNtB5_5Lists7segment"
        self.assertEqual(demangled([name])[name], "<virtio_ring::add::Lists>::segment")
        self.assertEqual(demangled([]), {})


if __name__ == "__main__":
    unittest.main()
